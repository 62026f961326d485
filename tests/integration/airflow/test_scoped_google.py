"""Google credentials of connections: keys, chains of impersonation, workload identity, and tokens bound to a bucket.

google-auth asks real servers of a few lines; where it has no setting for their address, its constant is changed.
"""

# ruff: noqa: TID253  # test code is never parsed as a DAG
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import google.auth.downscoped
import google.auth.iam
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from airflow_provider_skyplane.hooks import gcp
from airflow_provider_skyplane.hooks.scopes import Scope, gcs_boundary
from airflow_provider_skyplane.hooks.skyplane import SkyplaneHook
from skyplane_core.spec import TransferOptions
from tests.servers.airflow_logging import a_logger_heard_by
from tests.servers.token_services import Asked, TokenServer, token_server

SECRET = "canary-control-secret-0123456789abcdef"
EXPIRY = "2099-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def private_key() -> str:
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.private_bytes(*form).decode()


class Google:
    """OAuth, IAM credentials and STS. ``refuses`` names a path that is refused."""

    def __init__(self) -> None:
        self.refuses = ""

    def answer(self, asked: Asked) -> tuple[int, Any]:
        if self.refuses and self.refuses in asked.path:
            return 403, {"error": "access_denied", "error_description": "not here"}
        if asked.path == "/token":
            return 200, {"access_token": "canary-own", "expires_in": 3600, "token_type": "Bearer"}
        if asked.path.endswith(":generateAccessToken"):
            return 200, {"accessToken": "canary-impersonated", "expireTime": EXPIRY}
        bound = "options" in asked.fields
        token = {"access_token": "canary-bound" if bound else "canary-federated", "token_type": "Bearer"}
        return 200, {**token, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "expires_in": 3000}


@pytest.fixture
def google_cloud() -> Google:
    return Google()


@pytest.fixture
def server(google_cloud: Google, monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServer]:
    with token_server(google_cloud.answer) as serving:
        monkeypatch.setattr(google.auth.iam, "_IAM_ENDPOINT", f"{serving.url}/iam/{{}}:generateAccessToken")
        monkeypatch.setattr(google.auth.downscoped, "_STS_TOKEN_URL_PATTERN", f"{serving.url}/sts?{{}}")
        yield serving


def key(server: TokenServer, private_key: str) -> dict[str, str]:
    return {
        "type": "service_account",
        "client_email": "airflow@project.iam.gserviceaccount.com",
        "private_key": private_key,
        "private_key_id": "1",
        "project_id": "project",
        "token_uri": f"{server.url}/token",
    }


def connect(monkeypatch: pytest.MonkeyPatch, scoped: str = "auto", **extra: Any) -> SkyplaneHook:
    described = {"conn_type": "google_cloud_platform", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(described))
    sky = {"conn_type": "skyplane", "password": SECRET, "extra": {"scoped_credentials": scoped}}
    monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", json.dumps(sky))
    return SkyplaneHook()


def token(hook: SkyplaneHook, **how: Any) -> str:
    return hook.place("gs://bucket/in/", **how).store.credentials.token


def rules(asked: Asked) -> list[tuple[str, list[str]]]:
    """Those of the boundary that a token is to be bound to."""
    told = json.loads(unquote(asked.fields["options"]))["accessBoundary"]["accessBoundaryRules"]
    return [(rule["availableResource"], rule["availablePermissions"]) for rule in told]


def test_a_key_gives_its_own_token_unless_a_bound_one_is_asked_for(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch, private_key: str
) -> None:
    keyfile = json.dumps(key(server, private_key))
    assert token(connect(monkeypatch, keyfile_dict=keyfile)) == "canary-own"
    assert [asked.path for asked in server.asked] == ["/token"]
    made = connect(monkeypatch, "always", keyfile_dict=keyfile)
    store = made.place("gs://bucket/in/", directory=True, written=True, copies_from="gs://src/x").store
    assert store.credentials.token == "canary-bound"
    assert store.credentials.expires_at is not None
    asked = server.asked[-1]
    assert (asked.path, asked.fields["subject_token"]) == ("/sts", "canary-own")
    assert rules(asked) == gcs_boundary(Scope("bucket", "in/", writes=True, copies_from="src"))


@pytest.mark.parametrize("moves", [False, True])
def test_who_moves_may_delete_at_the_source(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch, private_key: str, *, moves: bool
) -> None:
    made = connect(monkeypatch, "always", keyfile_dict=key(server, private_key))
    request = made.request("gs://src/in/", "gs://dst/out/", options=TransferOptions(move=moves))
    for end, expected in (
        (request.source, Scope("src", "in/", moves=moves)),
        (request.destination, Scope("dst", "out/", writes=True, copies_from="src")),
    ):
        end()
        assert rules(server.asked[-1]) == gcs_boundary(expected)


def test_whoever_pays_or_emulates_gets_no_bound_token(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch, private_key: str
) -> None:
    from skyplane_core.store_options import StoreOptions

    made = connect(monkeypatch, "always", keyfile_dict=key(server, private_key))
    assert token(made, options=StoreOptions(requester_pays=True, project="p")) == "canary-own"
    assert token(made, options=StoreOptions(endpoint_url="http://127.0.0.1:9")) == "canary-own"
    assert token(connect(monkeypatch, "always", is_anonymous=True)) == ""


def test_a_refusal_leaves_the_connections_own(
    server: TokenServer,
    google_cloud: Google,
    monkeypatch: pytest.MonkeyPatch,
    private_key: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(gcp, "log", a_logger_heard_by(caplog))
    google_cloud.refuses = "/sts"
    assert token(connect(monkeypatch, "always", keyfile_dict=key(server, private_key))) == "canary-own"
    assert "Credentials for gs://bucket are not narrowed, the connection's own are used" in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.parametrize("with_provider", [True, False])
def test_a_chain_of_impersonation(
    server: TokenServer, monkeypatch: pytest.MonkeyPatch, private_key: str, *, with_provider: bool
) -> None:
    if not with_provider:
        find = gcp.importlib.util.find_spec
        monkeypatch.setattr(
            gcp.importlib.util,
            "find_spec",
            lambda name, *a: None if name == "airflow.providers.google" else find(name, *a),
        )
    chain = ["first@p.iam.gserviceaccount.com", "last@p.iam.gserviceaccount.com"]
    made = connect(monkeypatch, "always", keyfile_dict=json.dumps(key(server, private_key)))
    assert token(made, impersonation_chain=chain) == "canary-bound"
    asked = next(asked for asked in server.asked if "generateAccessToken" in asked.path)
    assert asked.path == f"/iam/{chain[1]}:generateAccessToken"
    assert asked.headers["authorization"] == "Bearer canary-own"
    assert [name.rpartition("/")[2] for name in json.loads(asked.body)["delegates"]] == chain[:1]
    assert server.asked[-1].fields["subject_token"] == "canary-impersonated"


# The Google provider's own way of reading it.
@pytest.mark.filterwarnings("ignore:The load_credentials_from_file method is deprecated:DeprecationWarning")
def test_a_workload_identity(server: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("canary-of-the-cluster")
    config = {
        "type": "external_account",
        # With the number of a project in it, Google would be asked for the project's name.
        "audience": "//iam.googleapis.com/locations/global/workforcePools/p/providers/k",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{server.url}/sts-federated",
        "credential_source": {"file": str(tmp_path / "token")},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    made = connect(monkeypatch, credential_config_file=str(tmp_path / "config.json"), project="project")
    assert token(made) == "canary-federated"
    assert {asked.fields.get("subject_token") for asked in server.asked} >= {"canary-of-the-cluster"}
