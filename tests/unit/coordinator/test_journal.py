from __future__ import annotations

import time

import pytest

from skyplane_core.coordinator import journal as journal_module
from skyplane_core.coordinator.journal import (
    AckRecord,
    BeganRecord,
    Journal,
    UploadRecord,
    decode,
    journal_keys,
    replay,
)
from skyplane_core.coordinator.receipt import SEGMENT_LINES, ReceiptWriter, read_receipt
from skyplane_core.errors import ObjectNotFound, StoreUnavailable
from skyplane_core.model import Attestation, ObjectInfo, PartAck, StoredPart
from skyplane_core.spec import Outcome, Progress, ReceiptLine, TransferState


class DictStore:
    """State objects in a dict: the two calls that journal and receipt make, and a listing."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.broken = False

    def put_bytes(self, key: str, data: bytes) -> None:
        if self.broken:
            raise StoreUnavailable("the store is down", where=key)
        self.objects[key] = data

    def get_bytes(self, key: str) -> bytes:
        if key not in self.objects:
            raise ObjectNotFound("no such object", where=key)
        return self.objects[key]

    def list(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> list[ObjectInfo]:
        return [ObjectInfo(key, 1, "v") for key in sorted(self.objects) if key.startswith(prefix)]

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)


def upload(upload_id: str, key: str = "a") -> UploadRecord:
    return UploadRecord(key, "v1", 100, 0, f"to/{key}", upload_id, 10)


def acked(upload_id: str, part: int) -> AckRecord:
    return AckRecord(upload_id, PartAck(1, part, 0, 10, 7, StoredPart(part, f"etag-{part}", 10)))


def test_an_upload_is_durable_when_record_returns() -> None:
    store = DictStore()
    journal = Journal(store, "p/.skyplane/t/", "1")
    journal.record(upload("u1"))
    (data,) = store.objects.values()
    assert list(decode(data)) == [upload("u1")]
    journal.close(discard=False)
    assert journal_keys(store, "p/.skyplane/t/") == list(store.objects)


def test_a_record_that_cannot_be_stored_is_an_error_for_whoever_waits_for_it() -> None:
    store = DictStore()
    journal = Journal(store, "t/", "1")
    store.broken = True
    with pytest.raises(StoreUnavailable):
        journal.record(upload("u1"))
    store.broken = False
    journal.record(upload("u2"))
    journal.close(discard=True)
    assert store.objects == {}


def test_replay_joins_uploads_with_their_acks_in_whatever_order_they_come() -> None:
    found = replay([acked("u1", 2), upload("u1"), upload("u2"), acked("u1", 1), acked("unknown", 1)])
    ours = {r.upload.upload_id: sorted(r.acks) for r in found["a", 0]}
    assert ours == {"u1": [1, 2], "u2": []}


def line(number: int) -> ReceiptLine:
    return ReceiptLine(f"k{number}", 0, f"to/k{number}", 1, "v", Outcome.COPIED, "new", 1, "d", 1, Attestation.WHOLE)


def test_a_receipt_is_readable_only_when_it_is_closed_and_then_has_every_line() -> None:
    store = DictStore()
    writer = ReceiptWriter(store.put_bytes, "t/", "1")
    lines = [line(n) for n in range(SEGMENT_LINES + 3)]
    for one in lines:
        writer.add([one])
    with pytest.raises(ObjectNotFound):
        read_receipt(store.get_bytes, "t/")
    progress = Progress("t", TransferState.DONE, objects_copied=len(lines))
    writer.close(progress)
    totals, read = read_receipt(store.get_bytes, "t/")
    assert totals == progress
    assert list(read) == lines
    assert len(store.objects) == 3


def test_what_an_earlier_coordinator_still_writes_is_in_nobody_elses_receipt() -> None:
    store = DictStore()
    earlier, ours = (ReceiptWriter(store.put_bytes, "t/", incarnation) for incarnation in "12")
    earlier.add([line(1)])
    ours.add([line(2)])
    ours.close(Progress("t", TransferState.DONE))
    summary = store.objects.pop(ours.key)
    earlier.close(Progress("t", TransferState.FAILED))
    store.objects[ours.key] = summary
    assert list(read_receipt(store.get_bytes, "t/")[1]) == [line(2)]


def test_acks_of_many_bytes_do_not_wait_for_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a fast transfer would have to send again is bounded by bytes, too, and not only by seconds."""
    monkeypatch.setattr(journal_module, "ACK_SECONDS", 3600.0)
    store = DictStore()
    journal = Journal(store, "t/", "1")
    journal.record(upload("u1"))
    size = journal_module.ACK_BYTES // 3 + 1
    acks = [AckRecord("u1", PartAck(1, part, 0, size, 7)) for part in (1, 2, 3)]
    for ack in acks[:2]:
        journal.note(ack)
    assert len(store.objects) == 1
    journal.note(acks[2])
    written(store, 2)
    assert [list(decode(data)) for data in store.objects.values()] == [[upload("u1")], acks]
    journal.close(discard=True)


def test_what_a_transfer_is_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways that die in their first seconds leave something by which the transfer can be continued."""
    monkeypatch.setattr(journal_module, "ACK_SECONDS", 3600.0)
    store = DictStore()
    journal = Journal(store, "t/", "1")
    journal.note(BeganRecord("a -> b"))
    written(store, 1)
    assert [list(decode(data)) for data in store.objects.values()] == [[BeganRecord("a -> b")]]
    journal.close(discard=True)


def written(store: DictStore, count: int) -> None:
    deadline = time.monotonic() + 10
    while len(store.objects) < count and time.monotonic() < deadline:
        time.sleep(0.01)
