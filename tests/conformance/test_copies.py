"""Copies that a store makes by itself: what of them the engine relies on, from another bucket of the same server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from awscrt.checksums import crc32c

from skyplane_core.errors import PreconditionFailed, SourceChanged, StoreRejected
from skyplane_core.model import (
    Attestation,
    Copied,
    CopySource,
    CopyStep,
    ObjectAttributes,
    Precondition,
    StoreConfig,
    Stored,
)
from skyplane_core.stores.base import CopyingStore, ObjectStore, copying, tags_of
from skyplane_core.stores.registry import open_store
from tests.conformance.store_case import Feature, Running, StoreCase

MIB = 1024 * 1024
BODY = os.urandom(3 * MIB + 17)
KEY = "p/a + b%ü"
Get = Callable[[str], bytes]


@pytest.fixture
def source(running: Running, config: StoreConfig) -> Iterator[ObjectStore]:
    opened = open_store(running.make_bucket(f"{config.bucket}-from"))
    yield opened
    opened.close()


@pytest.fixture
def copier(store: ObjectStore) -> CopyingStore:
    assert store.capabilities.max_copy
    return copying(store)


def put(store: ObjectStore, key: str, body: bytes, attributes: ObjectAttributes = ObjectAttributes()) -> Stored:
    data = store.data()
    try:
        return data.put_object(
            key, memoryview(body), crc32c=crc32c(body), attributes=attributes, precondition=Precondition()
        )
    finally:
        data.close()


def whole(
    copier: CopyingStore, source: CopySource, key: str, attributes: ObjectAttributes, condition: Precondition
) -> Copied:
    """All calls of one copy."""
    step = CopyStep()
    while step.copied is None:
        before, step = step, copier.copy(source, key, attributes, condition, step.token)
        assert step.copied is not None or (step.token and step.moved > before.moved)
    return step.copied


def named(config: StoreConfig, source: ObjectStore, key: str = KEY) -> CopySource:
    return CopySource(f"{config.bucket}-from", source.head(key))


def test_a_store_that_does_not_copy_says_so(tmp_path: Path) -> None:
    store = open_store(StoreConfig("local", str(tmp_path)))
    assert store.capabilities.max_copy == 0
    with pytest.raises(StoreRejected, match="does not copy"):
        copying(store)


def test_a_copy_has_the_bytes_the_checksum_and_the_new_attributes(
    case: StoreCase, config: StoreConfig, source: ObjectStore, store: ObjectStore, copier: CopyingStore, get: Get
) -> None:
    tags = {"team": "theirs"} if config.kind == "s3" else {}
    put(source, KEY, BODY, ObjectAttributes(content_type="text/plain", metadata={"old": "1"}, tags=tags))
    attributes = ObjectAttributes(content_type="text/x-new", cache_control="no-cache", metadata={"new": "ä"})
    copied = whole(copier, named(config, source), "to/" + KEY, attributes, Precondition())
    there = store.head("to/" + KEY)
    assert get("to/" + KEY) == BODY
    assert (copied.stored.version, copied.stored.size) == (there.version, len(BODY))
    assert there.attributes == attributes
    assert tags_of(store, "to/" + KEY) == {}
    if case.has(Feature.COPY_CHECKSUM):
        assert copied.stored.crc32c == crc32c(BODY)
        assert copied.stored.attestation is Attestation.WHOLE
    else:
        assert copied.stored.crc32c is copied.crc64nvme is copied.stored.attestation is None


def test_a_copy_keeps_the_tags_that_nobody_has_read(
    config: StoreConfig, source: ObjectStore, store: ObjectStore, copier: CopyingStore
) -> None:
    tags = {"team": "a b+c"} if config.kind == "s3" else {}
    put(source, KEY, BODY, ObjectAttributes(content_type="text/plain", tags=tags))
    asked = msgspec.structs.replace(named(config, source), keeps_tags=True)
    whole(copier, asked, "k", ObjectAttributes(content_type="text/x-new"), Precondition())
    assert tags_of(store, "k") == tags
    assert store.head("k").attributes == ObjectAttributes(content_type="text/x-new")


def test_a_copy_into_another_storage_class_takes_as_many_calls_as_the_store_wants(
    config: StoreConfig, source: ObjectStore, store: ObjectStore, copier: CopyingStore, get: Get
) -> None:
    put(source, KEY, BODY)
    name = "STANDARD_IA" if config.kind == "s3" else "NEARLINE"
    attributes = ObjectAttributes(content_type="text/plain", storage_class=name)
    whole(copier, named(config, source), "k", attributes, Precondition())
    assert get("k") == BODY
    found = store.head("k").attributes
    assert found is not None
    assert found.storage_class == name


def test_preconditions_hold_at_the_destination(
    config: StoreConfig, source: ObjectStore, store: ObjectStore, copier: CopyingStore, get: Get
) -> None:
    put(source, KEY, BODY)
    there = put(store, "k", b"theirs")
    plain = ObjectAttributes(content_type="text/plain")
    for condition in (Precondition(absent=True), Precondition(version=source.head(KEY).version)):
        with pytest.raises(PreconditionFailed):
            whole(copier, named(config, source), "k", plain, condition)
        assert get("k") == b"theirs"
    with pytest.raises(PreconditionFailed):
        whole(copier, named(config, source), "none", plain, Precondition(version=there.version))
    whole(copier, named(config, source), "k", plain, Precondition(version=there.version))
    whole(copier, named(config, source), "new", plain, Precondition(absent=True))
    assert get("k") == get("new") == BODY


@pytest.mark.parametrize("condition", [Precondition(), Precondition(absent=True)], ids=["plain", "absent"])
def test_a_source_that_changed_is_not_copied(
    case: StoreCase,
    config: StoreConfig,
    source: ObjectStore,
    store: ObjectStore,
    copier: CopyingStore,
    condition: Precondition,
) -> None:
    put(source, KEY, BODY)
    listed = named(config, source)
    put(source, KEY, b"other bytes")
    with case.outcome(Feature.COPY_OF_VERSION, SourceChanged):
        whole(copier, listed, "k", ObjectAttributes(content_type="text/plain"), condition)
    if case.has(Feature.COPY_OF_VERSION):
        assert list(store.list()) == []
    source.delete(KEY)
    with pytest.raises(SourceChanged):
        whole(copier, listed, "gone", ObjectAttributes(content_type="text/plain"), condition)


def test_a_copy_within_a_bucket(config: StoreConfig, store: ObjectStore, copier: CopyingStore, get: Get) -> None:
    put(store, "a", b"some bytes")
    info = msgspec.structs.replace(store.head("a"), attributes=None)
    whole(copier, CopySource(config.bucket, info), "b", ObjectAttributes(content_type="text/plain"), Precondition())
    assert get("b") == b"some bytes"


def test_parts_are_copied_into_an_upload(
    config: StoreConfig, source: ObjectStore, store: ObjectStore, copier: CopyingStore, get: Get
) -> None:
    if not store.capabilities.copies_parts:
        return
    body = os.urandom(12 * MIB)
    put(source, KEY, body)
    upload = store.create_upload("k", ObjectAttributes(content_type="text/plain"))
    cut = [(1, 0, 5 * MIB), (2, 5 * MIB, 5 * MIB), (3, 10 * MIB, 2 * MIB)]
    parts = [copier.copy_part(named(config, source), "k", upload, *piece) for piece in cut]
    assert [part.crc32c for part in parts] == [crc32c(body[at : at + size]) for _, at, size in cut]
    assert list(store.list_parts("k", upload)) == parts
    stored = store.complete_upload(
        "k", upload, parts, size=len(body), crc32c=crc32c(body), precondition=Precondition(absent=True)
    )
    assert stored.attestation is Attestation.WHOLE
    assert get("k") == body
    listed = named(config, source)
    put(source, KEY, b"other")
    upload = store.create_upload("k", ObjectAttributes(content_type="text/plain"))
    with pytest.raises(SourceChanged):
        copier.copy_part(listed, "k", upload, 1, 0, 5 * MIB)
