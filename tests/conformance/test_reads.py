"""Reads: ranges, exactness, and the pin to a version."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from skyplane_core.errors import ObjectNotFound, SourceChanged, StoreError
from skyplane_core.stores.base import LANDING, DataPath, ObjectStore
from tests.conformance.conftest import Put

CONTENT = os.urandom(3_000_017)


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 1), (0, 3_000_017), (1, 65_536), (2_000_000, 1_000_017), (3_000_016, 1), (5, 0)]
)
def test_a_range_fills_the_buffer_exactly(store: ObjectStore, data: DataPath, put: Put, offset: int, size: int) -> None:
    version = put("object", CONTENT).version
    room = bytearray(b"." * (size + 2))
    data.read_into("object", version, offset, memoryview(room)[1 : size + 1])
    assert bytes(room) == b"." + CONTENT[offset : offset + size] + b"."


def test_what_has_landed_is_there_and_is_told_in_order(data: DataPath, put: Put) -> None:
    version = put("object", CONTENT).version
    buffer = bytearray(len(CONTENT))
    told: list[int] = []

    def landed(end: int) -> None:
        assert bytes(buffer[:end]) == CONTENT[:end]
        told.append(end)

    data.read_into("object", version, 0, memoryview(buffer), whole=True, landed=landed)
    assert bytes(buffer) == CONTENT
    assert told == sorted(set(told))
    # Often enough for a core's cache.
    assert all(later - earlier <= 2 * LANDING for earlier, later in zip([0, *told], [*told, len(CONTENT)], strict=True))


def test_a_connection_serves_read_after_read(data: DataPath, put: Put) -> None:
    version = put("object", CONTENT).version
    buffer = bytearray(100_000)
    for offset in range(0, 2_000_000, 250_001):
        data.read_into("object", version, offset, memoryview(buffer))
        assert bytes(buffer) == CONTENT[offset : offset + 100_000]


def test_an_empty_object(store: ObjectStore, data: DataPath, put: Put, get: Callable[[str], bytes]) -> None:
    version = put("empty").version
    assert store.head("empty").size == 0
    assert [(info.key, info.size) for info in store.list()] == [("empty", 0)]
    data.read_into("empty", version, 0, memoryview(bytearray()))
    assert get("empty") == b""


def test_more_than_there_is_fails(data: DataPath, put: Put) -> None:
    version = put("object", b"12345").version
    for offset in (0, 3, 5, 100):
        with pytest.raises(StoreError):
            data.read_into("object", version, offset, memoryview(bytearray(6)))


@pytest.mark.parametrize("size", [0, 5])
def test_an_overwritten_object_is_not_read(store: ObjectStore, data: DataPath, put: Put, size: int) -> None:
    version = put("object", b"first").version
    assert put("object", b"other").version != version
    with pytest.raises(SourceChanged) as caught:
        data.read_into("object", version, 0, memoryview(bytearray(size)))
    assert "object" in caught.value.where


@pytest.mark.parametrize("size", [0, 5])
def test_a_deleted_object_is_not_read(store: ObjectStore, data: DataPath, put: Put, size: int) -> None:
    version = put("object", b"first").version
    store.delete("object")
    with pytest.raises(SourceChanged):
        data.read_into("object", version, 0, memoryview(bytearray(size)))
    with pytest.raises(ObjectNotFound):
        store.head("object")


def test_a_failed_read_leaves_the_connection_usable(data: DataPath, put: Put) -> None:
    version = put("object", b"first").version
    for _ in range(3):
        with pytest.raises(SourceChanged):
            data.read_into("gone", version, 0, memoryview(bytearray(5)))
        buffer = bytearray(5)
        data.read_into("object", version, 0, memoryview(buffer))
        assert buffer == b"first"


def test_the_version_is_the_same_from_every_call(store: ObjectStore, put: Put) -> None:
    stored = put("object", b"first")
    assert stored.size == 5
    assert store.head("object").version == stored.version
    assert [info.version for info in store.list()] == [stored.version]
