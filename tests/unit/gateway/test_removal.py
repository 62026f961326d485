"""A move on the head: what has arrived goes at the source, as it was copied, and only if everything arrived."""

from __future__ import annotations

import msgspec
import pytest

from skyplane_core.coordinator import receipt, retry
from skyplane_core.coordinator.receipt import read_receipt
from skyplane_core.errors import PermissionDenied
from skyplane_core.model import ObjectAttributes, ObjectInfo
from skyplane_core.spec import (
    Compare,
    Destination,
    KeyMapping,
    MappingKind,
    Outcome,
    Progress,
    Selection,
    TransferState,
)
from tests.unit.gateway.memory_agent import STATE, MemoryStore, Reader, failing, objects, transfer


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BASE_DELAY", 0.01)
    monkeypatch.setattr(receipt, "SEGMENT_LINES", 50)


def move(source: MemoryStore, destination: MemoryStore, compare: Compare = Compare.ALWAYS, **how: bool) -> Progress:
    return Reader(source, destination, transfer(move=True, compare=compare, **how)).finish()


def held(key: str, crc32c: int | None = 5, size: int = 1, version: str = "v1", **attributes: str) -> ObjectInfo:
    return ObjectInfo(key, size, version, crc32c=crc32c, attributes=ObjectAttributes(**attributes))  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 50, 333])
def test_everything_that_was_copied_goes(count: int) -> None:
    source, destination = MemoryStore([*objects(count), ObjectInfo("other", 1, "v")]), MemoryStore()
    progress = move(source, destination)
    assert (progress.state, progress.objects_copied) == (TransferState.DONE, count)
    assert list(source.listed) == ["other"]
    copied = [line for line in read_receipt(destination.get_bytes, STATE)[1] if line.outcome is Outcome.COPIED]
    assert len(copied) == count


def test_what_was_left_alone_at_the_destination_stays_at_the_source() -> None:
    source, destination = MemoryStore(objects(2)), MemoryStore([ObjectInfo("to/000000", 1, "w")])
    assert move(source, destination, Compare.NAME).state is TransferState.DONE
    assert list(source.listed) == ["p/000000"]


def test_what_the_destination_holds_already_goes_where_that_is_asked_for() -> None:
    source = MemoryStore([held(f"p/{name}") for name in ("body", "gone", "new", "same", "size", "type", "unknown")])
    copies = {
        "body": held("to/body", 6),
        "gone": held("to/gone"),
        "same": held("to/same", version="7"),
        "size": held("to/size", size=2),
        "type": held("to/type", content_type="text/plain"),
        "unknown": held("to/unknown", None),
    }
    destination = MemoryStore(list(copies.values()))

    def taken_away(call: str, key: str) -> None:
        if call == "head" and key == "to/gone":
            destination.listed.pop(key, None)

    destination.refuse = taken_away
    progress = move(source, destination, Compare.NAME, move_same=True)
    assert (progress.state, progress.objects_copied, progress.objects_skipped) == (TransferState.DONE, 1, 6)
    assert sorted(source.listed) == ["p/body", "p/gone", "p/size", "p/type", "p/unknown"]


def test_a_source_that_was_written_since_it_was_compared_stays() -> None:
    source, destination = MemoryStore([held("p/a")]), MemoryStore([held("to/a")])

    def changed(call: str, key: str) -> None:
        if call == "head":
            source.listed[key] = held(key, version="v2")

    source.refuse = changed
    assert move(source, destination, Compare.NAME, move_same=True).state is TransferState.DONE
    assert list(source.listed) == ["p/a"]


def test_nothing_goes_if_something_did_not_arrive() -> None:
    source, destination = MemoryStore([*objects(2), ObjectInfo("p/" + "x" * 2000, 1, "v")]), MemoryStore()
    progress = move(source, destination)
    assert (progress.state, progress.objects_copied, progress.objects_failed) == (TransferState.FAILED, 2, 1)
    assert len(source.listed) == 3


def test_what_has_changed_since_it_was_copied_stays_and_fails_by_name() -> None:
    source, destination = MemoryStore(objects(3)), MemoryStore()

    def changed(call: str, key: str) -> None:
        if call == "delete" and key == "p/000001":
            source.listed[key] = ObjectInfo(key, 1, "v2")

    source.refuse = changed
    progress = move(source, destination)
    assert progress.state is TransferState.FAILED
    assert list(source.listed) == ["p/000001"]
    [(key, reason)] = progress.failures
    assert key == "p/000001"
    assert "has changed since, and stays" in reason


def test_what_is_gone_already_is_no_failure() -> None:
    source, destination = MemoryStore(objects(2)), MemoryStore()

    def lost(call: str, key: str) -> None:
        if call == "delete":
            source.listed.pop("p/000001", None)

    source.refuse = lost
    assert move(source, destination).state is TransferState.DONE
    assert source.listed == {}


def test_what_may_not_be_deleted_fails_by_name() -> None:
    source, destination = MemoryStore(objects(2)), MemoryStore()
    source.refuse = failing("delete", "p/000000", PermissionDenied("no"))
    progress = move(source, destination)
    assert (progress.state, progress.objects_failed) == (TransferState.FAILED, 1)
    assert list(source.listed) == ["p/000000"]


def test_what_was_copied_onto_itself_is_not_deleted() -> None:
    store = MemoryStore(objects(2))
    spec = transfer(move=True)
    there = Destination(spec.source, KeyMapping(MappingKind.REPLACE, "p/000000", "p/000000"))
    spec = msgspec.structs.replace(spec, destinations=(there,), selection=Selection("p/"))
    progress = Reader(store, store, spec).finish()
    assert progress.state is TransferState.FAILED
    assert len(store.listed) == 2


def test_a_receipt_that_somebody_changed_deletes_nothing() -> None:
    source, destination = MemoryStore(objects(2)), MemoryStore()

    def changed(call: str, key: str) -> None:
        if call == "get_bytes" and "receipt-" in key:
            destination.state[key] = destination.state[key].replace(b"p/000000", b"p/000001")

    destination.refuse = changed
    progress = move(source, destination)
    assert progress.state is TransferState.FAILED
    assert "changed after it was stored" in progress.error
    assert len(source.listed) == 2
