"""Our GCS store against our own object server: what no server that others wrote can do (XML multipart, generations)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from awscrt.checksums import crc32c

from skyplane_core.errors import (
    ChecksumMismatch,
    ObjectNotFound,
    PermissionDenied,
    PreconditionFailed,
    SourceChanged,
    StoreRejected,
    Unauthenticated,
    UploadNotFound,
)
from skyplane_core.model import (
    Attestation,
    Credentials,
    ObjectAttributes,
    Precondition,
    StoreConfig,
    Stored,
    StoredPart,
)
from skyplane_core.stores import gcs_calls, gcs_data
from skyplane_core.stores.gcs import GcsStore, open_store
from skyplane_core.testing.objectserver import ObjectServer

MIB = 1024 * 1024
PLAIN = ObjectAttributes(content_type="text/plain", cache_control="no-cache", metadata={"a": "b"})
RICH = ObjectAttributes(content_type="text/plain", metadata={"a": "é", "empty": "", "padded": " x "})
KEYS = ["plain", "a b", "ü/é", "100%", "x+y", "a//b", "/lead", "a/../b", "a/./b", "k" * 1024, "q?x=1&y#z", "%2F", "\t"]
ANY = Precondition()


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with ObjectServer("gcs", buckets=["bucket"], tokens=["good"]) as server:
        yield server


@pytest.fixture
def store(server: ObjectServer) -> Iterator[GcsStore]:
    store = open_store(_config(server, "good"))
    yield store
    for info in list(store.list()):
        store.delete(info.key)
    for key, upload_id in list(store.list_uploads()):
        store.abort_upload(key, upload_id)
    store.close()


def _config(server: ObjectServer, token: str) -> StoreConfig:
    return StoreConfig(
        kind="gcs", bucket="bucket", endpoint_url=server.endpoint_url, credentials=Credentials(token=token)
    )


def put(
    store: GcsStore, key: str, data: bytes, precondition: Precondition = ANY, attributes: ObjectAttributes = PLAIN
) -> Stored:
    path = store.data()
    try:
        return path.put_object(
            key, memoryview(data), crc32c=crc32c(data), attributes=attributes, precondition=precondition
        )
    finally:
        path.close()


def upload(
    store: GcsStore, key: str, pieces: list[bytes], attributes: ObjectAttributes
) -> tuple[str, list[StoredPart]]:
    upload_id = store.create_upload(key, attributes)
    path = store.data()
    parts = [
        path.put_part(key, upload_id, number, 0, memoryview(piece), crc32c=crc32c(piece))
        for number, piece in enumerate(pieces, 1)
    ]
    path.close()
    return upload_id, parts


@pytest.mark.parametrize("attributes", [PLAIN, RICH, ObjectAttributes()])
def test_keys_attributes_and_bytes(store: GcsStore, server: ObjectServer, attributes: ObjectAttributes) -> None:
    path = store.data()
    for key in KEYS:
        data = b"bytes of " + key.encode()
        stored = put(store, key, data, Precondition(absent=True), attributes)
        assert stored.attestation is Attestation.WHOLE
        assert server.get("bucket", key) == data
        info = store.head(key)
        assert (info.key, info.size, info.version, info.crc32c) == (key, len(data), stored.version, crc32c(data))
        assert info.attributes is not None
        assert info.attributes.metadata == attributes.metadata
        buffer = bytearray(4)
        found = path.read_into(key, stored.version, 2, memoryview(buffer))
        assert bytes(buffer) == data[2:6]
        assert found.attributes.metadata == attributes.metadata
        assert found.crc32c == crc32c(data)
    path.close()
    assert [info.key for info in store.list()] == sorted(KEYS, key=str.encode)


@pytest.mark.parametrize("attributes", [PLAIN, RICH])
def test_multipart(store: GcsStore, server: ObjectServer, attributes: ObjectAttributes) -> None:
    pieces = [bytes([n]) * (5 * MIB) for n in range(2)] + [b"tail"]
    data = b"".join(pieces)
    upload_id, parts = upload(store, "dir/ü x", pieces, attributes)
    assert [(p.number, p.part_id, p.size) for p in store.list_parts("dir/ü x", upload_id)] == [
        (p.number, p.part_id, p.size) for p in parts
    ]
    assert list(store.list_uploads("dir/")) == [("dir/ü x", upload_id)]
    with pytest.raises(ObjectNotFound):
        store.head("dir/ü x")
    wanted = {"size": len(data), "crc32c": crc32c(data), "precondition": Precondition(absent=True)}
    stored = store.complete_upload("dir/ü x", upload_id, parts[::-1], **wanted)
    assert stored.attestation is Attestation.WHOLE
    assert server.get("bucket", "dir/ü x") == data
    assert store.complete_upload("dir/ü x", upload_id, parts, **wanted) == stored
    info = store.head("dir/ü x")
    assert info.version == stored.version
    assert info.attributes is not None
    assert info.attributes.metadata == attributes.metadata
    with pytest.raises(UploadNotFound):
        list(store.list_parts("dir/ü x", upload_id))
    store.abort_upload("dir/ü x", upload_id)


def test_multipart_that_must_not_take_effect(store: GcsStore) -> None:
    upload_id, parts = upload(store, "k", [b"data"], PLAIN)
    with pytest.raises(ChecksumMismatch, match="was deleted"):
        store.complete_upload("k", upload_id, parts, size=4, crc32c=1, precondition=ANY)
    with pytest.raises(ObjectNotFound):
        store.head("k")
    put(store, "k", b"theirs")
    upload_id, parts = upload(store, "k", [b"data"], PLAIN)
    with pytest.raises(PreconditionFailed):
        store.complete_upload(
            "k", upload_id, parts, size=4, crc32c=crc32c(b"data"), precondition=Precondition(absent=True)
        )
    assert store.head("k").crc32c == crc32c(b"theirs")


def test_wrong_bytes_are_refused_by_the_server(store: GcsStore) -> None:
    upload_id = store.create_upload("k", PLAIN)
    path = store.data()
    with pytest.raises(ChecksumMismatch):
        path.put_part("k", upload_id, 1, 0, memoryview(b"x"), crc32c=1)
    for attributes in (PLAIN, RICH):
        with pytest.raises(ChecksumMismatch):
            path.put_object("k", memoryview(b"x"), crc32c=1, attributes=attributes, precondition=ANY)
    path.close()
    assert list(store.list_parts("k", upload_id)) == []


def test_preconditions(store: GcsStore) -> None:
    first = put(store, "k", b"1", Precondition(absent=True))
    for attributes in (PLAIN, RICH):
        for precondition in (Precondition(absent=True), Precondition(version="17")):
            with pytest.raises(PreconditionFailed):
                put(store, "k", b"2", precondition, attributes)
    with pytest.raises(PreconditionFailed):
        store.delete("k", Precondition(version="17"))
    second = put(store, "k", b"2", Precondition(version=first.version))
    path = store.data()
    with pytest.raises(SourceChanged):
        path.read_into("k", first.version, 0, memoryview(bytearray(1)))
    path.close()
    store.delete("k", Precondition(version=second.version))
    with pytest.raises(PreconditionFailed):
        store.delete("k", Precondition(version=second.version))


def test_a_precondition_on_a_multipart_request_is_refused_as_by_gcs(store: GcsStore, server: ObjectServer) -> None:
    """What makes ``conditional_complete`` False: https://cloud.google.com/storage/docs/request-preconditions."""
    upload_id, _ = upload(store, "k", [b"data"], PLAIN)
    with store._pool.connection() as http, pytest.raises(StoreRejected):
        store._calls.send(
            http, "POST", f"/bucket/k?uploadId={upload_id}", "x", headers={"x-goog-if-generation-match": "0"}
        )


