"""Deletions of one transfer on the head: last, only if all else succeeded, never too many, and never twice told."""

from __future__ import annotations

import time

import msgspec
import pytest

from gateway.records import what_of
from skyplane_core.coordinator import receipt, retry
from skyplane_core.coordinator.journal import BeganRecord, DeletingRecord, decode
from skyplane_core.coordinator.receipt import read_receipt
from skyplane_core.errors import PermissionDenied
from skyplane_core.filters import Filters, NameRule
from skyplane_core.model import ObjectInfo
from skyplane_core.spec import Compare, DeleteCap, Outcome, Progress, TransferOptions, TransferSpec, TransferState
from skyplane_core.units import counted
from tests.unit.gateway.memory_agent import STATE, MemoryStore, Reader, failing, objects, transfer

DENIED = PermissionDenied("no")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BASE_DELAY", 0.01)
    monkeypatch.setattr("skyplane_core.coordinator.deletions.SEGMENT_LINES", 50)
    monkeypatch.setattr(receipt, "SEGMENT_LINES", 50)


def mirror(objects: int | None = None, percent: float | None = None, filters: Filters | None = None) -> TransferSpec:
    spec = transfer(compare=Compare.SIZE, delete=True, max_delete=DeleteCap(objects, percent))
    return msgspec.structs.replace(
        spec, selection=msgspec.structs.replace(spec.selection, filters=filters or Filters())
    )


def there(*keys: str, version: str = "w") -> list[ObjectInfo]:
    return [ObjectInfo(f"to/{key}", 1, version) for key in keys]


def numbered(count: int) -> list[ObjectInfo]:
    return there(*(f"x{number:06d}" for number in range(count)))


def lines(store: MemoryStore, outcome: Outcome) -> list[str]:
    return sorted(line.destination_key for line in read_receipt(store.get_bytes, STATE)[1] if line.outcome is outcome)


def run(source: MemoryStore, destination: MemoryStore, spec: TransferSpec) -> Progress:
    return Reader(source, destination, spec).finish()


def test_what_no_source_object_maps_to_goes_and_nothing_else_does() -> None:
    extra = [*there("000000", "a", "a/b", "z"), ObjectInfo("other", 1, "w"), ObjectInfo("to/", 0, "w")]
    destination = MemoryStore([*extra, *there(".skyplane/earlier/receipt.json", "sub/.skyplane/x")])
    progress = run(MemoryStore(objects(2)), destination, mirror())
    assert (progress.state, progress.objects_deleted) == (TransferState.DONE, 3)
    assert lines(destination, Outcome.DELETED) == ["to/a", "to/a/b", "to/z"]
    assert sorted(destination.listed) == [
        "other", "to/", "to/.skyplane/earlier/receipt.json", "to/000000", "to/sub/.skyplane/x",
    ]  # fmt: skip
    assert sorted(key.rpartition("/")[2].partition("-")[0] for key in destination.state) == ["receipt", "receipt.json"]


@pytest.mark.parametrize("count", [1, 50, 51, 333])
def test_any_number_goes(count: int) -> None:
    destination = MemoryStore(numbered(count))
    assert run(MemoryStore(objects(1)), destination, mirror()).objects_deleted == count
    assert destination.listed == {}


@pytest.mark.parametrize(
    ("cap", "count", "held", "goes"),
    [
        (DeleteCap(3), 3, 3, True),
        (DeleteCap(2), 3, 300, False),
        (DeleteCap(0), 1, 1, False),
        (DeleteCap(None, 50), 3, 6, True),
        (DeleteCap(None, 50), 4, 7, False),
        (DeleteCap(None, 100), 5, 5, True),
        (DeleteCap(9, 10), 9, 90, True),
        (DeleteCap(9, 10), 9, 89, False),
        (DeleteCap(), 5, 5, True),
    ],
)
def test_beyond_the_cap_nothing_goes_and_all_is_copied(cap: DeleteCap, count: int, held: int, *, goes: bool) -> None:
    kept = [ObjectInfo(f"to/{number:06d}", 1, "w") for number in range(held - count)]
    destination = MemoryStore([*kept, *numbered(count)])
    source = MemoryStore(objects(held - count + 1))
    progress = run(source, destination, mirror(cap.objects, cap.percent))
    assert progress.objects_copied == 1
    assert progress.objects_deleted == (count if goes else 0)
    assert progress.state is (TransferState.DONE if goes else TransferState.FAILED)
    assert [key for key in destination.listed if "x" in key] == ([] if goes else [info.key for info in numbered(count)])
    if not goes:
        assert f"{count} of {counted(held, 'object')} ha" in progress.error


