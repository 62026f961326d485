"""Azure credentials of connections: a managed identity, and signatures for a container instead of a key or a token."""

# ruff: noqa: TID253  # test code is never parsed as a DAG
from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from azure.storage.blob import BlobServiceClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_provider_skyplane.hooks import azure_scope
from airflow_provider_skyplane.hooks.azure_scope import container_sas
from airflow_provider_skyplane.hooks.scopes import Scope
from airflow_provider_skyplane.hooks.skyplane import SkyplaneHook
from skyplane_core.errors import PermissionDenied
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.stores.registry import open_store
from skyplane_core.stores.whole import get_bytes, put_bytes
from tests.servers import azurite
from tests.servers.airflow_logging import a_logger_heard_by
from tests.servers.token_services import Asked, token_server

KEY = base64.b64encode(b"canary-key-of-the-account").decode()
SECRET = "canary-control-secret-0123456789abcdef"


def connect(monkeypatch: pytest.MonkeyPatch, scoped: str, **fields: Any) -> SkyplaneHook:
    monkeypatch.setenv("AIRFLOW_CONN_WASB_DEFAULT", json.dumps({"conn_type": "wasb", **fields}))
    sky = {"conn_type": "skyplane", "password": SECRET, "extra": {"scoped_credentials": scoped}}
    monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", json.dumps(sky))
    return SkyplaneHook()


def signed(store: StoreConfig) -> dict[str, str]:
    assert (store.credentials.secret_key, store.credentials.token) == ("", "")
    return {name: values[0] for name, values in parse_qs(store.credentials.sas).items()}


def test_a_key_signs_for_one_container_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"login": "account1", "password": KEY}
    for mode in ("auto", "never"):
        assert connect(monkeypatch, mode, **fields).place("az://account1/box/k").store.credentials.secret_key == KEY
    made = connect(monkeypatch, "always", **fields)
    reads = made.place("az://account1/box/k").store
    assert {name: signed(reads)[name] for name in ("sp", "sr", "spr")} == {"sp": "rl", "sr": "c", "spr": "https"}
    assert reads.credentials.expires_at == pytest.approx(time.time() + 12 * 3600, abs=60)
    writes = made.place("az://account1/box/in/", written=True).store
    assert set(signed(writes)["sp"]) == set("rcwdl")
    own = "sv=2026-02-06&sp=rl&sig=abc%3D"
    given = connect(monkeypatch, "always", login="account1", extra={"sas_token": own}).place("az://account1/box/k")
    assert given.store.credentials.sas == own


def test_a_signature_is_good_for_its_end_alone(tmp_path: Path) -> None:
    with azurite.running(tmp_path) as url:
        with BlobServiceClient(f"{url}/{azurite.ACCOUNT}", credential=azurite.KEY) as service:
            service.create_container("box")
            service.get_blob_client("box", "a").upload_blob(b"body")
        own = Credentials(access_key=azurite.ACCOUNT, secret_key=azurite.KEY)
        config = StoreConfig("azure", f"{azurite.ACCOUNT}/box", url, credentials=own)
        reading = open_store(container_sas(config, Scope(config.bucket)))
        writing = open_store(container_sas(config, Scope(config.bucket, writes=True)))
        try:
            assert get_bytes(reading, "a") == b"body"
            assert [info.key for info in reading.list()] == ["a"]
            with pytest.raises(PermissionDenied):
                put_bytes(reading, "b", b"new")
            put_bytes(writing, "b", b"new")
            assert get_bytes(writing, "b") == b"new"
            writing.delete("b")
        finally:
            reading.close()
            writing.close()


def test_a_managed_identity_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(asked: Asked) -> tuple[int, Any]:
        expires = str(int(time.time()) + 3600)
        return 200, {"access_token": "canary-token", "expires_on": expires, "resource": asked.fields["resource"]}

    with token_server(answer) as server:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{server.url}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", "canary-header")
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "managedidentitycredential")
        extra = {"managed_identity_client_id": "client-1"}
        store = connect(monkeypatch, "auto", login="account1", extra=extra).place("az://account1/box/k").store
        assert store.credentials.token == "canary-token"
        assert store.credentials.expires_at is not None
        asked = server.asked[-1]
        assert asked.fields["client_id"] == "client-1"
        assert asked.headers["x-identity-header"] == "canary-header"


def certificate(directory: Path) -> Path:
    """A self-signed certificate of 127.0.0.1 and its key, in one file."""
    made = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(tz=datetime.timezone.utc)
    signed_by_itself = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(made.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(made, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = directory / "certificate.pem"
    path.write_bytes(signed_by_itself.public_bytes(serialization.Encoding.PEM) + made.private_bytes(*form))
    return path


DELEGATION = f"""<?xml version="1.0" encoding="utf-8"?><UserDelegationKey>
<SignedOid>oid</SignedOid><SignedTid>tid</SignedTid><SignedStart>2026-01-01T00:00:00Z</SignedStart>
<SignedExpiry>2099-01-01T00:00:00Z</SignedExpiry><SignedService>b</SignedService><SignedVersion>2023-11-03</SignedVersion>
<Value>{KEY}</Value></UserDelegationKey>""".encode()
REFUSAL = b'<?xml version="1.0"?><Error><Code>AuthorizationPermissionMismatch</Code><Message>no</Message></Error>'


def test_a_token_is_exchanged_for_a_signature_in_its_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure_scope, "log", a_logger_heard_by(caplog))
    refused = False

    def answer(_asked: Asked) -> tuple[int, Any]:
        return (403, REFUSAL) if refused else (200, DELEGATION)

    path = certificate(tmp_path)
    with token_server(answer, certificate=path) as server:
        token = Credentials(token="canary-token", expires_at=time.time() + 3600)
        config = StoreConfig("azure", "account1/box", server.url, verify=str(path), credentials=token)
        found = signed(container_sas(config, Scope("account1/box", writes=True)))
        assert (found["skoid"], found["sr"]) == ("oid", "c")
        assert set(found["sp"]) == set("rcwdl")
        asked = server.asked[-1]
        assert (asked.path, asked.fields["comp"]) == ("/account1/", "userdelegationkey")
        assert asked.headers["authorization"] == "Bearer canary-token"
        refused = True
        assert container_sas(config, Scope("account1/box")).credentials == token
    assert "Credentials for az://account1/box are not narrowed, the connection's own are used" in caplog.text
    assert "canary" not in caplog.text