@pytest.mark.parametrize(("token", "kinds"), [("bad", (Unauthenticated,)), ("", (Unauthenticated, PermissionDenied))])
def test_tokens(server: ObjectServer, token: str, kinds: tuple[type[Exception], ...]) -> None:
    store = open_store(_config(server, token))
    path = store.data()
    calls: list[Callable[[], object]] = [
        store.probe,
        lambda: store.head("k"),
        lambda: store.create_upload("k", PLAIN),
        lambda: path.read_into("k", "1", 0, memoryview(bytearray(1))),
        lambda: path.put_object("k", memoryview(b""), crc32c=0, attributes=PLAIN, precondition=ANY),
    ]
    for call in calls:
        with pytest.raises(kinds):
            call()
    path.close()
    store.close()


def test_a_metadata_name_that_is_no_header_name(store: GcsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = ObjectAttributes(metadata={"ü b": "x"})
    stored = put(store, "k", b"content", attributes=odd)
    assert store.head("k").attributes == ObjectAttributes("application/octet-stream", metadata=odd.metadata)
    monkeypatch.setattr(gcs_data, "open_http", lambda config, _timeout: gcs_calls.open_http(config, 0.3))
    path = store.data()
    try:
        result = path.read_into("k", stored.version, 0, memoryview(bytearray(7)))
    finally:
        path.close()
    assert result.attributes.metadata == odd.metadata
