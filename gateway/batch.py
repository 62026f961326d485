"""A lease on its way through a reader: exactly one result comes of it, whatever happens."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable

import msgspec

from gateway.codec import Encoder
from gateway.manifest import Answer, ManifestPart
from gateway.opened import Transfer
from gateway.pool import Buffer
from gateway.summed import Summed
from skyplane_core.errors import ChecksumMismatch, ErrorRecord, ProtocolError
from skyplane_core.model import Lease, LeaseResult, ObjectAttributes, PartAck, PartFailure, PartLease, PartTarget

Report = Callable[[LeaseResult], None]


class Batch:
    """One sending of a lease's parts. Thread-safe.

    It passes from the fetch threads to a sender or to the put threads; whoever has it last releases its buffer, and
    nobody else, since a failure may be reported while somebody still reads from the buffer.

    ``stays_here``: all gateways that it passes are on this machine. ``encoder``: what its frames are encoded with.
    """

    def __init__(self, lease: Lease, transfer: Transfer, report: Report) -> None:
        self.lease = lease
        self.transfer = transfer
        self.wire_bytes = 0
        self.stays_here = False
        self.encoder: Encoder | None = None
        self.offsets = list(itertools.accumulate((part.size for part in lease.parts), initial=0))
        self.parts: list[ManifestPart] = []
        self._report = report
        self._buffer: Buffer | None = None
        self._lock = threading.Lock()
        self._read: list[ManifestPart | None] = [None] * len(lease.parts)
        self._attributes: dict[tuple[int, int], ObjectAttributes] = {}
        self._sums: dict[tuple[int, int], Summed] = {}
        self._failures: list[PartFailure] = []
        self._unread = len(lease.parts)
        self._reported = False

    def hold(self, buffer: Buffer) -> None:
        self._buffer = buffer

    def release(self) -> None:
        """Give the buffer back, if there is one. May be repeated."""
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            buffer.release()

    @property
    def payload(self) -> memoryview:
        """The whole buffer."""
        if self._buffer is None:
            raise ValueError("this batch holds no buffer")
        return self._buffer.view

    def slot(self, index: int) -> memoryview:
        """Where the bytes of the lease's part ``index`` go."""
        return self.payload[self.offsets[index] : self.offsets[index + 1]]

    def part_read(self, index: int, part: ManifestPart, attributes: ObjectAttributes, sums: Summed) -> bool:
        """A part's bytes are in its slot. True for the last of the batch's parts, once."""
        with self._lock:
            self._read[index] = part
            self._attributes[part.object, part.part] = attributes
            self._sums[part.object, part.part] = sums
            self._unread -= 1
            return not self._unread

    def part_failed(self, index: int, error: ErrorRecord) -> bool:
        """A part cannot be read. True as for :meth:`part_read`."""
        part = self.lease.parts[index]
        with self._lock:
            self._failures.append(PartFailure(part.object, part.part, -1, error))
            self._unread -= 1
            return not self._unread

    def settle(self) -> int:
        """After the last part: close the gaps that unread parts left, fill ``parts``, return the payload's size."""
        size = 0
        for index, part in enumerate(self._read):
            if part is None:
                continue
            if size != self.offsets[index]:
                # Only after a failed read: 0.05 s/GB are cheaper than sending what is in the gap.
                self.payload[size : size + part.size] = self.slot(index)
            self.parts.append(msgspec.structs.replace(part, payload_offset=size))
            size += part.size
        return size

    def fail(self, error: ErrorRecord) -> None:
        """Report every part that has not failed yet as failed: for each destination, or as unread."""
        failures = []
        with self._lock:
            failed = {(failure.object, failure.part) for failure in self._failures}
            for lease, read in zip(self.lease.parts, self._read, strict=True):
                if read is not None:
                    failures += _failures(read, error)
                elif (lease.object, lease.part) not in failed:
                    failures.append(PartFailure(lease.object, lease.part, -1, error))
        self._finish((), failures)

    def answered(self, answer: Answer) -> None:
        """Report the writer's answer, after checking that it answers what was asked and vouches for our bytes."""
        expected = {
            (part.object, part.part, target.destination): part for part in self.parts for target in part.targets
        }
        acks, failures = [], []
        for ack in answer.acks:
            part = expected.pop((ack.object, ack.part, ack.destination), None)
            if part is None:
                continue
            if (ack.size, ack.crc32c) == (part.size, part.crc32c):
                name = ack.object, ack.part
                sums = self._sums[name]._asdict()
                acks.append(msgspec.structs.replace(ack, attributes=self._attributes[name], **sums))
            else:
                error = ChecksumMismatch("the writer stored other bytes than were sent", where=self._where(part))
                failures.append(_failure(part, ack.destination, error.record()))
        for failure in answer.failures:
            part = expected.pop((failure.object, failure.part, failure.destination), None)
            if part is not None:
                failures.append(_failure(part, failure.destination, failure.error))
        for (_object, _part, destination), part in expected.items():
            missing = ProtocolError("the writer's answer leaves a part out", where=self._where(part))
            failures.append(_failure(part, destination, missing.record()))
        self._finish(acks, failures)

    def _finish(self, acks: Iterable[PartAck], failures: Iterable[PartFailure]) -> None:
        with self._lock:
            if self._reported:
                return
            self._reported = True
        self._report(
            LeaseResult(
                self.lease.lease_id,
                self.lease.transfer_id,
                tuple(acks),
                (*self._failures, *failures),
                self.wire_bytes,
                self.encoder.shrinkage if self.encoder is not None else None,
            )
        )

    def _where(self, part: ManifestPart) -> str:
        return f"object {part.object}, part {part.part} of transfer {self.lease.transfer_id}"


def refused(lease: Lease, error: ErrorRecord) -> LeaseResult:
    """The result of a lease that never became a batch."""
    return LeaseResult(
        lease.lease_id,
        lease.transfer_id,
        failures=tuple(PartFailure(part.object, part.part, -1, error) for part in lease.parts),
    )


def describe(part: PartLease, crc32c: int, read: ObjectAttributes, *, keep_attributes: bool) -> ManifestPart:
    """What the writer is told about a part. ``read`` is what the source's answer said; targets may overrule it."""
    targets = []
    for target in part.targets:
        attributes = target.attributes
        if target.upload_id:
            # Those of a multipart object were given when its upload was created.
            attributes = None
        elif attributes is None:
            attributes = _with_known(read, target) if keep_attributes else ObjectAttributes()
        if attributes is not None and target.extra_metadata:
            attributes = msgspec.structs.replace(attributes, metadata={**attributes.metadata, **target.extra_metadata})
        targets.append(
            msgspec.structs.replace(target, attributes=attributes, extra_metadata={}, tags={}, mtime_ns=None)
        )
    return ManifestPart(part.object, part.part, 0, part.size, part.offset, crc32c, tuple(targets))


def _with_known(read: ObjectAttributes, target: PartTarget) -> ObjectAttributes:
    """What the source's answer said, with what only the head knows."""
    if not target.tags and (target.mtime_ns is None or read.mtime_ns is not None):
        return read
    mtime_ns = target.mtime_ns if read.mtime_ns is None else read.mtime_ns
    return msgspec.structs.replace(read, tags=target.tags, mtime_ns=mtime_ns)


def _failures(part: ManifestPart, error: ErrorRecord) -> list[PartFailure]:
    return [_failure(part, target.destination, error) for target in part.targets]


def _failure(part: ManifestPart, destination: int, error: ErrorRecord) -> PartFailure:
    return PartFailure(part.object, part.part, destination, error, part.crc32c)
