"""Objects written part by part."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from awscrt.checksums import crc32c

from skyplane_core.errors import (
    ChecksumMismatch,
    ObjectNotFound,
    PreconditionFailed,
    StoreRejected,
    UploadNotFound,
)
from skyplane_core.model import Attestation, ObjectAttributes, Precondition, Stored, StoredPart
from skyplane_core.stores.base import DataPath, ObjectStore
from tests.conformance.conftest import Put
from tests.conformance.store_case import Feature, StoreCase

TAIL = 70_001


class Striped:
    """An object of two large parts and a small one, and its upload."""

    def __init__(self, case: StoreCase, store: ObjectStore, data: DataPath, key: str = "striped") -> None:
        self.part_size = case.large_part
        self.content = os.urandom(1000) * (2 * self.part_size // 1000 + 1)
        self.content = self.content[: 2 * self.part_size] + os.urandom(TAIL)
        self.size = len(self.content)
        self.crc32c = crc32c(self.content)
        self.key = key
        self._store = store
        self._data = data
        self._attributes = case.attributes
        self.open()

    def open(self) -> None:
        self.upload = self._store.create_upload(self.key, self._attributes)

    def put(self, number: int, content: bytes | None = None, checksum: int | None = None) -> StoredPart:
        offset = (number - 1) * self.part_size
        part = memoryview(content or self.content[offset : offset + self.part_size])
        return self._data.put_part(
            self.key, self.upload, number, offset, part, crc32c=crc32c(part) if checksum is None else checksum
        )

    def put_all(self) -> list[StoredPart]:
        parts = {number: self.put(number) for number in (3, 1, 2)}
        return [parts[number] for number in (1, 2, 3)]

    def complete(
        self, parts: list[StoredPart], precondition: Precondition = Precondition(), checksum: int | None = None
    ) -> Stored:
        return self._store.complete_upload(
            self.key,
            self.upload,
            parts,
            size=self.size,
            crc32c=self.crc32c if checksum is None else checksum,
            precondition=precondition,
        )


@pytest.fixture
def striped(case: StoreCase, store: ObjectStore, data: DataPath) -> Striped:
    return Striped(case, store, data)


def test_parts_in_any_order_become_an_object(
    case: StoreCase, store: ObjectStore, striped: Striped, get: Callable[[str], bytes]
) -> None:
    parts = striped.put_all()
    assert [part.size for part in parts] == [striped.part_size, striped.part_size, TAIL]
    with pytest.raises(ObjectNotFound):
        store.head(striped.key)
    assert list(store.list()) == []
    stored = striped.complete(parts)
    assert stored.size == striped.size
    assert stored.version == store.head(striped.key).version
    assert [(info.key, info.size) for info in store.list()] == [(striped.key, striped.size)]
    assert list(store.list_uploads()) == []
    assert get(striped.key) == striped.content
    if case.has(Feature.ATTRIBUTES):
        assert store.head(striped.key).attributes == case.attributes


def test_what_a_completion_attests(case: StoreCase, store: ObjectStore, striped: Striped) -> None:
    stored = striped.complete(striped.put_all())
    claimed = store.capabilities.attestation
    if not case.has(Feature.WHOLE_CHECKSUM):
        assert stored.attestation is None
    elif claimed is not Attestation.READ_BACK:
        assert stored.attestation is claimed
    assert stored.crc32c in (None, striped.crc32c)
    assert stored.crc32c is not None or stored.attestation is not Attestation.WHOLE
    assert store.head(striped.key).crc32c in (None, striped.crc32c)


def test_the_listed_parts_are_those_that_were_put(store: ObjectStore, striped: Striped) -> None:
    assert list(store.list_parts(striped.key, striped.upload)) == []
    third = striped.put(3)
    first = striped.put(1)
    assert list(store.list_parts(striped.key, striped.upload)) == [first, third]


def test_a_completion_from_listed_parts(store: ObjectStore, striped: Striped, get: Callable[[str], bytes]) -> None:
    striped.put_all()
    striped.complete(list(store.list_parts(striped.key, striped.upload)))
    assert get(striped.key) == striped.content


def test_a_part_that_is_put_again_replaces_the_first(
    case: StoreCase, store: ObjectStore, striped: Striped, get: Callable[[str], bytes]
) -> None:
    striped.put(1, content=b"x" * striped.part_size)
    striped.put(3, content=b"y" * (TAIL + 1))
    parts = striped.put_all()
    # Where both are kept nobody can tell which came last, and neither may be taken for stored.
    expected = parts if case.has(Feature.PART_REPLACED) else parts[1:2]
    assert list(store.list_parts(striped.key, striped.upload)) == expected
    striped.complete(parts)
    assert get(striped.key) == striped.content


def test_a_single_part(store: ObjectStore, data: DataPath, get: Callable[[str], bytes]) -> None:
    upload = store.create_upload("single", ObjectAttributes())
    part = data.put_part("single", upload, 1, 0, memoryview(b"small"), crc32c=crc32c(b"small"))
    store.complete_upload("single", upload, [part], size=5, crc32c=crc32c(b"small"), precondition=Precondition())
    assert get("single") == b"small"


def test_a_repeated_completion_returns_the_same(case: StoreCase, striped: Striped) -> None:
    parts = striped.put_all()
    stored = striped.complete(parts)
    with case.outcome(Feature.REPEATED_COMPLETE, None):
        assert striped.complete(parts) == stored


def test_a_repeated_conditional_completion(case: StoreCase, striped: Striped) -> None:
    parts = striped.put_all()
    stored = striped.complete(parts, Precondition(absent=True))
    with case.outcome(Feature.REPEATED_COMPLETE, None):
        assert striped.complete(parts, Precondition(absent=True)) == stored


def test_a_repetition_does_not_claim_somebody_elses_object(case: StoreCase, striped: Striped, put: Put) -> None:
    parts = striped.put_all()
    striped.complete(parts)
    put(striped.key, b"somebody else's")
    with case.outcome(Feature.REPEAT_AFTER_OVERWRITE, UploadNotFound):
        striped.complete(parts)


def test_a_wrong_part_checksum(case: StoreCase, store: ObjectStore, striped: Striped) -> None:
    with case.outcome(Feature.PART_CHECKSUM, ChecksumMismatch):
        striped.put(1, checksum=crc32c(b"other"))
    if case.has(Feature.PART_CHECKSUM):
        assert list(store.list_parts(striped.key, striped.upload)) == []


def test_a_wrong_whole_checksum(case: StoreCase, store: ObjectStore, striped: Striped) -> None:
    parts = striped.put_all()
    with case.outcome(Feature.WHOLE_CHECKSUM, ChecksumMismatch):
        assert striped.complete(parts, checksum=crc32c(b"other")).attestation is None
    if case.has(Feature.WHOLE_CHECKSUM):
        with pytest.raises(ObjectNotFound):
            store.head(striped.key)


def test_parts_that_are_not_the_whole(store: ObjectStore, striped: Striped) -> None:
    parts = striped.put_all()
    with pytest.raises((StoreRejected, ChecksumMismatch)):
        striped.complete(parts[:2])
    with pytest.raises(ObjectNotFound):
        store.head(striped.key)


def test_abort(case: StoreCase, store: ObjectStore, striped: Striped) -> None:
    part = striped.put(1)
    store.abort_upload(striped.key, striped.upload)
    store.abort_upload(striped.key, striped.upload)
    assert list(store.list_uploads()) == []
    with case.outcome(Feature.LIST_ABORTED, UploadNotFound):
        list(store.list_parts(striped.key, striped.upload))
    with case.outcome(Feature.ABORTED_PART, UploadNotFound):
        striped.put(2)
    striped.size, striped.crc32c = part.size, crc32c(striped.content[: part.size])
    with case.outcome(Feature.COMPLETE_ABORTED, UploadNotFound):
        striped.complete([part])


def test_uploads_are_listed_by_prefix(store: ObjectStore) -> None:
    opened = {(key, store.create_upload(key, ObjectAttributes())) for key in ("a/1", "a/2", "b/ü +%")}
    assert set(store.list_uploads()) == opened
    assert {key for key, _ in store.list_uploads("a/")} == {"a/1", "a/2"}
    assert {key for key, _ in store.list_uploads("b/ü +%")} == {"b/ü +%"}
    for key, upload in opened:
        store.abort_upload(key, upload)
    assert list(store.list_uploads()) == []


def test_two_uploads_of_one_key(
    case: StoreCase, store: ObjectStore, data: DataPath, get: Callable[[str], bytes]
) -> None:
    first, second = (store.create_upload("twice", ObjectAttributes()) for _ in range(2))
    assert sorted(store.list_uploads()) == sorted([("twice", first), ("twice", second)])
    part = data.put_part("twice", second, 1, 0, memoryview(b"two"), crc32c=crc32c(b"two"))
    store.complete_upload("twice", second, [part], size=3, crc32c=crc32c(b"two"), precondition=Precondition())
    assert list(store.list_uploads()) == ([("twice", first)] if case.has(Feature.UPLOAD_SURVIVES_COMMITS) else [])
    store.abort_upload("twice", first)
    assert get("twice") == b"two"


def test_absent(case: StoreCase, store: ObjectStore, striped: Striped, put: Put, get: Callable[[str], bytes]) -> None:
    parts = striped.put_all()
    put(striped.key, b"first come")
    with case.outcome(Feature.UPLOAD_SURVIVES_WRITES, None):
        list(store.list_parts(striped.key, striped.upload))
    if not case.has(Feature.UPLOAD_SURVIVES_WRITES):
        striped.open()
        parts = striped.put_all()
    with case.outcome(Feature.COMPLETE_IF_ABSENT, PreconditionFailed):
        striped.complete(parts, Precondition(absent=True))
    if case.has(Feature.COMPLETE_IF_ABSENT):
        assert get(striped.key) == b"first come"
        store.delete(striped.key)
        with case.outcome(Feature.UPLOAD_SURVIVES_DELETES, None):
            striped.complete(parts, Precondition(absent=True))


def test_exactly_this_version(
    case: StoreCase, store: ObjectStore, striped: Striped, put: Put, get: Callable[[str], bytes]
) -> None:
    parts = striped.put_all()
    first = put(striped.key, b"first")
    second = put(striped.key, b"second")
    if not case.has(Feature.UPLOAD_SURVIVES_WRITES):
        striped.open()
        parts = striped.put_all()
    with case.outcome(Feature.COMPLETE_IF_VERSION, PreconditionFailed):
        striped.complete(parts, Precondition(version=first.version))
    if case.has(Feature.COMPLETE_IF_VERSION):
        assert get(striped.key) == b"second"
        striped.complete(parts, Precondition(version=second.version))
        assert get(striped.key) == striped.content
