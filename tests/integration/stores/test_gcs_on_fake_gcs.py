"""Our GCS store against fake-gcs-server, which nobody here wrote: what works there, and the gaps, as data.

A gap is asserted and not skipped: when the server learns the call, the test fails and the gap is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from awscrt.checksums import crc32c

from skyplane_core.errors import (
    BucketNotFound,
    ChecksumMismatch,
    ObjectNotFound,
    PreconditionFailed,
    SourceChanged,
    StoreError,
    StoreRejected,
    StoreUnavailable,
    UploadNotFound,
)
from skyplane_core.model import Attestation, ObjectAttributes, Precondition, StoreConfig, Stored
from skyplane_core.stores.gcs import GcsStore, open_store
from tests.servers.fake_gcs import fake_gcs

ATTRIBUTES = ObjectAttributes(content_type="text/plain", cache_control="no-cache", metadata={"plain": "é", "ü": "x"})
"""Beyond what headers carry, so that the store writes through the JSON API: the XML PUT is a gap of this server."""

KEYS = ["plain", "a b", "ü/é", "100%", "x+y", "a//b", "/lead", "a/../b", "a/./b", "k" * 1024, "q?x=1&y#z", "%2F", "\t"]


@pytest.fixture(scope="module")
def config() -> Iterator[StoreConfig]:
    with fake_gcs(["bucket", "empty"]) as url:
        yield StoreConfig(kind="gcs", bucket="bucket", endpoint_url=url)


@pytest.fixture
def store(config: StoreConfig) -> Iterator[GcsStore]:
    store = open_store(config)
    yield store
    for info in list(store.list()):
        store.delete(info.key)
    store.close()


def put(
    store: GcsStore,
    key: str,
    data: bytes,
    precondition: Precondition = Precondition(),
    attributes: ObjectAttributes = ATTRIBUTES,
) -> Stored:
    path = store.data()
    try:
        return path.put_object(
            key, memoryview(data), crc32c=crc32c(data), attributes=attributes, precondition=precondition
        )
    finally:
        path.close()


def test_keys_attributes_and_bytes_come_back_exactly(store: GcsStore) -> None:
    path = store.data()
    for key in KEYS:
        data = b"bytes of " + key.encode()
        stored = put(store, key, data)
        assert stored.crc32c == crc32c(data)
        assert stored.attestation is Attestation.WHOLE
        info = store.head(key)
        assert (info.key, info.size, info.version, info.attributes) == (key, len(data), stored.version, ATTRIBUTES)
        buffer = bytearray(5)
        found = path.read_into(key, stored.version, 3, memoryview(buffer))
        assert bytes(buffer) == data[3:8]
        assert found.crc32c == crc32c(data)
        assert found.attributes == ATTRIBUTES
        assert path.read_into(key, stored.version, 0, memoryview(bytearray())).crc32c == crc32c(data)
    path.close()
    assert [info.key for info in store.list()] == sorted(KEYS, key=str.encode)


def test_listing_pages_prefix_start_and_delimiter(store: GcsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyplane_core.stores.gcs._PAGE", 3)
    keys = sorted((f"p/{n:02}" for n in range(10)), key=str.encode)
    for key in [*keys, "p/sub/x", "q"]:
        put(store, key, b"x")
    assert [info.key for info in store.list("p/", delimiter="/")] == keys
    assert [info.key for info in store.list("p/", start_after="p/07")] == ["p/08", "p/09", "p/sub/x"]
    assert [info.key for info in store.list(start_after="p/07x")] == ["p/08", "p/09", "p/sub/x", "q"]
    assert [info.crc32c for info in store.list("q")] == [crc32c(b"x")]


def test_probe_and_what_is_missing(store: GcsStore, config: StoreConfig) -> None:
    store.probe()
    nowhere = open_store(StoreConfig(kind="gcs", bucket="nowhere", endpoint_url=config.endpoint_url))
    with pytest.raises(BucketNotFound):
        nowhere.probe()
    with pytest.raises(BucketNotFound):
        list(nowhere.list())
    with pytest.raises(ObjectNotFound, match="gs://bucket/none"):
        store.head("none")
    store.delete("none")
    with pytest.raises(PreconditionFailed):
        store.delete("none", Precondition(version="1"))
    nowhere.close()


def test_reads_are_pinned(store: GcsStore) -> None:
    first = put(store, "k", b"first")
    put(store, "k", b"other")
    path = store.data()
    for size in (0, 5):
        with pytest.raises(SourceChanged):
            path.read_into("k", first.version, 0, memoryview(bytearray(size)))
        with pytest.raises(SourceChanged):
            path.read_into("none", "1", 0, memoryview(bytearray(size)))
    with pytest.raises(SourceChanged):
        path.read_into("k", store.head("k").version, 9, memoryview(bytearray(5)))
    path.close()


def test_conditional_put(store: GcsStore) -> None:
    stored = put(store, "k", b"1", Precondition(absent=True))
    with pytest.raises(PreconditionFailed):
        put(store, "k", b"2", Precondition(absent=True))
    with pytest.raises(PreconditionFailed):
        put(store, "k", b"2", Precondition(version="17"))
    assert put(store, "k", b"2", Precondition(version=stored.version)).version != stored.version


def test_wrong_bytes_do_not_stay(store: GcsStore) -> None:
    """This server ignores the crc32c that we send: the comparison afterwards has to find it."""
    path = store.data()
    with pytest.raises(ChecksumMismatch, match="was deleted"):
        path.put_object("k", memoryview(b"x"), crc32c=1, attributes=ATTRIBUTES, precondition=Precondition())
    with pytest.raises(ObjectNotFound):
        store.head("k")
    path.close()


def test_nobody_listens() -> None:
    store = open_store(StoreConfig(kind="gcs", bucket="b", endpoint_url="http://127.0.0.1:9"))
    with pytest.raises(StoreUnavailable, match=r"gs://b/k"):
        store.head("k")
    store.close()


PLAIN = ObjectAttributes()
GAPS: list[tuple[str, Callable[[GcsStore], object], type[StoreError]]] = [
    (
        "XML PUT is not known",
        lambda s: put(s, "k", b"", attributes=PLAIN),
        StoreRejected,
    ),
    ("XML multipart: initiate", lambda s: s.create_upload("k", PLAIN), StoreRejected),
    ("XML multipart: list uploads answers an object listing", lambda s: list(s.list_uploads()), StoreUnavailable),
    ("XML multipart: list parts answers as for an object", lambda s: list(s.list_parts("k", "u")), UploadNotFound),
]


@pytest.mark.parametrize(("call", "kind"), [pytest.param(call, kind, id=why) for why, call, kind in GAPS])
def test_gap(store: GcsStore, call: Callable[[GcsStore], object], kind: type[StoreError]) -> None:
    with pytest.raises(kind):
        call(store)


def test_gap_a_conditional_delete_deletes_anyway(store: GcsStore) -> None:
    put(store, "k", b"x")
    store.delete("k", Precondition(version="17"))
    with pytest.raises(ObjectNotFound):
        store.head("k")
