"""The transfer machine against a model of readers that lose, repeat, reorder and fail."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyplane_core.coordinator.events import Abort, Commit, Discard, Event, Finished, Recognise, Verify
from skyplane_core.coordinator.leases import LeaseTable
from skyplane_core.coordinator.machine import TransferMachine
from skyplane_core.errors import (
    ErrorRecord,
    LinkLost,
    ObjectNotFound,
    PreconditionFailed,
    StoreUnavailable,
    TransferCancelled,
)
from skyplane_core.model import (
    Attestation,
    Compression,
    Lease,
    LeaseResult,
    ObjectInfo,
    PartAck,
    PartFailure,
    PartTarget,
    Precondition,
    Shrinkage,
    Stored,
    StoredPart,
)
from skyplane_core.spec import Outcome, Route, TransferState


def machine(*, max_attempts: int = 5, lease_seconds: float = 60.0) -> TransferMachine:
    return TransferMachine(
        lambda wanted: LeaseTable(
            "t",
            [Route("r", (), d) for d in (0, 1)],
            max_leases=4,
            max_bytes=1 << 30,
            lease_seconds=lease_seconds,
            wanted=wanted,
        ),
        max_attempts=max_attempts,
        uniform=lambda low, high: high,
    )


def admit(m: TransferMachine, number: int, size: int, parts: int = 1, destinations: int = 1) -> None:
    edges = [size * n // parts for n in range(parts + 1)]
    cut = [(n + 1, edges[n], edges[n + 1] - edges[n]) for n in range(parts)]
    upload = "upload" if parts > 1 else ""
    targets = [PartTarget(d, f"to/{number}", f"{upload}{number}-{d}" if upload else "") for d in range(destinations)]
    m.admit(number, ObjectInfo(f"key-{number}", size, "v1"), "new", targets, cut)


def ack(lease: Lease, stored: Stored | None = None) -> LeaseResult:
    acks = []
    for part in lease.parts:
        for target in part.targets:
            if target.upload_id:
                acks.append(
                    PartAck(
                        part.object, part.part, target.destination, part.size, 0, StoredPart(part.part, "id", part.size)
                    )
                )
            else:
                whole = stored or Stored("d1", part.size, 0, Attestation.WHOLE)
                acks.append(PartAck(part.object, part.part, target.destination, part.size, 0, stored=whole))
    return LeaseResult(lease.lease_id, "t", tuple(acks))


def fail(lease: Lease, error: ErrorRecord, destination: int = -1, crc32c: int | None = None) -> LeaseResult:
    failures = tuple(PartFailure(part.object, part.part, destination, error, crc32c) for part in lease.parts)
    return LeaseResult(lease.lease_id, "t", failures=failures)


def take(m: TransferMachine, now: float = 0.0) -> Lease:
    lease = m.table.take("r", now)
    assert lease is not None
    return lease


def outcomes(events: list[Event]) -> list[Outcome]:
    return [event.line.outcome for event in events if isinstance(event, Finished)]


def test_a_whole_object_is_done_when_its_attested_ack_arrives() -> None:
    m = machine()
    admit(m, 1, 10)
    events = m.on_result(ack(take(m)), 0.0)
    assert outcomes(events) == [Outcome.COPIED]
    assert m.in_flight == 0
    assert (m.tally.copied, m.tally.bytes_copied) == (1, 10)


def test_what_crossed_between_gateways_is_counted_whatever_came_of_it() -> None:
    m = machine()
    admit(m, 1, 10)
    lost = fail(take(m), LinkLost("gone").record())
    some = Shrinkage(Compression.AUTO, dense_bytes=10, sample_bytes=10, sample_bytes_after=9)
    m.on_result(msgspec.structs.replace(lost, wire_bytes=12, shrinkage=some), 0.0)
    m.on_result(msgspec.structs.replace(ack(take(m, 60.0)), wire_bytes=12, shrinkage=some), 60.0)
    told = m.tally.progress("t", TransferState.DONE)
    twice = Shrinkage(Compression.AUTO, dense_bytes=20, sample_bytes=20, sample_bytes_after=18)
    assert (told.wire_bytes, told.shrinkage) == (24, twice)


def test_an_object_that_the_store_does_not_attest_is_read_back_first() -> None:
    m = machine()
    admit(m, 1, 10)
    (event,) = m.on_result(ack(take(m), Stored("d1", 10)), 0.0)
    assert isinstance(event, Verify)
    assert m.in_flight == 1
    done = m.verified(1, 0, event.stored, event.crc32c, event.crc32c, key=event.key)
    assert outcomes(done) == [Outcome.COPIED]
    assert done[0].line.attestation is Attestation.READ_BACK


def test_reading_back_other_bytes_is_a_failure_by_name() -> None:
    m = machine()
    admit(m, 1, 10)
    (event,) = m.on_result(ack(take(m), Stored("d1", 10)), 0.0)
    assert isinstance(event, Verify)
    done = m.verified(1, 0, event.stored, event.crc32c, event.crc32c ^ 1, key=event.key)
    assert outcomes(done) == [Outcome.FAILED]
    # Its metadata names the source's version, which the next sync would believe.
    assert [(e.key, e.version) for e in done if isinstance(e, Discard)] == [("to/1", "d1")]
    assert m.tally.failures[0][0] == "key-1"


def test_what_proves_damaged_after_the_transfer_was_given_up_is_deleted_all_the_same() -> None:
    m = machine()
    admit(m, 1, 10)
    (event,) = m.on_result(ack(take(m), Stored("d1", 10)), 0.0)
    assert isinstance(event, Verify)
    m.give_up(TransferCancelled("cancelled"))
    assert m.verified(1, 0, event.stored, event.crc32c, event.crc32c, key=event.key) == []
    damaged = m.verified(1, 0, event.stored, event.crc32c, event.crc32c ^ 1, key=event.key)
    assert damaged == [Discard(0, "to/1", "d1")]


@pytest.mark.parametrize("stored", [Stored("d1", 9, 0, Attestation.WHOLE), Stored("d1", 10, 7, Attestation.WHOLE)])
def test_a_store_that_reports_another_size_or_checksum_fails_the_object(stored: Stored) -> None:
    m = machine()
    admit(m, 1, 10)
    assert outcomes(m.on_result(ack(take(m), stored), 0.0)) == [Outcome.FAILED]


def test_a_striped_object_is_committed_once_all_parts_are_acknowledged() -> None:
    m = machine()
    admit(m, 1, 12 * 1024 * 1024, parts=3)
    leases = [take(m) for _ in range(3)]
    events: list[Event] = []
    for lease in reversed(leases):
        assert not [e for e in events if isinstance(e, Commit)]
        events += m.on_result(ack(lease), 0.0)
    (commit,) = [e for e in events if isinstance(e, Commit)]
    assert [p.number for p in commit.parts] == [1, 2, 3]
    assert outcomes(m.committed(1, 0, Stored("d", commit.info.size, 0, Attestation.WHOLE), 0)) == [Outcome.COPIED]


def test_parts_that_an_earlier_coordinator_stored_are_not_leased() -> None:
    m = machine()
    target = PartTarget(0, "to", "upload")
    size = 4 * 1024 * 1024
    cut = [(1, 0, size), (2, size, size)]
    already = [PartAck(1, 2, 0, size, 0, StoredPart(2, "id", size))]
    m.admit(1, ObjectInfo("k", 2 * size, "v"), "new", [target], cut, already)
    assert [p.part for p in take(m).parts] == [1]
    assert m.table.take("r", 0.0) is None


def test_an_answer_to_a_lease_of_an_earlier_coordinator_says_nothing_about_objects_of_this_one() -> None:
    def coordinator(first_id: int) -> TransferMachine:
        limits = {"max_leases": 4, "max_bytes": 1 << 30, "lease_seconds": 60.0}
        return TransferMachine(
            lambda wanted: LeaseTable("t", [Route("r")], wanted=wanted, first_id=first_id, **limits),  # type: ignore[arg-type]
            max_attempts=5,
            uniform=lambda low, high: high,
        )

    before, now = coordinator(70), coordinator(900)
    admit(before, 1, 10)
    late = ack(take(before))
    admit(now, 1, 10)
    lease = take(now)
    assert now.on_result(late, 0.0) == []
    assert now.in_flight == now.table.out == 1
    assert outcomes(now.on_result(ack(lease), 0.0)) == [Outcome.COPIED]


def test_a_passing_failure_is_tried_again_later_and_only_so_often() -> None:
    m = machine(max_attempts=2)
    admit(m, 1, 10)
    error = StoreUnavailable("busy").record()
    assert m.on_result(fail(take(m), error), 0.0) == []
    assert m.table.take("r", 0.0) is None
    second = take(m, 10.0)
    assert second.attempt == 2
    assert outcomes(m.on_result(fail(second, error), 10.0)) == [Outcome.FAILED]


def test_one_bad_part_fails_its_object_aborts_the_upload_and_spares_the_others() -> None:
    m = machine()
    admit(m, 1, 8 * 1024 * 1024, parts=2)
    admit(m, 2, 10)
    leases = [take(m) for _ in range(3)]
    bad = next(lease for lease in leases if lease.parts[0].object == 1)
    events = m.on_result(fail(bad, ObjectNotFound("gone").record()), 0.0)
    assert [e.upload_id for e in events if isinstance(e, Abort)] == ["upload1-0"]
    assert outcomes(events) == [Outcome.FAILED]
    good = next(lease for lease in leases if lease.parts[0].object == 2)
    assert outcomes(m.on_result(ack(good), 0.0)) == [Outcome.COPIED]
    other = next(lease for lease in leases if lease is not bad and lease is not good)
    assert m.on_result(ack(other), 0.0) == []


def test_a_conditional_put_may_have_met_its_own_earlier_success() -> None:
    m = machine()
    admit(m, 1, 10)
    (event,) = m.on_result(fail(take(m), PreconditionFailed("exists").record(), 0, crc32c=5), 0.0)
    assert isinstance(event, Recognise)
    assert event.crc32c == 5
    assert m.in_flight == 1
    unread = machine()
    admit(unread, 1, 10)
    events = unread.on_result(fail(take(unread), PreconditionFailed("exists").record(), 0), 0.0)
    assert outcomes(events) == [Outcome.FAILED]


def test_with_two_destinations_one_may_fail_while_the_other_is_done() -> None:
    m = machine()
    admit(m, 1, 10, destinations=2)
    lease = take(m)
    good = PartAck(1, 1, 0, 10, 0, stored=Stored("d", 10, 0, Attestation.WHOLE))
    bad = PartFailure(1, 1, 1, ObjectNotFound("no bucket").record())
    events = m.on_result(LeaseResult(lease.lease_id, "t", (good,), (bad,)), 0.0)
    assert sorted(outcomes(events), key=str) == [Outcome.COPIED, Outcome.FAILED]
    assert m.in_flight == 0


def test_a_late_answer_to_an_expired_lease_still_counts_and_its_repetition_does_not() -> None:
    m = machine(lease_seconds=1.0)
    admit(m, 1, 10)
    first = take(m)
    m.table.expire(2.0)
    second = take(m, 3.0)
    assert outcomes(m.on_result(ack(first), 4.0)) == [Outcome.COPIED]
    assert m.on_result(ack(second), 3.0) == []
    assert m.tally.copied == 1
    assert m.tally.bytes_acked == 10


@pytest.mark.parametrize(("keep_uploads", "aborted"), [(False, 1), (True, 0)])
def test_giving_up_settles_everything_and_aborts_open_uploads_unless_they_are_to_be_continued(
    keep_uploads: bool, aborted: int
) -> None:
    m = machine()
    admit(m, 1, 8 * 1024 * 1024, parts=2)
    admit(m, 2, 10)
    events = m.give_up(TransferCancelled("cancelled"), keep_uploads=keep_uploads)
    assert outcomes(events) == [Outcome.FAILED, Outcome.FAILED]
    assert len([e for e in events if isinstance(e, Abort)]) == aborted
    assert m.table.take("r", 0.0) is None


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=12),
    trouble=st.floats(0.0, 0.6),
)
def test_whatever_readers_do_each_object_ends_exactly_once(seed: int, sizes: list[int], trouble: float) -> None:
    rng = random.Random(seed)
    m = machine(max_attempts=4, lease_seconds=5.0)
    for number, size in enumerate(sizes):
        parts = rng.randint(2, 4) if size >= 4 and rng.random() < 0.5 else 1
        admit(m, number, size, parts, destinations=rng.randint(1, 2))
    now = 0.0
    settled: list[tuple[str, int]] = []
    pending: list[LeaseResult] = []
    for _ in range(5000):
        if not m.in_flight:
            break
        now += rng.random()
        m.table.expire(now)
        while (lease := m.table.take("r", now)) is not None:
            roll = rng.random()
            if roll < trouble * 0.4:
                continue  # the reader is never heard of again
            result = ack(lease) if roll > trouble else fail(lease, StoreUnavailable("x").record())
            pending += [result] * (2 if rng.random() < trouble * 0.3 else 1)
        rng.shuffle(pending)
        new: list[Event] = []
        if pending:
            new += m.on_result(pending.pop(), now)
        while new:
            event = new.pop()
            if isinstance(event, Commit):
                new += m.committed(
                    event.object,
                    event.destination,
                    Stored("d", event.info.size, event.crc32c, Attestation.WHOLE),
                    event.crc32c,
                )
            elif isinstance(event, Finished):
                settled.append((event.line.key, event.line.destination))
    assert m.in_flight == 0
    assert len(settled) == len(set(settled))
    assert {key for key, _ in settled} == {f"key-{n}" for n in range(len(sizes))}
    assert m.tally.copied + m.tally.failed == len(settled)


def test_preconditions_travel_with_the_commit() -> None:
    m = machine()
    target = PartTarget(0, "to", "u", Precondition(absent=True))
    m.admit(1, ObjectInfo("k", 2, "v"), "new", [target], [(1, 0, 1), (2, 1, 1)])
    (commit,) = [e for e in m.on_result(ack(take(m)), 0.0) if isinstance(e, Commit)] or [
        e for e in m.on_result(ack(take(m)), 0.0) if isinstance(e, Commit)
    ]
    assert commit.precondition.absent


def test_a_lost_connection_costs_a_part_no_attempt_however_often() -> None:
    m = machine(max_attempts=2)
    admit(m, 1, 10)
    now = 0.0
    for _ in range(9):
        assert m.on_result(fail(take(m, now), LinkLost("gone").record(), 0, crc32c=5), now) == []
        assert m.table.take("r", now) is None, "a way that failed rests"
        now += 31.0
    assert outcomes(m.on_result(ack(take(m, now)), now)) == [Outcome.COPIED]


def test_answers_to_another_coordinator_s_leases_say_nothing() -> None:
    m = machine()
    admit(m, 1, 10)
    lease = take(m)
    stray = msgspec.structs.replace(ack(lease), lease_id=lease.lease_id + 7)
    assert m.on_result(stray, 0.0) == []
    assert m.tally.bytes_acked == 0
    assert outcomes(m.on_result(ack(lease), 0.0)) == [Outcome.COPIED]
