"""The transfer machine and the source's own checksums: compared, read again once, then failed by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.checksum import crc32c_and_crc64nvme
from skyplane_core.coordinator.events import Abort, Commit, Discard, Event, Finished, Resend, Verify
from skyplane_core.coordinator.leases import LeaseTable
from skyplane_core.coordinator.machine import TransferMachine
from skyplane_core.errors import TransferCancelled
from skyplane_core.model import Attestation, Lease, LeaseResult, ObjectInfo, PartAck, PartTarget, Stored, StoredPart
from skyplane_core.spec import Outcome, ReceiptLine, Route, Verification

SMALL, WIDE = crc32c_and_crc64nvme(memoryview(b"abcdefgh"))


def machine(verify: Verification = Verification.TRANSFERRED) -> TransferMachine:
    return TransferMachine(
        lambda wanted: LeaseTable(
            "t", [Route("r")], max_leases=9, max_bytes=1 << 30, lease_seconds=60.0, wanted=wanted
        ),
        max_attempts=5,
        uniform=lambda low, high: high,
        verify=verify,
    )


def admit(m: TransferMachine, cut: list[bytes], crc32c: int | None = None, crc64nvme: int | None = None) -> None:
    whole = b"".join(cut)
    info = ObjectInfo("p/k", len(whole), "v", crc32c=crc32c, crc64nvme=crc64nvme)
    offsets = [sum(map(len, cut[:n])) for n in range(len(cut))]
    pieces = [(n + 1, offsets[n], len(piece)) for n, piece in enumerate(cut)]
    assert m.admit(1, info, "new", [PartTarget(0, "to/k", "u1" if len(cut) > 1 else "")], pieces) == []


def leases(m: TransferMachine) -> list[Lease]:
    taken = []
    while (lease := m.table.take("r", 0.0)) is not None:
        taken.append(lease)
    return taken


def read(lease: Lease, data: bytes) -> LeaseResult:
    """The answer of a reader to which the source sent ``data`` as the object."""
    acks = []
    for part in lease.parts:
        small, wide = crc32c_and_crc64nvme(memoryview(data)[part.offset : part.offset + part.size])
        summed = wide if part.crc64nvme is not None else None
        stored = StoredPart(part.part, f"{part.targets[0].upload_id}-{part.part}", part.size)
        acks.append(PartAck(part.object, part.part, 0, part.size, small, stored, crc64nvme=summed))
    return LeaseResult(lease.lease_id, "t", tuple(acks))


def send(m: TransferMachine, data: bytes) -> list[Event]:
    return [event for lease in leases(m) for event in m.on_result(read(lease, data), 0.0)]


def one(events: list[Event], kind: type[Event]) -> Event:
    (found,) = [event for event in events if isinstance(event, kind)]
    return found


def line(events: list[Event]) -> ReceiptLine:
    return next(event.line for event in events if isinstance(event, Finished))


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=2, max_size=6), st.booleans(), st.data())
def test_a_striped_object_is_committed_only_with_the_bytes_that_the_source_vouches_for(
    cut: list[bytes], wide: bool, draw: st.DataObject
) -> None:
    whole = b"".join(cut)
    small, big = crc32c_and_crc64nvme(memoryview(whole))
    came = bytearray(whole)
    if flip := draw.draw(st.booleans()):
        came[draw.draw(st.integers(0, len(whole) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    m = machine()
    admit(m, cut, None if wide else small, big if wide else None)
    events = send(m, bytes(came))
    assert len([event for event in events if isinstance(event, Commit)]) == (not flip)
    assert len([event for event in events if isinstance(event, Resend)]) == flip
    assert not [event for event in events if isinstance(event, Finished)]


def test_what_was_read_wrong_is_sent_anew_under_another_number_and_late_words_about_the_first_do_not_count() -> None:
    m = machine()
    admit(m, [b"abcd", b"efgh"], crc64nvme=WIDE)
    first = leases(m)
    events = [event for lease in first for event in m.on_result(read(lease, b"abcdefgX"), 0.0)]
    again = one(events, Resend)
    assert isinstance(again, Resend)
    assert (again.key, again.part_size, again.info.version) == ("to/k", 4, "v")
    assert (m.in_flight, leases(m)) == (1, [])
    events = m.resend(again, 7, "u2")
    assert [event.upload_id for event in events if isinstance(event, Abort)] == ["u1"]
    assert (m.in_flight, m.tally.bytes_acked, m.tally.retries) == (1, 0, 1)
    for lease in first:
        assert m.on_result(read(lease, b"abcdefgX"), 0.0) == []
    second = leases(m)
    assert {(part.object, part.targets[0].upload_id) for lease in second for part in lease.parts} == {(7, "u2")}
    events = [event for lease in second for event in m.on_result(read(lease, b"abcdefgh"), 0.0)]
    commit = one(events, Commit)
    assert isinstance(commit, Commit)
    assert [part.part_id for part in commit.parts] == ["u2-1", "u2-2"]
    done = line(m.committed(7, 0, Stored("d", 8, SMALL, Attestation.WHOLE), commit.crc32c))
    assert done.outcome is Outcome.COPIED
    assert done.source_crc64nvme == done.crc64nvme == f"{WIDE:016x}"
    assert (done.source_crc32c, done.crc32c, done.destination_crc32c) == (None, SMALL, SMALL)
    assert m.in_flight == 0


def test_what_is_read_wrong_twice_fails_by_name_and_leaves_no_upload() -> None:
    m = machine()
    admit(m, [b"abcd", b"efgh"], crc32c=SMALL)
    again = one(send(m, b"abcdefgX"), Resend)
    assert isinstance(again, Resend)
    m.resend(again, 2, "u2")
    events = send(m, b"abcdefgX")
    assert [event.upload_id for event in events if isinstance(event, Abort)] == ["u2"]
    failed = line(events)
    assert failed.outcome is Outcome.FAILED
    assert f"the source vouches for CRC32C {SMALL:08x}, what was read has" in failed.reason
    assert m.in_flight == 0


def test_a_part_that_was_not_summed_as_asked_passes_for_nothing() -> None:
    m = machine()
    admit(m, [b"abcd", b"efgh"], crc64nvme=WIDE)
    events: list[Event] = []
    for lease in leases(m):
        (ack,) = read(lease, b"abcdefgh").acks
        bare = PartAck(ack.object, ack.part, 0, ack.size, ack.crc32c, ack.stored_part)
        events += m.on_result(LeaseResult(lease.lease_id, "t", (bare,)), 0.0)
    assert one(events, Resend)


def test_an_upload_that_was_opened_for_a_transfer_that_ended_meanwhile_is_aborted() -> None:
    m = machine()
    admit(m, [b"abcd", b"efgh"], crc64nvme=WIDE)
    again = one(send(m, b"abcdefgX"), Resend)
    assert isinstance(again, Resend)
    m.give_up(TransferCancelled("cancelled"))
    assert m.resend(again, 2, "u2") == [Abort(0, "to/k", "u2")]
    assert m.in_flight == 0


@pytest.mark.parametrize(
    ("verify", "attestation", "read_back"),
    [
        (Verification.NONE, None, False),
        (Verification.NONE, Attestation.WHOLE, False),
        (Verification.TRANSFERRED, None, True),
        (Verification.TRANSFERRED, Attestation.WHOLE, False),
        (Verification.FULL, None, True),
        (Verification.FULL, Attestation.WHOLE, True),
    ],
)
def test_how_much_is_read_back(verify: Verification, attestation: Attestation | None, read_back: bool) -> None:
    m = machine(verify)
    admit(m, [b"abcdefgh"])
    (lease,) = leases(m)
    stored = Stored("d", 8, SMALL if attestation else None, attestation)
    ack = PartAck(1, 1, 0, 8, SMALL, stored=stored)
    events = m.on_result(LeaseResult(lease.lease_id, "t", (ack,)), 0.0)
    assert any(isinstance(event, Verify) for event in events) is read_back
    if read_back:
        events = m.verified(1, 0, stored, SMALL, SMALL, key="to/k")
    done = line(events)
    assert done.outcome is Outcome.COPIED
    assert done.verify is verify
    assert done.read_back_crc32c == (SMALL if read_back else None)
    assert done.attestation is (attestation or (Attestation.READ_BACK if read_back else None))


def test_what_rotted_under_an_attestation_is_found_by_reading_back_and_deleted() -> None:
    m = machine(Verification.FULL)
    admit(m, [b"abcdefgh"])
    (lease,) = leases(m)
    stored = Stored("d", 8, SMALL, Attestation.WHOLE)
    ack = PartAck(1, 1, 0, 8, SMALL, stored=stored)
    assert isinstance(m.on_result(LeaseResult(lease.lease_id, "t", (ack,)), 0.0)[0], Verify)
    events = m.verified(1, 0, stored, SMALL, SMALL ^ 1, key="to/k")
    assert line(events).outcome is Outcome.FAILED
    assert [event.version for event in events if isinstance(event, Discard)] == ["d"]


def test_without_verification_the_source_is_not_asked() -> None:
    m = machine(Verification.NONE)
    admit(m, [b"abcd", b"efgh"], crc32c=SMALL ^ 1, crc64nvme=WIDE ^ 1)
    assert one(send(m, b"abcdefgh"), Commit)
