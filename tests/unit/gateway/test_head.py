"""One transfer on the head, with stores in memory that fail where the test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import msgspec
import pytest

from skyplane_core.coordinator import receipt, retry
from skyplane_core.coordinator.journal import UploadRecord
from skyplane_core.coordinator.receipt import read_receipt
from skyplane_core.errors import ObjectNotFound, PermissionDenied
from skyplane_core.model import ObjectInfo, PartLease, PartTarget, StoredPart
from skyplane_core.spec import TransferState
from tests.unit.gateway.memory_agent import CRC, STATE, MemoryStore, Reader, failing, objects, transfer

DENIED = PermissionDenied("no")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BASE_DELAY", 0.01)
    monkeypatch.setattr(receipt, "SEGMENT_LINES", 50)


def earlier(store: MemoryStore, upload_id: str, key: str = "000000") -> None:
    """What an earlier coordinator of the same transfer left: a journal and an open upload."""
    record = UploadRecord(f"p/{key}", "v1", 40, 0, f"to/{key}", upload_id, 10)
    store.state[f"{STATE}journal-0-000000.jsonl"] = msgspec.json.encode(record) + b"\n"
    store.uploads[upload_id] = {1: StoredPart(1, "id-1", 10)}


def journals(store: MemoryStore) -> list[str]:
    return [key for key in store.state if "journal" in key]


def test_small_and_striped_objects_arrive_and_only_the_receipt_stays() -> None:
    destination = MemoryStore()
    progress = Reader(MemoryStore([*objects(200), *objects(201, 45)[200:]]), destination).finish()
    assert (progress.state, progress.objects_copied) == (TransferState.DONE, 201)
    assert destination.uploads == {}
    assert not journals(destination)
    assert len(list(read_receipt(destination.get_bytes, STATE)[1])) == 201


def test_a_resumed_transfer_that_succeeds_leaves_no_journal_of_any_coordinator() -> None:
    destination = MemoryStore()
    earlier(destination, "old")
    progress = Reader(MemoryStore(objects(1, 40)), destination).finish()
    assert progress.state is TransferState.DONE
    assert destination.uploads == {}
    assert not journals(destination)
    assert len(destination.state) == 2


def test_a_resumed_transfer_replaces_the_receipts_of_earlier_coordinators() -> None:
    destination = MemoryStore()
    destination.state[f"{STATE}receipt-0-000000.jsonl"] = b"{}"
    assert Reader(MemoryStore(objects(1)), destination).finish().state is TransferState.DONE
    assert f"{STATE}receipt-0-000000.jsonl" not in destination.state
    assert len(list(read_receipt(destination.get_bytes, STATE)[1])) == 1


def test_a_journal_that_is_deleted_between_its_listing_and_its_reading_is_over() -> None:
    destination = MemoryStore()
    destination.state[f"{STATE}journal-0-000000.jsonl"] = b""
    destination.refuse = failing("get_bytes", f"{STATE}journal-0", ObjectNotFound("deleted"))
    assert Reader(MemoryStore(objects(1)), destination).finish().state is TransferState.DONE


@pytest.mark.parametrize(
    ("crc32c", "size", "sent"),
    [(CRC, 10, 3), (None, 10, 4), (CRC, 9, 4)],
    ids=["listed-with-checksum", "no-checksum", "another-size"],
)
def test_a_stored_part_whose_ack_was_not_noted_yet_is_not_sent_again_if_the_store_knows_its_checksum(
    crc32c: int | None, size: int, sent: int
) -> None:
    destination = MemoryStore()
    earlier(destination, "old")
    destination.uploads["old"] = {1: StoredPart(1, "id-1", size, crc32c)}
    reader = Reader(MemoryStore(objects(1, 40)), destination)
    assert reader.finish().state is TransferState.DONE
    assert reader.parts_sent == sent
    assert destination.aborted == []


def test_a_receipt_segment_that_cannot_be_stored_fails_the_transfer_and_does_not_hang_it() -> None:
    destination = MemoryStore()
    destination.refuse = failing("put_bytes", f"{STATE}receipt", DENIED)
    reader = Reader(MemoryStore(objects(300)), destination)
    progress = reader.finish()
    assert progress.state is TransferState.FAILED
    assert "no" in progress.error


def test_a_receipt_names_every_object_although_storing_a_segment_failed_once() -> None:
    destination = MemoryStore()
    destination.refuse = failing("put_bytes", f"{STATE}receipt", DENIED, times=1)
    progress = Reader(MemoryStore(objects(300)), destination).finish()
    totals, lines = read_receipt(destination.get_bytes, STATE)
    keys = [line.key for line in lines]
    assert len(keys) == len(set(keys)) == progress.objects_copied + progress.objects_failed
    assert (progress.state, totals.state) == (TransferState.FAILED, TransferState.FAILED)


def test_a_slow_receipt_does_not_hold_up_the_results_of_leases() -> None:
    destination = MemoryStore()
    blocked = threading.Event()

    def slow(call: str, key: str) -> None:
        if call == "put_bytes" and "receipt-" in key:
            assert blocked.wait(10)

    destination.refuse = slow
    reader = Reader(MemoryStore(objects(400)), destination)
    reader.run.start()
    deadline = time.monotonic() + 10
    while reader.run.progress().objects_copied < 400 and time.monotonic() < deadline:
        time.sleep(0.01)
    copied = reader.run.progress().objects_copied
    blocked.set()
    assert reader.run.join(10)
    assert copied == 400


def test_a_journal_that_cannot_be_deleted_is_litter_and_no_failure() -> None:
    destination = MemoryStore()
    destination.refuse = failing("delete", error=DENIED)
    progress = Reader(MemoryStore(objects(1, 40)), destination).finish()
    assert progress.state is TransferState.DONE


def test_no_thread_is_left_when_the_receipt_cannot_be_closed() -> None:
    destination = MemoryStore()
    destination.refuse = failing("put_bytes", f"{STATE}receipt.json", DENIED)
    before = set(threading.enumerate())
    assert Reader(MemoryStore(objects(3)), destination).finish().state is TransferState.FAILED
    deadline = time.monotonic() + 5
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


@pytest.mark.parametrize("bug", [ValueError("a bug"), DENIED])
def test_a_journal_that_cannot_be_written_ends_the_transfer(bug: Exception) -> None:
    destination = MemoryStore()
    destination.refuse = failing("put_bytes", f"{STATE}journal", bug)
    progress = Reader(MemoryStore(objects(3, 40)), destination).finish()
    assert progress.state is TransferState.FAILED
    assert destination.uploads == {}


def test_an_upload_that_could_not_be_aborted_stays_in_the_journal() -> None:
    destination = MemoryStore()
    destination.refuse = failing("abort_upload", error=DENIED)
    reader = Reader(MemoryStore(objects(1, 40)), destination)
    reader.idle = True
    reader.run.start()
    deadline = time.monotonic() + 10
    while not destination.uploads and time.monotonic() < deadline:
        time.sleep(0.01)
    reader.run.cancel()
    assert reader.run.join(10)
    assert reader.run.progress().state is TransferState.CANCELLED
    assert destination.uploads
    assert journals(destination)


def test_a_listing_that_fails_midway_keeps_the_uploads_that_another_run_will_continue() -> None:
    destination = MemoryStore()
    earlier(destination, "old", key="000009")
    source = MemoryStore(objects(1))

    def listing(*_args: object, **_kw: object) -> Iterator[ObjectInfo]:
        yield from objects(1)
        raise DENIED

    source.list = listing  # type: ignore[method-assign]
    progress = Reader(source, destination).finish()
    assert progress.state is TransferState.FAILED
    assert "old" in destination.uploads
    assert journals(destination)


def test_a_transfer_that_stalls_keeps_the_uploads_that_it_had_not_come_to() -> None:
    destination = MemoryStore()
    earlier(destination, "old", key="999999")
    reader = Reader(MemoryStore(objects(6000)), destination, transfer(progress_timeout=0.6))
    reader.idle = True
    assert reader.finish().state is TransferState.FAILED
    assert "old" in destination.uploads
    assert journals(destination)


def test_a_store_that_nobody_reaches_is_named_when_the_transfer_stalls() -> None:
    destination = MemoryStore()
    reader = Reader(MemoryStore(objects(1)), destination, transfer(progress_timeout=0.2))

    def unanswered(call: str, _key: str) -> None:
        if call == "get_bytes" or (call == "list" and not reader.run.stopping):
            destination.trouble = "w1: a gateway cannot be dialled"
            while not reader.run.stopping:
                time.sleep(0.01)
            raise DENIED

    destination.refuse = unanswered
    progress = reader.finish()
    assert progress.state is TransferState.FAILED
    assert "w1: a gateway cannot be dialled" in progress.error


def test_reading_a_long_journal_is_progress() -> None:
    destination = MemoryStore()
    for number in range(80):
        destination.state[f"{STATE}journal-0-{number:06d}.jsonl"] = b""

    def slow(call: str, key: str) -> None:
        if call == "get_bytes" and "journal" in key:
            time.sleep(0.05)
            destination.answered_at = time.monotonic()

    destination.refuse = slow
    progress = Reader(MemoryStore(objects(3)), destination, transfer(progress_timeout=0.5)).finish()
    assert progress.state is TransferState.DONE


def test_a_failed_objects_waiting_parts_do_not_keep_admission_waiting() -> None:
    reader = Reader(MemoryStore(), MemoryStore())
    run = reader.run
    gone = PartLease(9, 1, "gone", "v1", 0, 1, (PartTarget(0, "gone"),))
    for _ in range(5000):
        run._machine.table.add(gone)
    admitted: Future[bool] = Future()
    waiting = threading.Thread(target=lambda: admitted.set_result(run.wait_for_room()), daemon=True)
    waiting.start()
    time.sleep(0.05)
    run._admitting = False
    run._loop()
    assert admitted.result(5)
    run._records.end_journal(discard=False)


def test_a_result_that_cannot_be_digested_fails_the_transfer_and_not_the_thread_that_brought_it() -> None:
    reader = Reader(MemoryStore(objects(1)), MemoryStore())
    reader.idle = True
    reader.run.start()
    reader.run.deliver(None)  # type: ignore[arg-type]
    assert reader.run.join(10)
    assert reader.run.progress().state is TransferState.FAILED


def test_an_upload_that_is_over_is_forgotten_by_the_next_run() -> None:
    destination = MemoryStore()
    reader = Reader(MemoryStore([*objects(2, 40), ObjectInfo("p/x", 1, "v1")]), destination)
    destination.refuse = failing("put_bytes", f"{STATE}receipt", DENIED)
    assert reader.finish().state is TransferState.FAILED
    assert journals(destination)
    destination.refuse = lambda call, key: None
    again = Reader(MemoryStore([]), destination)
    assert again.finish().state is TransferState.DONE
    assert destination.aborted == []
    assert not journals(destination)


def test_a_completion_that_takes_long_is_waited_for() -> None:
    destination = MemoryStore()

    def slow(call: str, _key: str) -> None:
        if call == "complete_upload":
            time.sleep(1.5)

    destination.refuse = slow
    options = transfer(progress_timeout=0.5)
    progress = Reader(MemoryStore(objects(1, 40)), destination, options).finish()
    assert progress.state is TransferState.DONE


@pytest.mark.parametrize("keep", [True, False])
def test_what_fails_as_a_whole_leaves_its_uploads_to_whoever_continues_it(keep: bool) -> None:
    destination = MemoryStore()
    reader = Reader(
        MemoryStore(objects(1, 40)), destination, transfer(progress_timeout=0.6, keep_uploads=keep, part_size=10)
    )
    reader.idle = True
    assert reader.finish().state is TransferState.FAILED
    assert len(destination.uploads) == int(keep)
    assert bool(destination.aborted) is not keep
