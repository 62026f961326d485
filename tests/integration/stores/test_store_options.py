"""Requester pays, public buckets and encryption at rest, on servers that insist on them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from awscrt.checksums import crc32c

from skyplane_core.errors import StoreError
from skyplane_core.model import Credentials, ObjectAttributes, Precondition, StoreConfig
from skyplane_core.store_options import StoreOptions
from skyplane_core.stores.base import ObjectStore
from skyplane_core.stores.registry import open_store
from skyplane_core.testing.objectserver import ObjectServer

CREDENTIALS = {"s3": Credentials("AK", "SK"), "gcs": Credentials(token="token")}
CLOUD_KEY = "projects/p/locations/eu/keyRings/r/cryptoKeys/k"


@pytest.fixture(params=["s3", "gcs"])
def server(request: pytest.FixtureRequest) -> Iterator[ObjectServer]:
    with ObjectServer(
        request.param,
        buckets=["paid", "public", "plain"],
        credentials={"AK": "SK"} if request.param == "s3" else None,
        tokens=["token"] if request.param == "gcs" else (),
        requester_pays=["paid"],
        public=["public"],
    ) as running:
        yield running


def config(server: ObjectServer, bucket: str) -> StoreConfig:
    return StoreConfig(server.kind, bucket, endpoint_url=server.endpoint_url, credentials=CREDENTIALS[server.kind])


def write(store: ObjectStore, attributes: ObjectAttributes = ObjectAttributes()) -> None:
    """An object by one put, and one in parts."""
    body = memoryview(b"bytes")
    with contextlib.closing(store.data()) as data:
        data.put_object("put", body, crc32c=crc32c(body), attributes=attributes, precondition=Precondition())
        upload = store.create_upload("striped", attributes)
        part = data.put_part("striped", upload, 1, 0, body, crc32c=crc32c(body))
    assert [found.number for found in store.list_parts("striped", upload)] == [1]
    store.complete_upload("striped", upload, [part], size=5, crc32c=crc32c(body), precondition=Precondition())


def read(store: ObjectStore, key: str) -> bytes:
    buffer = bytearray(5)
    with contextlib.closing(store.data()) as data:
        data.read_into(key, store.head(key).version, 0, memoryview(buffer))
    return bytes(buffer)


def test_who_agrees_to_pay_may_do_everything(server: ObjectServer) -> None:
    options = StoreOptions(requester_pays=True, project="billed" if server.kind == "gcs" else "")
    store = open_store(options.applied(config(server, "paid")))
    store.probe()
    write(store)
    assert [info.key for info in store.list()] == ["put", "striped"]
    assert read(store, "striped") == b"bytes"
    assert list(store.list_uploads()) == []
    store.delete("put")
    store.close()


def test_who_does_not_agree_is_refused_whatever_the_call(server: ObjectServer) -> None:
    server.put("paid", "put", b"bytes")
    store = open_store(config(server, "paid"))
    for call in (
        store.probe,
        lambda: list(store.list()),
        lambda: store.head("put"),
        lambda: write(store),
        lambda: store.delete("put"),
    ):
        with pytest.raises(StoreError):
            call()
    store.close()


def test_a_public_bucket_is_read_without_credentials_and_not_written(server: ObjectServer) -> None:
    for bucket in ("public", "plain"):
        server.put(bucket, "put", b"bytes")
    store = open_store(msgspec.structs.replace(config(server, "public"), credentials=Credentials()))
    store.probe()
    assert [info.key for info in store.list()] == ["put"]
    assert read(store, "put") == b"bytes"
    with pytest.raises(StoreError):
        write(store)
    store.close()
    private = open_store(msgspec.structs.replace(config(server, "plain"), credentials=Credentials()))
    with pytest.raises(StoreError):
        private.probe()
    private.close()


@pytest.mark.parametrize("attributes", [ObjectAttributes(), ObjectAttributes(metadata={"Große": "ü"})])
def test_what_is_written_is_encrypted_as_asked_for(server: ObjectServer, attributes: ObjectAttributes) -> None:
    if server.kind == "s3":
        attributes = msgspec.structs.replace(attributes, metadata={})
    asked = {
        "s3": [
            (StoreOptions(encryption="AES256"), {"x-amz-server-side-encryption": "AES256"}),
            (
                StoreOptions(kms_key="key/1"),
                {
                    "x-amz-server-side-encryption": "aws:kms",
                    "x-amz-server-side-encryption-aws-kms-key-id": "key/1",
                },
            ),
        ],
        "gcs": [(StoreOptions(kms_key=CLOUD_KEY), {"x-goog-encryption-kms-key-name": CLOUD_KEY})],
    }
    for options, kept in asked[server.kind]:
        store = open_store(options.applied(config(server, "plain")))
        write(store, attributes)
        store.close()
        for key in ("put", "striped"):
            described = server.head("plain", key)
            assert kept.items() <= described["attributes"].items(), key
            assert described["metadata"] == attributes.metadata


def test_moto_records_encryption_and_class() -> None:
    """A server that nobody here wrote, asked by AWS's own client."""
    import boto3

    from tests.conformance.cases_s3 import moto

    with moto(Path()) as running:
        plain = running.make_bucket("moto-options")
        client = boto3.client(
            "s3",
            endpoint_url=plain.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="AK",
            aws_secret_access_key="SK",
        )
        for options, encryption in (
            (StoreOptions(encryption="AES256"), {"ServerSideEncryption": "AES256"}),
            (StoreOptions(kms_key="key/1"), {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key/1"}),
        ):
            store = open_store(options.applied(plain))
            write(store, ObjectAttributes(storage_class="STANDARD_IA"))
            store.close()
            described = client.head_object(Bucket="moto-options", Key="put")
            assert (encryption | {"StorageClass": "STANDARD_IA"}).items() <= described.items()
            assert client.head_object(Bucket="moto-options", Key="striped")["StorageClass"] == "STANDARD_IA"
        client.close()
