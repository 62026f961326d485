"""Whole objects: attributes, checksums, preconditions, deletion, credentials."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from awscrt.checksums import crc32c

from skyplane_core.errors import (
    BucketNotFound,
    ChecksumMismatch,
    ObjectNotFound,
    PreconditionFailed,
    Unauthenticated,
)
from skyplane_core.model import Attestation, ObjectAttributes, Precondition, StoreConfig
from skyplane_core.stores.base import DataPath, ObjectStore
from skyplane_core.stores.registry import open_store
from tests.conformance.conftest import Put
from tests.conformance.store_case import Feature, Running, StoreCase


def test_a_put_replaces(put: Put, get: Callable[[str], bytes]) -> None:
    put("object", b"first")
    put("object", b"second")
    assert get("object") == b"second"


def test_what_a_put_attests(store: ObjectStore, put: Put) -> None:
    stored = put("object", b"content")
    assert stored.size == 7
    assert stored.attestation is not None or stored.crc32c is None
    assert stored.crc32c in (None, crc32c(b"content"))
    if store.capabilities.attestation is Attestation.WHOLE:
        assert stored.attestation is Attestation.WHOLE


def test_attributes_come_back(case: StoreCase, store: ObjectStore, data: DataPath, put: Put) -> None:
    stored = put("object", b"content", attributes=case.attributes)
    expected = case.attributes if case.has(Feature.ATTRIBUTES) else ObjectAttributes()
    assert _of_objects(store.head("object").attributes) == expected
    for size in (0, 3):
        read = data.read_into("object", stored.version, 0, memoryview(bytearray(size)))
        assert _of_objects(read.attributes) == expected


def _of_objects(attributes: ObjectAttributes | None) -> ObjectAttributes:
    """Without what only files have."""
    assert attributes is not None
    return msgspec.structs.replace(attributes, mtime_ns=None, mode=None)


def test_unicode_metadata_comes_back(case: StoreCase, store: ObjectStore, put: Put) -> None:
    metadata = {"name": "Dvořák", "sign": "🛰 日本", "padded": " x "}
    with case.outcome(Feature.METADATA_UNICODE, None):
        put("object", b"content", attributes=ObjectAttributes(content_type="text/plain", metadata=metadata))
        found = store.head("object").attributes
        assert found is not None
        assert (found.metadata == metadata) == case.has(Feature.METADATA_UNICODE)


def test_a_wrong_checksum(case: StoreCase, store: ObjectStore, put: Put) -> None:
    with case.outcome(Feature.PUT_CHECKSUM, ChecksumMismatch):
        stored = put("object", b"content", checksum=crc32c(b"other"))
        assert stored.attestation is None
    if case.has(Feature.PUT_CHECKSUM):
        with pytest.raises(ObjectNotFound):
            store.head("object")


def test_absent(case: StoreCase, store: ObjectStore, put: Put, get: Callable[[str], bytes]) -> None:
    put("new", b"first", precondition=Precondition(absent=True))
    with case.outcome(Feature.PUT_IF_ABSENT, PreconditionFailed):
        put("new", b"second", precondition=Precondition(absent=True))
    assert get("new") == (b"first" if case.has(Feature.PUT_IF_ABSENT) else b"second")


def test_exactly_this_version(case: StoreCase, store: ObjectStore, put: Put, get: Callable[[str], bytes]) -> None:
    first = put("object", b"first")
    with case.outcome(Feature.PUT_OF_VERSION, None):
        put("object", b"second", precondition=Precondition(version=first.version))
        assert get("object") == b"second"
    put("object", b"third")
    with case.outcome(Feature.PUT_IF_VERSION, PreconditionFailed):
        put("object", b"fourth", precondition=Precondition(version=first.version))
    store.delete("object")
    with case.outcome(Feature.PUT_IF_VERSION, PreconditionFailed):
        put("object", b"fifth", precondition=Precondition(version=first.version))


def test_the_capabilities_claim_no_more_than_is_kept(case: StoreCase, store: ObjectStore) -> None:
    puts = {Feature.PUT_IF_ABSENT, Feature.PUT_IF_VERSION, Feature.PUT_OF_VERSION}
    completions = {Feature.COMPLETE_IF_ABSENT, Feature.COMPLETE_IF_VERSION, Feature.COMPLETE_OF_VERSION}
    checks = {Feature.PUT_CHECKSUM, Feature.PART_CHECKSUM, Feature.WHOLE_CHECKSUM}
    assert not (store.capabilities.conditional_put and puts & set(case.gaps))
    assert not (store.capabilities.conditional_complete and completions & set(case.gaps))
    assert not (store.capabilities.attestation is Attestation.WHOLE and checks & set(case.gaps))


def test_delete(store: ObjectStore, put: Put) -> None:
    put("object", b"content")
    store.delete("object")
    with pytest.raises(ObjectNotFound):
        store.head("object")
    store.delete("object")


def test_a_conditional_delete(store: ObjectStore, put: Put) -> None:
    first = put("object", b"first")
    second = put("object", b"other")
    with pytest.raises(PreconditionFailed):
        store.delete("object", Precondition(version=first.version))
    assert store.head("object").version == second.version
    store.delete("object", Precondition(version=second.version))
    with pytest.raises(PreconditionFailed):
        store.delete("object", Precondition(version=second.version))


def test_a_head_of_nothing_names_it(store: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound) as caught:
        store.head("no/such key")
    assert caught.value.where == f"{store.uri}/no/such key"


def test_a_put_into_a_bucket_that_is_not_there(config: StoreConfig) -> None:
    path = open_store(msgspec.structs.replace(config, bucket=f"{config.bucket}-missing")).data()
    with pytest.raises(BucketNotFound):
        path.put_object(
            "object",
            memoryview(b"x"),
            crc32c=crc32c(b"x"),
            attributes=ObjectAttributes(),
            precondition=Precondition(),
        )
    path.close()


def test_wrong_credentials(case: StoreCase, running: Running, config: StoreConfig, put: Put) -> None:
    version = put("object", b"first").version
    if running.distrust is None:
        assert config.kind == "local", "only a directory has no credentials to be wrong"
        return
    distrusted = open_store(running.distrust(config))
    path = distrusted.data()
    with case.outcome(Feature.CREDENTIALS, Unauthenticated):
        distrusted.probe()
    with case.outcome(Feature.CREDENTIALS, Unauthenticated):
        list(distrusted.list())
    with case.outcome(Feature.CREDENTIALS, Unauthenticated):
        distrusted.head("object")
    with case.outcome(Feature.CREDENTIALS, Unauthenticated):
        path.read_into("object", version, 0, memoryview(bytearray(5)))
    with case.outcome(Feature.CREDENTIALS, Unauthenticated):
        path.put_object(
            "other",
            memoryview(b"x"),
            crc32c=crc32c(b"x"),
            attributes=ObjectAttributes(),
            precondition=Precondition(),
        )
    path.close()
    distrusted.close()
