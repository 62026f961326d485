"""From Google's credentials to a config; no network is touched."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from google.auth import credentials as google_credentials  # noqa: TID253  what is tested here needs them
from google.auth import exceptions  # noqa: TID253

from skyplane_core.errors import StoreUnavailable, Unauthenticated, UsageError
from skyplane_core.stores import gcs, gcs_auth


class Fake(google_credentials.Credentials):  # type: ignore[misc,unused-ignore]
    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__()
        self._failure = failure

    def refresh(self, request: object) -> None:
        if self._failure is not None:
            raise self._failure
        self.token = "ya29.token"
        self.expiry = datetime(2030, 1, 1, 12, 0)  # noqa: DTZ001  google-auth's are naive


def test_refreshes_and_takes_token_and_expiry() -> None:
    config = gcs.from_google_credentials(Fake(), "b", project="p", endpoint_url="http://127.0.0.1:1")
    assert (config.kind, config.bucket, config.project, config.endpoint_url) == ("gcs", "b", "p", "http://127.0.0.1:1")
    assert config.credentials.token == "ya29.token"
    assert config.credentials.expires_at == datetime(2030, 1, 1, 12, tzinfo=timezone.utc).timestamp()
    assert "ya29" not in repr(config)


def test_a_valid_token_is_kept() -> None:
    credentials = Fake(failure=AssertionError("refreshed"))
    credentials.token = "old"
    credentials.expiry = datetime.now(timezone.utc).replace(tzinfo=None) + timedelta(hours=1)
    assert gcs.from_google_credentials(credentials, "b").credentials.token == "old"


def test_anonymous_credentials_make_an_anonymous_config() -> None:
    assert gcs.from_google_credentials(google_credentials.AnonymousCredentials(), "b").credentials.anonymous


def test_refusal_and_absence_of_the_token_server() -> None:
    with pytest.raises(Unauthenticated, match="invalid_grant") as refused:
        gcs.from_google_credentials(Fake(exceptions.RefreshError("invalid_grant")), "b")
    assert refused.value.where == "gs://b"
    with pytest.raises(StoreUnavailable):
        gcs.from_google_credentials(Fake(exceptions.TransportError("no route")), "b")


@pytest.mark.parametrize("value", ["127.0.0.1:9", "http://127.0.0.1:9", "http://127.0.0.1:9/"])
def test_emulator(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", value)
    config = gcs.resolve("b")
    assert config.endpoint_url == "http://127.0.0.1:9"
    assert config.credentials.anonymous


@pytest.mark.parametrize("value", ["http://bad:host:1", "ftp://host"])
def test_an_emulator_that_is_no_url_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", value)
    with pytest.raises(UsageError, match="STORAGE_EMULATOR_HOST") as caught:
        gcs.resolve("b")
    assert caught.value.where == value
    with pytest.raises(UsageError, match="endpoint_url"):
        gcs.resolve("b", endpoint_url="bad")


def test_nothing_at_all_is_anonymous(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    assert gcs.resolve("b", project="p").credentials.anonymous


def test_a_broken_credentials_file_is_not_anonymous(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "adc.json"
    path.write_text("{")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(Unauthenticated, match=r"gs://b"):
        gcs.resolve("b")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(Unauthenticated):
        gcs.resolve("b")


def test_a_silent_metadata_server_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hang(*_arguments: object) -> None:
        release.wait(10)

    monkeypatch.setattr(gcs_auth, "_from_environment", hang)
    started = time.monotonic()
    try:
        with pytest.raises(StoreUnavailable, match="NO_GCE_CHECK"):
            gcs.resolve("b", deadline=0.05)
    finally:
        release.set()
    assert time.monotonic() - started < 5
