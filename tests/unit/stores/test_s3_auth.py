"""What the environment makes of a bucket, and which buckets are refused unasked. Nothing but loopback."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest

from skyplane_core.errors import PermissionDenied, StoreRejected, StoreUnavailable, Unauthenticated, UsageError
from skyplane_core.model import Credentials, ObjectAttributes, StoreConfig
from skyplane_core.stores.s3 import open_store, resolve
from skyplane_core.stores.s3_auth import bucket_region
from tests.servers.answers import Answers, answer


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


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
@pytest.mark.parametrize("value", ["bad", "http://bad:host:1"])
def test_a_variable_that_is_no_url_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=name) as caught:
        resolve("bucket")
    assert caught.value.where == value
    assert caught.value.next_step
    assert resolve("bucket", endpoint_url="http://127.0.0.1:3").endpoint_url == "http://127.0.0.1:3"


def test_an_endpoint_that_is_no_url() -> None:
    with pytest.raises(UsageError, match="endpoint_url"):
        resolve("bucket", endpoint_url="bad")
    with pytest.raises(UsageError, match="not the URL"):
        open_store(StoreConfig(kind="s3", bucket="bucket", endpoint_url="bad")).probe()


def test_a_profile_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nope")
    with pytest.raises(UsageError, match=r"s3://bucket.*nope") as caught:
        resolve("bucket")
    assert "AWS_PROFILE" in caught.value.next_step


def test_a_config_file_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("[default\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    with pytest.raises(UsageError, match=str(path)) as caught:
        resolve("bucket")
    assert caught.value.next_step


def test_half_of_the_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK")
    with pytest.raises(Unauthenticated, match="missing: AWS_SECRET_ACCESS_KEY") as caught:
        resolve("bucket")
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.next_step


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(StoreUnavailable, match=url) as caught:
        open_store(StoreConfig(kind="s3", bucket="bucket", endpoint_url=url)).probe()
    assert "endpoint" in caught.value.next_step


def test_what_is_no_name_for_a_bucket() -> None:
    config = StoreConfig(kind="s3", bucket="Bad_Bucket!", endpoint_url="http://127.0.0.1:9")
    with pytest.raises(StoreRejected, match=r"name.*s3://Bad_Bucket!") as caught:
        open_store(config).probe()
    assert len(str(caught.value)) < 250
    assert "name" in caught.value.next_step


def test_a_directory_bucket_is_refused_by_its_name() -> None:
    with pytest.raises(StoreRejected, match="general purpose bucket"):
        open_store(StoreConfig(kind="s3", bucket="name--usw2-az1--x-s3", region="us-west-2")).probe()


def test_an_empty_key_is_never_the_bucket() -> None:
    store = open_store(StoreConfig(kind="s3", bucket="bucket", endpoint_url="http://127.0.0.1:9"))
    for call in (store.head, store.delete, lambda key: store.create_upload(key, ObjectAttributes())):
        with pytest.raises(StoreRejected, match="empty"):
            call("")


def test_the_bucket_tells_its_region() -> None:
    answers = Answers(answer(400, {"x-amz-bucket-region": "eu-west-3"}))
    with answers.serving() as url:
        config = StoreConfig(kind="s3", bucket="bucket", endpoint_url=url, region="us-east-1")
        assert bucket_region(config) == "eu-west-3"
    assert answers.heads[0].startswith("HEAD /bucket HTTP/1.1")
    assert bucket_region(msgspec.structs.replace(config, bucket="no bucket")) == ""


def test_a_service_that_refuses_to_give_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refusal = (
        b"<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>may not assume</Message></Error>"
        b"</ErrorResponse>"
    )
    answers = Answers(answer(403, {"Content-Type": "text/xml"}, refusal))
    with answers.serving() as url:
        path = tmp_path / "config"
        path.write_text(
            "[profile keys]\naws_access_key_id = AK\naws_secret_access_key = SK\n"
            "[profile p]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = keys\nregion = us-east-1\n"
        )
        for name, value in {"AWS_CONFIG_FILE": str(path), "AWS_PROFILE": "p", "AWS_ENDPOINT_URL_STS": url}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(PermissionDenied, match=r"s3://bucket.*may not assume"):
            resolve("bucket", region="eu-west-1")