def test_by_default_at_most_half_and_at_most_a_thousand_go() -> None:
    assert TransferOptions().max_delete == DeleteCap(1000, 50)
    assert TransferOptions().delete is False


def test_nothing_goes_when_an_object_failed() -> None:
    destination = MemoryStore(there("z"))
    too_long = ObjectInfo("p/" + "k" * 2000, 1, "v1")
    progress = run(MemoryStore([*objects(2), too_long]), destination, mirror())
    assert (progress.state, progress.objects_copied, progress.objects_deleted) == (TransferState.FAILED, 2, 0)
    assert "to/z" in destination.listed


@pytest.mark.parametrize("side", ["source", "destination"])
def test_nothing_goes_when_a_listing_failed(side: str) -> None:
    source, destination = MemoryStore(objects(2)), MemoryStore(there("z"))
    store, prefix = (source, "p/") if side == "source" else (destination, "to/")

    def refuse(call: str, key: str) -> None:
        if call == "list" and key == prefix:
            raise DENIED

    store.refuse = refuse
    assert run(source, destination, mirror()).state is TransferState.FAILED
    assert "to/z" in destination.listed


def test_what_filters_leave_out_is_protected_on_both_sides() -> None:
    source = MemoryStore([ObjectInfo("p/keep.tmp", 1, "v1"), ObjectInfo("p/big", 100, "v1"), *objects(1)])
    destination = MemoryStore([*there("keep.tmp", "gone.tmp", "big", "gone"), ObjectInfo("to/large", 100, "w")])
    filters = Filters(rules=(NameRule(include=False, pattern="*.tmp"),), max_size=50)
    assert run(source, destination, mirror(filters=filters)).objects_deleted == 1
    assert sorted(destination.listed) == ["to/big", "to/gone.tmp", "to/keep.tmp", "to/large"]


def test_what_somebody_wrote_since_it_was_seen_stays_and_is_named() -> None:
    destination = MemoryStore(there("a", "b"))

    def rewrite(call: str, key: str) -> None:
        if call == "delete" and key == "to/a":
            destination.listed[key] = ObjectInfo(key, 1, "another")

    destination.refuse = rewrite
    progress = run(MemoryStore(objects(1)), destination, mirror())
    assert (progress.state, progress.objects_deleted, progress.objects_failed) == (TransferState.FAILED, 1, 1)
    assert progress.failures[0][0] == "to/a"
    assert list(destination.listed) == ["to/a"]


def test_what_is_gone_already_counts_as_deleted() -> None:
    destination = MemoryStore(there("a"))
    destination.refuse = lambda call, key: destination.listed.clear() if call == "delete" else None
    progress = run(MemoryStore(objects(1)), destination, mirror())
    assert (progress.state, progress.objects_deleted) == (TransferState.DONE, 1)


def test_what_came_to_the_source_meanwhile_stays() -> None:
    source, destination = MemoryStore(objects(1)), MemoryStore(there("late"))
    source.refuse = lambda call, _: (
        source.listed.update({"p/late": ObjectInfo("p/late", 1, "v")}) if call == "head" else None
    )
    progress = run(source, destination, mirror())
    assert (progress.state, progress.objects_deleted, progress.objects_skipped) == (TransferState.DONE, 0, 1)
    assert "to/late" in destination.listed


def test_a_refused_deletion_fails_by_name_and_the_others_go() -> None:
    destination = MemoryStore(there("a", "b", "c"))
    destination.refuse = failing("delete", "to/b", DENIED)
    progress = run(MemoryStore(objects(1)), destination, mirror())
    assert (progress.state, progress.objects_deleted, progress.failures[0][0]) == (TransferState.FAILED, 2, "to/b")


def test_a_list_that_cannot_be_made_durable_deletes_nothing() -> None:
    destination = MemoryStore(there("a"))
    destination.refuse = failing("put_bytes", f"{STATE}deletions", DENIED)
    assert run(MemoryStore(objects(1)), destination, mirror()).state is TransferState.FAILED
    assert "to/a" in destination.listed


