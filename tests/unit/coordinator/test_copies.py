"""The transfer machine and copies that a store makes by itself: compared, refused, given up, handed to gateways."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.coordinator.events import (
    Abort,
    Acked,
    Commit,
    Copy,
    CopyPart,
    Discard,
    Event,
    Finished,
    Open,
    Verify,
)
from skyplane_core.coordinator.leases import LeaseTable
from skyplane_core.coordinator.machine import TransferMachine
from skyplane_core.coordinator.objects import CopyOrder
from skyplane_core.errors import SourceChanged, TransferCancelled
from skyplane_core.fidelity import Fitted
from skyplane_core.model import (
    Attestation,
    Copied,
    LeaseResult,
    ObjectAttributes,
    ObjectInfo,
    PartAck,
    PartTarget,
    Precondition,
    Stored,
    StoredPart,
)
from skyplane_core.spec import Method, Outcome, ReceiptLine, Route, Verification

ATTRIBUTES = ObjectAttributes(content_type="text/plain")
WHOLE = [(1, 0, 30)]
STRIPED = [(1, 0, 10), (2, 10, 10), (3, 20, 10)]


def machine(verify: Verification = Verification.TRANSFERRED) -> TransferMachine:
    return TransferMachine(
        lambda wanted: LeaseTable(
            "t", [Route("r")], max_leases=9, max_bytes=1 << 30, lease_seconds=60.0, wanted=wanted
        ),
        max_attempts=5,
        uniform=lambda low, high: high,
        verify=verify,
    )


def order(m: TransferMachine, cut: list[tuple[int, int, int]], *, in_parts: bool = False, **sums: Any) -> list[Event]:
    info = ObjectInfo("p/k", 30, "v", **sums)
    target = PartTarget(0, "to/k", "u1" if in_parts else "", Precondition(absent=True))
    events = m.admit(1, info, "new", [target], cut, order=CopyOrder(info, Fitted(ATTRIBUTES, ("a note",)), in_parts))
    assert m.table.take("r", 0.0) is None, "nothing is leased while the store copies"
    return events


def copy(m: TransferMachine, cut: list[tuple[int, int, int]] = WHOLE, **sums: Any) -> Copy:
    (event,) = order(m, cut, **sums)
    assert isinstance(event, Copy)
    assert (event.attributes, event.precondition) == (ATTRIBUTES, Precondition(absent=True))
    return event


def line_of(events: list[Event]) -> ReceiptLine:
    (line,) = [event.line for event in events if isinstance(event, Finished)]
    return line


def word(crc32c: int | None = None, crc64nvme: int | None = None, size: int = 30, other_checksum: str = "") -> Copied:
    attestation = Attestation.WHOLE if (crc32c, crc64nvme, other_checksum) != (None, None, "") else None
    return Copied(Stored("d1", size, crc32c, attestation), crc64nvme, other_checksum)


@pytest.mark.parametrize("sums", [{"crc32c": 7}, {"crc64nvme": 8}, {"crc32c": 7, "crc64nvme": 8}])
@pytest.mark.parametrize("cut", [WHOLE, STRIPED])
def test_a_copy_with_the_sources_sum_is_done(sums: dict[str, int], cut: list[tuple[int, int, int]]) -> None:
    m = machine()
    asked = copy(m, cut, **sums)
    assert m.copying == 1
    line = line_of(m.copied(asked, word(**sums)))
    assert (line.outcome, line.method, line.attestation) == (Outcome.COPIED, Method.SERVER_SIDE, Attestation.WHOLE)
    assert (line.crc32c, line.crc64nvme, line.reason) == (None, "", "new; a note")
    assert line.destination_crc32c == line.source_crc32c == sums.get("crc32c")
    assert (m.tally.server_side, m.tally.bytes_server_side) == (m.tally.copied, m.tally.bytes_copied) == (1, 30)
    assert (m.in_flight, m.copying) == (0, 0)


@pytest.mark.parametrize("cut", [WHOLE, STRIPED])
def test_a_copy_is_compared_by_a_checksum_of_another_kind(cut: list[tuple[int, int, int]]) -> None:
    m = machine()
    line = line_of(m.copied(copy(m, cut, other_checksum="CRC32:abc="), word(other_checksum="CRC32:abc=")))
    assert (line.outcome, line.method, line.attestation) == (Outcome.COPIED, Method.SERVER_SIDE, Attestation.WHOLE)
    assert (line.source_checksum, line.source_crc32c, line.source_crc64nvme) == ("CRC32:abc=", None, "")
    m = machine()
    events = m.copied(copy(m, cut, other_checksum="CRC32:abc="), word(other_checksum="CRC32:xyz="))
    assert Discard(0, "to/k", "d1") in events
    assert "CRC32:xyz= instead of CRC32:abc=" in line_of(events).reason


def test_checksums_of_two_kinds_say_nothing_of_each_other() -> None:
    m = machine()
    assert m.copied(copy(m, other_checksum="CRC32:abc="), word(other_checksum="SHA1:abc=")) == []
    assert m.table.take("r", 0.0) is not None, "gateways replace it"


@pytest.mark.parametrize("told", [word(9), word(7, 9), word(7, size=29), word(9, 8)])
def test_a_copy_with_another_sum_or_size_goes_and_fails(told: Copied) -> None:
    m = machine()
    events = m.copied(copy(m, crc32c=7, crc64nvme=8), told)
    assert Discard(0, "to/k", "d1") in events
    assert line_of(events).outcome is Outcome.FAILED
    assert (m.tally.server_side, m.in_flight) == (0, 0)


def test_a_damaged_copy_goes_also_if_the_transfer_was_given_up_while_it_was_made() -> None:
    m = machine()
    right, wrong = copy(m, crc32c=7), word(9)
    m.give_up(TransferCancelled("cancelled"))
    assert m.copied(right, wrong) == [Discard(0, "to/k", "d1")]
    m = machine()
    asked = copy(m, crc32c=7)
    m.give_up(TransferCancelled("cancelled"))
    assert m.copied(asked, word(7)) == []


@pytest.mark.parametrize("verify", [Verification.TRANSFERRED, Verification.FULL])
def test_a_copy_that_the_store_does_not_vouch_for_is_read_back(verify: Verification) -> None:
    m = machine(verify)
    told = word() if verify is Verification.TRANSFERRED else word(7)
    (event,) = m.copied(copy(m, crc32c=7), told)
    assert event == Verify(1, 0, "to/k", told.stored, 7)
    line = line_of(m.verified(1, 0, told.stored, 7, 7, key="to/k"))
    assert (line.method, line.read_back_crc32c, line.crc32c) == (Method.SERVER_SIDE, 7, None)
    assert line.attestation is not None


def test_a_copy_that_reads_back_wrong_goes_and_fails() -> None:
    m = machine()
    m.copied(copy(m, crc32c=7), word())
    events = m.verified(1, 0, word().stored, 7, 6, key="to/k")
    assert Discard(0, "to/k", "d1") in events
    assert line_of(events).outcome is Outcome.FAILED


def test_a_copy_that_cannot_be_compared_is_replaced_by_gateways_and_nothing_else_is() -> None:
    m = machine()
    assert m.copied(copy(m, crc64nvme=8), word(7)) == []
    lease = m.table.take("r", 0.0)
    assert lease is not None
    assert lease.parts[0].targets[0].precondition == Precondition(version="d1")


def test_without_verification_nothing_is_compared() -> None:
    m = machine(Verification.NONE)
    assert line_of(m.copied(copy(m, crc32c=7), word())).method is Method.SERVER_SIDE


def test_what_is_refused_is_leased_under_its_first_precondition() -> None:
    m = machine()
    assert m.copy_refused(copy(m, crc32c=7), "access denied") == []
    assert m.tally.server_side_refused == "access denied"
    lease = m.table.take("r", 0.0)
    assert lease is not None
    assert lease.parts[0].targets[0].precondition == Precondition(absent=True)
    ack = PartAck(1, 1, 0, 30, 7, stored=Stored("d2", 30, 7, Attestation.WHOLE))
    line = line_of(m.on_result(LeaseResult(lease.lease_id, "t", (ack,)), 0.0))
    assert (line.method, line.reason, line.crc32c) == (Method.GATEWAYS, "new", 7)
    assert m.tally.server_side == 0


def test_what_may_be_a_copy_of_ours_is_for_gateways_to_tell_and_is_no_refusal() -> None:
    m = machine()
    assert m.copy_left(copy(m, crc64nvme=8)) == []
    lease = m.table.take("r", 0.0)
    assert lease is not None
    assert lease.parts[0].targets[0].precondition == Precondition(absent=True)
    assert (m.tally.server_side_refused, m.copying) == ("", 0)


def test_an_object_of_many_parts_that_is_refused_gets_an_upload() -> None:
    m = machine()
    (event,) = m.copy_refused(copy(m, STRIPED, crc32c=7), "no")
    assert isinstance(event, Open)
    assert event.part_size == 10
    assert m.table.take("r", 0.0) is None
    assert m.opened(event, "u9") == []
    taken = []
    while (lease := m.table.take("r", 0.0)) is not None:
        taken += lease.parts
    assert sorted((part.part, part.targets[0].upload_id) for part in taken) == [(1, "u9"), (2, "u9"), (3, "u9")]
    m.give_up(TransferCancelled("cancelled"))
    assert m.opened(event, "late") == [Abort(0, "to/k", "late")]


def test_parts_that_the_store_copies_are_committed_by_their_sums() -> None:
    from skyplane_core.checksum import combined_crc32c, crc32c

    body = bytes(range(30))
    m = machine()
    asked = order(m, STRIPED, in_parts=True, crc32c=crc32c(body))
    assert m.copying == 3
    events: list[Event] = []
    for event in asked:
        assert isinstance(event, CopyPart)
        piece = body[event.part.offset : event.part.offset + event.part.size]
        events += m.part_copied(event, StoredPart(event.part.part, f"e{event.part.part}", 10, crc32c(piece)))
    assert [type(event) for event in events] == [Acked, Acked, Acked, Commit]
    whole = combined_crc32c((crc32c(body[at : at + 10]), 10) for at in (0, 10, 20))
    line = line_of(m.committed(1, 0, Stored("d1", 30, whole, Attestation.WHOLE), whole))
    assert (line.method, line.source_crc32c, line.crc32c) == (Method.SERVER_SIDE, whole, None)
    assert (m.tally.bytes_acked, m.copying) == (30, 0)


def test_a_part_that_is_refused_goes_through_gateways_and_the_line_says_so() -> None:
    from skyplane_core.checksum import crc32c

    body = bytes(range(30))
    m = machine()
    first, second, third = order(m, STRIPED, in_parts=True, crc32c=crc32c(body))
    for event in (first, third):
        assert isinstance(event, CopyPart)
        piece = body[event.part.offset : event.part.offset + 10]
        m.part_copied(event, StoredPart(event.part.part, "e", 10, crc32c(piece)))
    assert isinstance(second, CopyPart)
    m.copy_refused(second, "no")
    lease = m.table.take("r", 0.0)
    assert lease is not None
    assert [part.part for part in lease.parts] == [2]
    ack = PartAck(1, 2, 0, 10, crc32c(body[10:20]), StoredPart(2, "e", 10))
    (_, commit) = m.on_result(LeaseResult(lease.lease_id, "t", (ack,)), 0.0)
    assert isinstance(commit, Commit)
    line = line_of(m.committed(1, 0, Stored("d1", 30, commit.crc32c, Attestation.WHOLE), commit.crc32c))
    assert line.method is Method.GATEWAYS


@given(
    sums=st.sampled_from([{}, {"crc32c": 7}, {"crc64nvme": 8}]),
    late=st.sampled_from(["copied", "refused", "left", "failed"]),
)
def test_words_about_what_was_given_up_change_nothing(sums: dict[str, int], late: str) -> None:
    m = machine()
    asked = copy(m, **sums)
    assert m.awaits(asked)
    m.give_up(TransferCancelled("cancelled"))
    assert not m.awaits(asked)
    events = {
        "copied": lambda: m.copied(asked, word(7)),
        "refused": lambda: m.copy_refused(asked, ""),
        "left": lambda: m.copy_left(asked),
        "failed": lambda: m.copy_failed(asked, SourceChanged("changed").record()),
    }[late]()
    assert events == []
    assert m.table.take("r", 0.0) is None
    assert (m.tally.failed, m.tally.copied, m.copying, m.tally.server_side_refused) == (1, 0, 0, "")
