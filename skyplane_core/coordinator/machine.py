"""The transfer state machine: leases out, results in, events for the host. Pure: no sockets, no clock, no threads.

An object is DONE at a destination only in :meth:`TransferMachine.committed` with an attestation (or where none was
asked for), or after :meth:`TransferMachine.verified`. Every other way to settle it is a failure with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from skyplane_core.coordinator.copied_line import copied_line
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
    Recognise,
    Resend,
    Verify,
)
from skyplane_core.coordinator.leases import LeaseTable
from skyplane_core.coordinator.objects import CopyOrder, ObjectState, TargetState, compared
from skyplane_core.coordinator.retry import retry_delay
from skyplane_core.coordinator.tally import Tally
from skyplane_core.errors import ChecksumMismatch, ErrorRecord, SkyplaneError, from_record
from skyplane_core.model import (
    Attestation,
    Copied,
    LeaseResult,
    ObjectInfo,
    PartAck,
    PartFailure,
    PartLease,
    PartTarget,
    Precondition,
    Stored,
    StoredPart,
)
from skyplane_core.spec import Outcome, ReceiptLine, Verification

LOST = frozenset({"LinkLost", "HandshakeFailed"})
"""Kinds of errors that say something about a way and nothing about the part that was sent over it."""


class TransferMachine:
    """All that a coordinator decides about one transfer. Not thread-safe: its host serialises calls.

    Args:
        table: builds the lease table around this machine's own ``wanted``.
        max_attempts: how often one part is tried when failures are passing.
        uniform: ``random.uniform`` or a deterministic stand-in.
        verify: what is compared before an object is done.
    """

    def __init__(
        self,
        table: Callable[[Callable[[PartLease], bool]], LeaseTable],
        *,
        max_attempts: int,
        uniform: Callable[[float, float], float],
        verify: Verification = Verification.TRANSFERRED,
    ) -> None:
        self.table = table(self._wanted)
        self.tally = Tally()
        self._objects: dict[int, ObjectState] = {}
        self._max_attempts = max_attempts
        self._uniform = uniform
        self._verify = verify
        self._copying = 0

    @property
    def in_flight(self) -> int:
        """Objects admitted and not yet settled."""
        return len(self._objects)

    @property
    def copying(self) -> int:
        """Calls that are due to have the store copy objects, or parts of some."""
        return self._copying

    def in_flight_keys(self) -> list[str]:
        """Their keys, for messages."""
        return [state.info.key for state in self._objects.values()]

    def admit(
        self,
        number: int,
        info: ObjectInfo,
        reason: str,
        targets: Sequence[PartTarget],
        cut: Sequence[tuple[int, int, int]],
        already: Sequence[PartAck] = (),
        *,
        resent: bool = False,
        order: CopyOrder | None = None,
    ) -> list[Event]:
        """Take an object in: its parts wait to be leased from now on.

        Args:
            number: unique within the transfer.
            targets: with upload ids where the object is striped.
            cut: ``(part number, offset, size)``, covering the object exactly.
            already: parts that an earlier coordinator's readers stored, and the store still lists.
            resent: it is another number for an object that was read wrong once.
            order: its one target's store is to copy it by itself; only if it refuses are parts leased.
        """
        if self._verify is Verification.NONE:
            info = msgspec.structs.replace(info, crc32c=None, crc64nvme=None, other_checksum="")
        whole = len(cut) == 1 and not targets[0].upload_id
        parts = {
            part: PartLease(
                object=number,
                part=part,
                key=info.key,
                version=info.version,
                offset=offset,
                size=size,
                targets=tuple(targets),
                crc32c=info.crc32c if whole else None,
                crc64nvme=info.crc64nvme,
            )
            for part, offset, size in cut
        }
        state = ObjectState(
            number, info, reason, parts, {t.destination: TargetState(t) for t in targets}, resent, order
        )
        self._objects[number] = state
        events: list[Event] = []
        for ack in already:
            events += self._on_ack(ack)
        if order is not None:
            return events + self._order(state, order)
        self._lease(state)
        return events

    def _lease(self, state: ObjectState) -> None:
        """Have gateways move what is wanted of an object."""
        for part in state.parts.values():
            remaining = state.remaining(part)
            if remaining is not None:
                self.table.add(remaining)

    def _order(self, state: ObjectState, order: CopyOrder) -> list[Event]:
        events: list[Event] = [*state.calls(order)]
        self._copying += len(events)
        return events

    def copied(self, asked: Copy, copied: Copied) -> list[Event]:
        """The store has copied an object by itself: the copy's checksum is compared with the source's.

        Where neither vouches for one in common, it is read back; if that cannot be compared, gateways replace the copy.
        """
        self._copying -= 1
        number, destination, stored = asked.object, asked.destination, copied.stored
        info, key, differs = asked.info, asked.key, compared(asked.info, copied)
        if differs:
            # Also if the transfer was given up meanwhile: a later sync would believe its record.
            error = ChecksumMismatch("the store's copy has other bytes than the source", where=key, why=differs)
            return [Discard(destination, key, stored.version), *self.failed(number, destination, error.record())]
        state = self._objects.get(number)
        if state is None or state.targets[destination].settled:
            return []
        if (differs is not None or self._verify is Verification.NONE) and self._verify is not Verification.FULL:
            return self._done(state, destination, stored, None)
        if info.crc32c is not None:
            return [Verify(number, destination, key, stored, info.crc32c)]
        state.retarget(destination, precondition=Precondition(version=stored.version))
        return self._by_gateways(state, destination)

    def part_copied(self, asked: CopyPart, stored: StoredPart) -> list[Event]:
        """The store has copied a part; its own checksum of it stands for ours."""
        self._copying -= 1
        part = asked.part
        if stored.crc32c is None:
            raise ValueError("a part without a checksum is none that was copied")
        return self._on_ack(PartAck(part.object, part.part, asked.destination, part.size, stored.crc32c, stored))

    def awaits(self, asked: Copy | CopyPart) -> bool:
        """Whether the copy is still to be made."""
        state = self._objects.get(asked.object)
        return state is not None and not state.targets[asked.destination].settled

    def copy_failed(self, asked: Copy | CopyPart, error: ErrorRecord) -> list[Event]:
        """The object could not be copied, whoever does it."""
        self._copying -= 1
        return self.failed(asked.object, asked.destination, error)

    def copy_left(self, asked: Copy) -> list[Event]:
        """What stands there may be our copy, and nothing tells: gateways, which sum the bytes, find out."""
        self._copying -= 1
        return self._by_gateways(self._objects[asked.object], asked.destination) if self.awaits(asked) else []

    def copy_refused(self, asked: Copy | CopyPart, why: str) -> list[Event]:
        """The store does not copy, which one refusal shows for all: gateways move what it was asked for."""
        self._copying -= 1
        self.tally.server_side_refused = self.tally.server_side_refused or why
        state = self._objects.get(asked.object)
        if state is None or state.targets[asked.destination].settled:
            return []
        if isinstance(asked, Copy):
            return self._by_gateways(state, asked.destination)
        # What it has copied already stays; the line tells of gateways, since they moved some of it.
        state.order = None
        self.table.add(asked.part)
        return []

    def _by_gateways(self, state: ObjectState, destination: int) -> list[Event]:
        key, order, state.order = state.targets[destination].target.key, state.order, None
        reads_tags = order is not None and order.keeps_tags
        if len(state.parts) == 1 and not reads_tags:
            self._lease(state)
            return []
        part_size = max(part.size for part in state.parts.values()) if len(state.parts) > 1 else 0
        return [Open(state.number, destination, key, state.info, part_size, reads_tags)]

    def opened(self, asked: Open, upload_id: str, info: ObjectInfo | None = None, **changes: Any) -> list[Event]:
        """What an object needs that gateways move after all is there.

        Args:
            info: the object with its tags, if they were read only now; ``changes``: of its target for that.
        """
        state = self._objects.get(asked.object)
        if state is None or state.targets[asked.destination].settled:
            return [Abort(asked.destination, asked.key, upload_id)] if upload_id else []
        state.info = info or state.info
        state.retarget(asked.destination, upload_id=upload_id, **changes)
        self._lease(state)
        return []

    def skip(self, destination: int, skipped: Sequence[tuple[ObjectInfo, str, str]]) -> list[Event]:
        """Record that objects are left alone. ``skipped``: each with its destination key and why."""
        self.tally.skipped += len(skipped)
        return [
            Finished(ReceiptLine(info.key, destination, key, info.size, info.version, Outcome.SKIPPED, reason))
            for info, key, reason in skipped
        ]

    def deleted(self, destination: int, destination_key: str, size: int, version: str) -> list[Event]:
        """Record that an object is gone from a destination, where no source object maps to it."""
        self.tally.deleted += 1
        line = ReceiptLine(
            "", destination, destination_key, size, "", Outcome.DELETED, "extraneous", destination_version=version
        )
        return [Finished(line)]

    def reject(self, info: ObjectInfo, destination: int, destination_key: str, error: ErrorRecord) -> list[Event]:
        """Record that an object cannot be transferred, before any part of it was leased."""
        return [self._failed(info, destination, destination_key, error)]

    def on_result(self, result: LeaseResult, now: float) -> list[Event]:
        """A reader reports on a lease. Late and repeated reports are harmless: the first ack of a part counts.

        What a lost connection cost goes out again at once, over whichever way works, and is no failure of the part.
        A report to an earlier coordinator is of other objects, whatever numbers it names, and is ignored.
        """
        if not self.table.issued(result.lease_id):
            return []
        lost = _lost(result)
        lease = self.table.settle(result.lease_id, now, lost)
        self.tally.sent(result)
        before = self.tally.bytes_acked
        events = [event for ack in result.acks for event in self._on_ack(ack)]
        way, attempt, parts = (lease.way, lease.attempt, lease.parts) if lease else (-1, 1, ())
        self.tally.carried(way, self.tally.bytes_acked - before)
        by_part = {(part.object, part.part): part for part in parts}
        for failure in result.failures:
            part = by_part.get((failure.object, failure.part))
            if part is None:
                continue
            if lost and failure.error.kind in LOST:
                self._again(part, attempt)
            else:
                events += self._on_failure(failure, part, attempt, now)
        return events

    def _again(self, part: PartLease, attempt: int) -> None:
        state = self._objects.get(part.object)
        remaining = state.remaining(part) if state is not None else None
        if remaining is not None:
            self.table.add(remaining, attempt)

    def resend(self, asked: Resend, again: int, upload_id: str) -> list[Event]:
        """Send an object once more, as object ``again`` into a new upload: late words of the first do not count."""
        destination = asked.destination
        state = self._objects.get(asked.object)
        if state is None or state.targets[destination].settled:
            return [Abort(destination, asked.key, upload_id)]
        target = state.targets[destination].target
        cut = [(part.part, part.offset, part.size) for part in state.parts.values()]
        self.tally.retries += 1
        self.tally.bytes_acked -= state.info.size
        self._settle(state, destination)
        new = msgspec.structs.replace(target, upload_id=upload_id)
        return [
            Abort(destination, target.key, target.upload_id),
            *self.admit(again, state.info, state.reason, [new], cut, resent=True),
        ]

    def committed(self, number: int, destination: int, stored: Stored, crc32c: int) -> list[Event]:
        """The object is visible at the destination. Without an attestation it must be read back first.

        With full verification it always is; without any, it never is.
        """
        state = self._objects.get(number)
        if state is None or state.targets[destination].settled:
            return []
        key = state.targets[destination].target.key
        if stored.size != state.info.size or (stored.crc32c is not None and stored.crc32c != crc32c):
            why = f"sent {state.info.size} bytes with CRC32C {crc32c:08x}, it reports {stored.size} bytes"
            if stored.crc32c is not None:
                why += f" with CRC32C {stored.crc32c:08x}"
            error = ChecksumMismatch("the destination holds other bytes than were sent", where=key, why=why)
            return self.failed(number, destination, error.record())
        unattested = stored.attestation is None and self._verify is not Verification.NONE
        if unattested or self._verify is Verification.FULL:
            return [Verify(number, destination, key, stored, crc32c)]
        return self._done(state, destination, stored, crc32c)

    def verified(
        self, number: int, destination: int, stored: Stored, crc32c: int, read_back: int, *, key: str
    ) -> list[Event]:
        """The object was read back at ``key``; ``read_back`` is the CRC32C of what came."""
        state = self._objects.get(number)
        # What is damaged goes, also if the transfer was given up meanwhile: a later sync would believe its record.
        discard = [Discard(destination, key, stored.version)] if read_back != crc32c else []
        if state is None or state.targets[destination].settled:
            return [*discard]
        if discard:
            error = ChecksumMismatch(
                "reading the object back gave other bytes than were sent",
                where=key,
                why=f"CRC32C {read_back:08x} instead of {crc32c:08x}",
                next_step="It is deleted there; run the transfer again.",
            )
            return [*discard, *self.failed(number, destination, error.record())]
        if stored.attestation is None:
            stored = Stored(stored.version, stored.size, read_back, Attestation.READ_BACK)
        return self._done(state, destination, stored, crc32c, read_back)

    def failed(self, number: int, destination: int, error: ErrorRecord) -> list[Event]:
        """Give an object up at one destination; its other destinations go on."""
        state = self._objects.get(number)
        if state is None or state.targets[destination].settled:
            return []
        target = state.targets[destination].target
        events: list[Event] = []
        if target.upload_id:
            events.append(Abort(destination, target.key, target.upload_id))
        self._settle(state, destination)
        events.append(self._failed(state.info, destination, target.key, error))
        return events

    def give_up(self, error: SkyplaneError, *, keep_uploads: bool = False) -> list[Event]:
        """Fail everything that is in flight, for instance because the transfer was cancelled.

        Args:
            keep_uploads: leave open uploads, and what they hold, to a run that continues the transfer.
        """
        events: list[Event] = []
        for number, state in list(self._objects.items()):
            for destination in list(state.targets):
                events += self.failed(number, destination, error.record())
        return [event for event in events if not (keep_uploads and isinstance(event, Abort))]

    def _wanted(self, part: PartLease) -> bool:
        state = self._objects.get(part.object)
        return state is not None and state.wants(part)

    def _on_ack(self, ack: PartAck) -> list[Event]:
        state = self._objects.get(ack.object)
        if state is None:
            return []
        target = state.targets[ack.destination]
        if target.settled or ack.part in target.acks:
            return []
        target.acks[ack.part] = ack
        self.tally.bytes_acked += ack.size
        events: list[Event] = []
        if target.target.upload_id:
            events.append(Acked(target.target.upload_id, ack))
            if state.complete(ack.destination):
                crc = state.crc32c(ack.destination)
                if difference := state.difference(ack.destination):
                    return events + self._not_the_source(state, ack.destination, difference)
                events.append(
                    Commit(
                        ack.object,
                        ack.destination,
                        target.target.key,
                        target.target.upload_id,
                        state.stored_parts(ack.destination),
                        state.info,
                        crc,
                        target.target.precondition,
                    )
                )
        elif ack.stored is not None:
            events += self.committed(ack.object, ack.destination, ack.stored, ack.crc32c)
        return events

    def _not_the_source(self, state: ObjectState, destination: int, difference: str) -> list[Event]:
        """The parts together are not what the source store vouches for, and which of them is wrong cannot be told."""
        if not state.resent:
            key = state.targets[destination].target.key
            part_size = max(part.size for part in state.parts.values())
            return [Resend(state.number, destination, key, state.info, part_size)]
        error = ChecksumMismatch(
            "the bytes that were read, twice, are not those of the source", where=state.info.key, why=difference
        )
        return self.failed(state.number, destination, error.record())

    def _on_failure(self, failure: PartFailure, part: PartLease, attempt: int, now: float) -> list[Event]:
        state = self._objects.get(part.object)
        remaining = state.remaining(part) if state is not None else None
        if state is None or remaining is None:
            return []
        failed = [t for t in remaining.targets if failure.destination in (-1, t.destination)]
        delay = retry_delay(failure.error, attempt, self._max_attempts, self._uniform)
        events: list[Event] = []
        for target in failed:
            if failure.error.kind == "PreconditionFailed" and failure.crc32c is not None:
                events.append(
                    Recognise(
                        part.object,
                        target.destination,
                        target.key,
                        part,
                        failure.crc32c,
                        from_record(failure.error).what,
                    )
                )
            elif delay is None:
                events += self.failed(part.object, target.destination, failure.error)
        if delay is not None and failed:
            self.tally.retries += 1
            again = state.remaining(part)
            if again is not None:
                self.table.add(again, attempt + 1, now + delay, now)
        return events

    def _done(
        self, state: ObjectState, destination: int, stored: Stored, crc32c: int | None, read_back: int | None = None
    ) -> list[Event]:
        line = copied_line(state, destination, stored, crc32c, read_back, self._verify)
        if state.order is not None:
            self.tally.bytes_acked += 0 if state.order.in_parts else state.info.size
            self.tally.server_side += 1
            self.tally.bytes_server_side += state.info.size
        self._settle(state, destination)
        self.tally.copied += 1
        self.tally.bytes_copied += state.info.size
        return [Finished(line)]

    def _failed(self, info: ObjectInfo, destination: int, destination_key: str, error: ErrorRecord) -> Finished:
        reason = str(from_record(error))
        self.tally.fail(info.key, reason)
        return Finished(
            ReceiptLine(info.key, destination, destination_key, info.size, info.version, Outcome.FAILED, reason)
        )

    def _settle(self, state: ObjectState, destination: int) -> None:
        state.targets[destination].settled = True
        if state.settled:
            del self._objects[state.number]


def _lost(result: LeaseResult) -> str:
    """Why nothing of a lease got through, if that is what its result says."""
    if result.acks:
        return ""
    return next((str(from_record(failure.error)) for failure in result.failures if failure.error.kind in LOST), "")