def test_a_run_that_continues_tells_what_was_deleted_before_and_counts_it() -> None:
    destination = MemoryStore(numbered(60))
    destination.refuse = failing("delete", "to/x00003", DENIED)
    assert run(MemoryStore(objects(1)), destination, mirror(60)).objects_deleted == 50
    (journal,) = [key for key in destination.state if "journal" in key and b"deleting" in destination.state[key]]
    (record,) = [found for found in decode(destination.state[journal]) if isinstance(found, DeletingRecord)]
    assert (record.held, len(record.segments)) == (60, 2)
    destination.refuse = lambda call, key: None
    destination.listed |= {info.key: info for info in there("y")}
    assert "61 of 61" in run(MemoryStore(objects(1)), destination, mirror(60)).error
    assert len(destination.listed) == 11
    assert run(MemoryStore(objects(1)), destination, mirror(61)).state is TransferState.DONE
    assert len(lines(destination, Outcome.DELETED)) == 61
    assert destination.listed == {}
    assert not [key for key in destination.state if "journal" in key or "deletions" in key]


@pytest.mark.parametrize(("began", "told"), [(1000.0, "4 of 4 objects"), (None, "")])
def test_what_an_earlier_run_has_copied_does_not_raise_what_may_go(began: float | None, told: str) -> None:
    copied = [ObjectInfo(f"to/{number:06d}", 1, "w", 2000.0) for number in range(100)]
    old = [msgspec.structs.replace(info, modified=500.0) for info in there("a", "b", "c", "d")]
    destination = MemoryStore([*copied, *old])
    if began is not None:
        record = BeganRecord(what_of(mirror()), began)
        destination.state[f"{STATE}journal-0-000000.jsonl"] = msgspec.json.encode(record)
    progress = run(MemoryStore(objects(100)), destination, mirror(percent=50))
    assert progress.state is (TransferState.FAILED if told else TransferState.DONE)
    assert told in progress.error


def test_a_clock_that_is_behind_the_stores_changes_nothing_in_a_first_run() -> None:
    held = [ObjectInfo(f"to/{number:06d}", 1, "w", 2e9) for number in range(9)]
    destination = MemoryStore([*held, ObjectInfo("to/old", 1, "w", 2e9)])
    spec = msgspec.structs.replace(mirror(percent=10), created_at=1e9)
    reader = Reader(MemoryStore(objects(9)), destination, spec)

    def wait(call: str, key: str) -> None:
        # The record of this run is durable before the journals of earlier ones are looked for.
        while call == "list" and key == f"{STATE}journal-" and not destination.state:
            time.sleep(0.001)

    destination.refuse = wait
    progress = reader.finish()
    assert (progress.state, progress.objects_deleted) == (TransferState.DONE, 1)


def test_a_run_that_continues_without_deleting_still_tells_what_was_deleted_before() -> None:
    destination = MemoryStore(there("a", "b"))
    destination.refuse = failing("delete", "to/b", DENIED)
    assert run(MemoryStore(objects(1)), destination, mirror()).objects_deleted == 1
    destination.refuse = lambda call, key: None
    progress = run(MemoryStore(objects(1)), destination, transfer(compare=Compare.SIZE, part_size=10))
    assert (progress.state, lines(destination, Outcome.DELETED)) == (TransferState.DONE, ["to/a"])
    assert "to/b" in destination.listed


def test_a_journal_that_names_objects_of_others_has_none_of_them_read() -> None:
    destination = MemoryStore(there("a"))
    destination.state[f"{STATE}journal-0-000000.jsonl"] = msgspec.json.encode(DeletingRecord(("secret",), 1))
    assert run(MemoryStore(objects(1)), destination, mirror()).state is TransferState.DONE


def test_a_list_that_somebody_else_changed_deletes_nothing() -> None:
    destination = MemoryStore([*there("a"), ObjectInfo("other/secret", 1, "w")])

    def forge(call: str, key: str) -> None:
        if call == "get_bytes" and "deletions" in key:
            destination.state[key] = destination.state[key].replace(b"to/a", b"other/secret")

    destination.refuse = forge
    progress = run(MemoryStore(objects(1)), destination, mirror())
    assert (progress.state, progress.objects_deleted) == (TransferState.FAILED, 0)
    assert "changed by somebody else" in progress.error
    assert sorted(destination.listed) == ["other/secret", "to/a"]


def test_cancelling_stops_before_anything_goes() -> None:
    destination = MemoryStore(there("a"))
    reader = Reader(MemoryStore(objects(1)), destination, mirror())
    destination.refuse = lambda call, _: reader.run.cancel() if call == "put_bytes" else None
    assert reader.finish().state is TransferState.CANCELLED
    assert "to/a" in destination.listed
