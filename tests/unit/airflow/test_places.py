"""Where a URI leads in Airflow: the credentials of a connection, and the endpoint of whoever says one first."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_skyplane.hooks.skyplane import SkyplaneHook
from skyplane_core.errors import UsageError
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.store_options import StoreOptions

ACCOUNT = "0123456789abcdef" * 2
R2 = f"https://{ACCOUNT}.r2.cloudflarestorage.com"
COS = "https://s3.eu-de.cloud-object-storage.appdomain.cloud"
KEYS = Credentials("AK", "SK")


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(name: str, **extra: Any) -> None:
        described = {"conn_type": "aws", "login": "AK", "password": "SK", "extra": {"region_name": "eu-de", **extra}}
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(described))

    connect("aws_default")
    connect("minio", endpoint_url="https://minio.example:9000")
    anonymous = {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True, "project": "p"}}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(anonymous))
    # Of S3, and no business of R2's and IBM's.
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://of-the-environment.example")


def place(uri: str, conn_id: str | None = None, **options: Any) -> StoreConfig:
    return SkyplaneHook().place(uri, conn_id, options=StoreOptions(**options)).store


@pytest.mark.parametrize(
    ("uri", "conn_id", "options", "expected"),
    [
        ("r2://b/k", None, {"account": ACCOUNT}, StoreConfig("s3", "b", R2, "auto", service="r2", credentials=KEYS)),
        (f"{R2}/b/k", None, {}, StoreConfig("s3", "b", R2, "auto", service="r2", credentials=KEYS)),
        (
            "r2://b/k",
            "minio",
            {},
            StoreConfig("s3", "b", "https://minio.example:9000", "auto", service="r2", credentials=KEYS),
        ),
        ("cos://b/k", None, {}, StoreConfig("s3", "b", COS, "eu-de", service="cos", credentials=KEYS)),
        (
            "s3://b/k",
            None,
            {},
            StoreConfig("s3", "b", "https://of-the-environment.example", "eu-de", credentials=KEYS),
        ),
        ("s3://b/k", "minio", {}, StoreConfig("s3", "b", "https://minio.example:9000", "eu-de", credentials=KEYS)),
        (
            "s3://b/k",
            "minio",
            {"endpoint_url": "https://other.example", "region": "r", "requester_pays": True},
            StoreConfig("s3", "b", "https://other.example", "r", requester_pays=True, credentials=KEYS),
        ),
        (
            "gs://b/k",
            None,
            {"endpoint_url": "https://gcs.example", "project": "billed", "requester_pays": True},
            StoreConfig("gcs", "b", "https://gcs.example", project="billed", requester_pays=True),
        ),
    ],
)
def test_where_a_uri_leads(uri: str, conn_id: str | None, options: dict[str, Any], expected: StoreConfig) -> None:
    assert place(uri, conn_id, **options) == expected


def test_an_account_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="which Cloudflare account"):
        place("r2://b/k")
    monkeypatch.setenv("R2_ACCOUNT_ID", ACCOUNT)
    assert place("r2://b/k").endpoint_url == R2


def test_anonymous_asks_no_connection() -> None:
    found = place("s3://b/k", "nowhere", anonymous=True, endpoint_url="https://minio.example")
    assert found.credentials.anonymous
    assert place("gs://b/k", "nowhere", anonymous=True) == StoreConfig("gcs", "b")
