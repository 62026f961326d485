"""An environment's credentials for an account; token servers are real ones on loopback."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from skyplane_core.errors import StoreUnavailable, UsageError
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.stores.azure_auth import from_connection_string, resolve, sas_token
from skyplane_core.stores.deadline import bounded

KEY = base64.b64encode(b"key of account one").decode()
SAS = "sv=2026-02-06&se=2027-01-02T03:04:05Z&sp=rl&sig=abc%3D"


class Identity(http.server.ThreadingHTTPServer):
    """A managed identity's endpoint, as an app service has it."""

    daemon_threads = True
    status = 200
    asked: list[str]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked = []


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Identity

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.path} {self.headers['X-IDENTITY-HEADER']}")
        body = {"access_token": "a-token", "expires_on": "1900000000", "resource": "r", "token_type": "Bearer"}
        content = json.dumps(body if self.server.status == 200 else {"error": "invalid"}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Iterator[Identity]:
    server = Identity()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{server.server_port}/msi")
    monkeypatch.setenv("IDENTITY_HEADER", "a-header")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_managed_identity_gives_a_token_with_its_expiry(identity: Identity) -> None:
    found = resolve("account1/box")
    assert found == StoreConfig("azure", "account1/box", credentials=Credentials(token="a-token", expires_at=1.9e9))
    assert "storage.azure.com" in identity.asked[0]
    assert identity.asked[0].endswith(" a-header")


def test_a_machine_without_an_identity_is_as_one_without_credentials(identity: Identity) -> None:
    identity.status = 400
    assert resolve("account1/box").credentials.anonymous
    assert identity.asked


def test_where_there_are_no_credentials_the_store_is_anonymous(monkeypatch: pytest.MonkeyPatch) -> None:
    # Which looks at three environment variables, finds none of them, and asks nobody.
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    assert resolve("account1/box").credentials.anonymous


def test_a_key_and_a_sas_of_this_account(monkeypatch: pytest.MonkeyPatch, identity: Identity) -> None:
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", f"?{SAS}")
    assert resolve("account1/box").credentials == Credentials(sas=SAS, expires_at=1798859045.0)
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    assert resolve("account1/box").credentials == Credentials("account1", KEY)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "account1")
    assert resolve("account1/box").credentials == Credentials("account1", KEY)
    assert identity.asked == []
    # The other side of a transfer between two accounts.
    assert resolve("account2/box").credentials.token == "a-token"


def test_a_connection_string_of_this_account(monkeypatch: pytest.MonkeyPatch, identity: Identity) -> None:
    text = f"DefaultEndpointsProtocol=https;AccountName=account1;AccountKey={KEY};EndpointSuffix=core.windows.net"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    assert resolve("account1/box") == StoreConfig("azure", "account1/box", credentials=Credentials("account1", KEY))
    assert resolve("account1/box", endpoint_url="http://127.0.0.1:1").endpoint_url == "http://127.0.0.1:1"
    assert resolve("account2/box").credentials.token == "a-token"


@pytest.mark.parametrize(
    ("text", "endpoint_url", "credentials"),
    [
        (f"AccountName=account1;AccountKey={KEY};", "", Credentials("account1", KEY)),
        (
            f"AccountName=account1;AccountKey={KEY};EndpointSuffix=core.usgovcloudapi.net",
            "https://account1.blob.core.usgovcloudapi.net",
            Credentials("account1", KEY),
        ),
        (
            f"BlobEndpoint=https://account1.blob.core.windows.net/;SharedAccessSignature={SAS}",
            "",
            Credentials(sas=SAS, expires_at=1798859045.0),
        ),
        (
            f"BlobEndpoint=http://127.0.0.1:10000/account1;AccountName=account1;AccountKey={KEY}",
            "http://127.0.0.1:10000/account1",
            Credentials("account1", KEY),
        ),
    ],
)
def test_connection_strings(text: str, endpoint_url: str, credentials: Credentials) -> None:
    expected = StoreConfig("azure", "account1/box", endpoint_url=endpoint_url, credentials=credentials)
    assert from_connection_string(text, "account1/box", name="X") == expected
    if "account1" in text:
        assert from_connection_string(text, "account2/box", name="X") is None


def test_the_emulators_connection_string() -> None:
    found = from_connection_string("UseDevelopmentStorage=true", "devstoreaccount1/box", name="X")
    assert found is not None
    assert found.endpoint_url == "http://127.0.0.1:10000/devstoreaccount1"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AZURE_STORAGE_KEY", "no base64", "AZURE_STORAGE_KEY is not the key of a storage account"),
        ("AZURE_STORAGE_SAS_TOKEN", "sv=1", "AZURE_STORAGE_SAS_TOKEN is not a SAS token"),
        ("AZURE_STORAGE_SAS_TOKEN", "sig=a b", "is not a SAS token"),
        ("AZURE_STORAGE_SAS_TOKEN", "sig=a\nb", "is not a SAS token"),
        ("AZURE_STORAGE_SAS_TOKEN", "sig=a&se=never", "is no time"),
        ("AZURE_STORAGE_CONNECTION_STRING", "nonsense", "is not a storage account's connection string"),
        ("AZURE_STORAGE_CONNECTION_STRING", "AccountName=account1;AccountKey=?", "AccountKey in AZURE_STORAGE_CONNECT"),
        ("AZURE_STORAGE_CONNECTION_STRING", "BlobEndpoint=ftp://x", "BlobEndpoint in AZURE_STORAGE_CONNECTION_STRING"),
        ("AZURE_STORAGE_CONNECTION_STRING", "BlobEndpoint=https://x/?sig=secret", "has a query"),
    ],
)
def test_malformed_settings_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=said) as caught:
        resolve("account1/box")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("endpoint_url", ["nonsense", "ftp://host", "https://host/?sig=secret"])
def test_a_malformed_endpoint(endpoint_url: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve("account1/box", endpoint_url=endpoint_url)
    assert "secret" not in str(caught.value)


def test_an_expiry_without_a_zone_is_utc() -> None:
    assert sas_token("se=2027-01-02&sig=x", "X").expires_at == 1798848000.0


def test_a_search_that_takes_too_long_is_left_behind() -> None:
    release = threading.Event()
    with pytest.raises(StoreUnavailable):
        bounded(release.wait, 0.01, StoreUnavailable("late"))
    release.set()


def test_no_secret_is_in_the_repr() -> None:
    assert SAS not in repr(Credentials(sas=SAS))
    assert not Credentials(sas=SAS).anonymous
