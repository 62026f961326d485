"""What the environment makes of a bucket, and what a client makes of a config. No network."""

from __future__ import annotations

import subprocess
import sys

import pytest

from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.stores.s3 import resolve
from skyplane_core.stores.s3_client import make_client


def test_nothing_in_the_environment_is_anonymous() -> None:
    config = resolve("bucket", region="eu-west-1")
    assert config == StoreConfig(kind="s3", bucket="bucket", region="eu-west-1")
    assert config.credentials.anonymous


def test_the_environments_credentials_and_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AK",
        "AWS_SECRET_ACCESS_KEY": "SK",
        "AWS_SESSION_TOKEN": "token",
        "AWS_DEFAULT_REGION": "eu-north-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:2",
    }.items():
        monkeypatch.setenv(name, value)
    config = resolve("bucket")
    assert config.endpoint_url == "http://127.0.0.1:2"
    assert config.region == "eu-north-1"
    assert config.credentials == Credentials("AK", "SK", "token")
    assert resolve("bucket", endpoint_url="http://127.0.0.1:3").endpoint_url == "http://127.0.0.1:3"
    given = Credentials("other", "secret")
    assert resolve("bucket", credentials=given).credentials == given


def test_a_client_follows_its_config_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "leaked")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "leaked")
    client = make_client(StoreConfig(kind="s3", bucket="bucket", region="eu-west-1"))
    assert client.meta.endpoint_url == "https://s3.eu-west-1.amazonaws.com"
    url = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k"})
    assert url == "https://bucket.s3.eu-west-1.amazonaws.com/k"
    client.close()


def test_data_processes_load_no_sdk() -> None:
    program = (
        "import sys, skyplane_core.stores.s3, skyplane_core.stores.s3_data, skyplane_core.stores.local;"
        "sys.exit(bool({'boto3', 'botocore', 'awscrt'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
