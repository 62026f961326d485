"""What S3's own refusals look like to a person, and what of its failures nobody gets to see."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from awscrt.checksums import crc32c

from skyplane_core.errors import PermissionDenied, StoreError, UploadNotFound
from skyplane_core.model import Attestation, Credentials, ObjectAttributes, Precondition, StoreConfig
from skyplane_core.stores.s3 import S3Store, open_store
from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer


def test_who_gave_no_credentials_is_told_to_give_some_whatever_the_call() -> None:
    with ObjectServer("s3", buckets=["src"], credentials={"AK": "SK"}) as server:
        server.put("src", "k", b"hello")
        config = StoreConfig(kind="s3", bucket="src", endpoint_url=server.endpoint_url)
        store = open_store(config)
        data = store.data()
        for call in (
            store.probe,
            lambda: list(store.list()),
            lambda: store.head("k"),
            lambda: data.read_into("k", "etag:x", 0, memoryview(bytearray(5))),
        ):
            with pytest.raises(StoreError, match="No credentials were given") as caught:
                call()
            assert caught.value.where.startswith("s3://src")
        data.close()
        store.close()
        wrong = open_store(
            StoreConfig(
                kind="s3", bucket="src", endpoint_url=server.endpoint_url, credentials=Credentials("AK", "other")
            )
        )
        with pytest.raises(StoreError) as refused:
            wrong.probe()
        assert "No credentials" not in refused.value.next_step
        wrong.close()


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    with ObjectServer("s3", buckets=["b"], credentials={"AK": "SK"}) as running:
        yield running


@pytest.fixture
def store(server: ObjectServer) -> Iterator[S3Store]:
    opened = open_store(StoreConfig("s3", "b", endpoint_url=server.endpoint_url, credentials=Credentials("AK", "SK")))
    yield opened
    opened.close()


def test_a_config_is_followed_and_no_environment(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SK")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    store = open_store(StoreConfig("s3", "b", endpoint_url=server.endpoint_url))
    with pytest.raises(PermissionDenied, match="No credentials were given"):
        store.probe()
    store.close()


@pytest.mark.parametrize(
    "fault",
    [
        Fault("*", "status", status=503, code="SlowDown", nth=(1,)),
        Fault("*", "status", status=500, code="InternalError", nth=(1,)),
        Fault("CompleteMultipartUpload", "status", status=200, code="InternalError", nth=(1,)),
        Fault("*", "reset-before", nth=(1,)),
        Fault("CompleteMultipartUpload", "reset-after", nth=(1,)),
    ],
    ids=lambda fault: f"{fault.operation}-{fault.action}-{fault.status}",
)
def test_a_hiccup_is_nobodys_business(server: ObjectServer, store: S3Store, fault: Fault) -> None:
    upload = store.create_upload("k", ObjectAttributes())
    data = store.data()
    part = data.put_part("k", upload, 1, 0, memoryview(b"bytes"), crc32c=crc32c(b"bytes"))
    data.close()
    server.set_faults(Faults(fault))
    stored = store.complete_upload(
        "k", upload, [part], size=5, crc32c=crc32c(b"bytes"), precondition=Precondition(absent=True)
    )
    assert stored.attestation is Attestation.WHOLE
    assert server.statistics["faults_fired"] == [1]
    assert [info.key for info in store.list()] == ["k"]


def test_an_upload_that_is_not_open_says_so_under_a_200(server: ObjectServer, store: S3Store) -> None:
    upload = store.create_upload("k", ObjectAttributes())
    server.set_faults(Faults(Fault("CompleteMultipartUpload", "status", status=200, code="NoSuchUpload")))
    with pytest.raises(UploadNotFound):
        store.complete_upload("k", upload, [], size=0, crc32c=0, precondition=Precondition())


def test_more_than_a_page_of_the_longest_keys(server: ObjectServer, store: S3Store) -> None:
    keys = [f"{number:04}" + "ü" * 510 for number in range(1100)]
    for key in keys:
        server.put("b", key, b"")
    assert [info.key for info in store.list()] == keys
    assert [info.key for info in store.list(start_after=keys[700])] == keys[701:]
