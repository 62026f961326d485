"""Reading leases from the source store into pool buffers, and passing them on: to a peer or to the local puts."""

from __future__ import annotations

import functools

from gateway.arena import Kind
from gateway.batch import Batch, Report, describe, refused
from gateway.connections import Connections
from gateway.counters import Counter, Counters
from gateway.manifest import Answer
from gateway.opened import Transfers
from gateway.pool import Pool
from gateway.puts import Puts
from gateway.summed import Sums
from gateway.threads import Workers, as_record
from gateway.window import Gate
from skyplane_core.coordinator.leases import SMALL_PART
from skyplane_core.errors import GatewayRefused, SkyplaneError
from skyplane_core.model import Lease, LeaseResult


class Reader:
    """Executes leases on the fetch threads.

    Args:
        workers: the fetch threads; each transfer gets at most its ``concurrency`` of them.
        gate: large batches pass through it, from before they get a buffer until they are reported.
        report: called exactly once for each lease, from any thread.
    """

    def __init__(
        self,
        transfers: Transfers,
        pool: Pool,
        workers: Workers,
        connections: Connections,
        puts: Puts,
        gate: Gate,
        counters: Counters,
        report: Report,
    ) -> None:
        self._transfers = transfers
        self._pool = pool
        self._workers = workers
        self._connections = connections
        self._puts = puts
        self._gate = gate
        self._counters = counters
        self._report = report

    def execute(self, lease: Lease) -> None:
        """Start a lease; does not block."""
        try:
            transfer = self._transfers.get(lease.transfer_id)
            if lease.route:
                self._connections.check(lease.route)
        except SkyplaneError as error:
            self._report(refused(lease, error.record()))
            return
        if not lease.parts:
            self._report(refused(lease, GatewayRefused("a lease without parts").record()))
            return
        if lease.size < SMALL_PART:
            self._start(Batch(lease, transfer, self._report))
        else:
            self._gate.enter(functools.partial(self._start, Batch(lease, transfer, self._report_and_leave)))

    def _start(self, batch: Batch) -> None:
        transfer_id, limit = batch.lease.transfer_id, batch.transfer.config.concurrency
        self._workers.submit(transfer_id, limit, [functools.partial(self._begin, batch)])

    def _report_and_leave(self, result: LeaseResult) -> None:
        self._gate.leave()
        self._report(result)

    def _begin(self, batch: Batch) -> None:
        """The first task of a batch: get its buffer, then read the one part, or have many read side by side."""
        lease = batch.lease
        try:
            # A closed transfer has no use for a buffer that others wait for.
            self._transfers.get(lease.transfer_id)
            kind = Kind.WIRE if lease.route else Kind.STORE
            batch.hold(self._pool.acquire(lease.size, lease.transfer_id, kind))
        except Exception as error:  # noqa: BLE001 - becomes the result of the part that it happened to
            batch.fail(as_record(error))
            return
        tasks = [functools.partial(self._read, batch, index) for index in range(1, len(lease.parts))]
        if tasks:
            # First: a batch that has begun holds memory, one that has not holds none.
            self._workers.submit(lease.transfer_id, batch.transfer.config.concurrency, tasks, first=True)
        self._read(batch, 0)

    def _read(self, batch: Batch, index: int) -> None:
        part = batch.lease.parts[index]
        slot = batch.slot(index)
        config = batch.transfer.config
        where = config.source.object_uri(part.key) if config.source else ""
        try:
            summing = Sums(part, slot, compare=config.compare_source)
            with batch.transfer.source() as path:
                result = path.read_into(
                    part.key, part.version, part.offset, slot, whole=part.whole, landed=summing.landed
                )
            sums = summing.judged(result, where=where)
        except Exception as error:  # noqa: BLE001 - becomes the result of the part that it happened to
            last = batch.part_failed(index, as_record(error))
        else:
            self._counters.add(Counter.BYTES_READ, part.size)
            self._counters.add(Counter.PARTS_READ)
            described = describe(part, sums.crc32c, result.attributes, keep_attributes=config.keep_attributes)
            last = batch.part_read(index, described, result.attributes, sums)
        if last:
            self._pass_on(batch)

    def _pass_on(self, batch: Batch) -> None:
        try:
            batch.settle()
            if not batch.parts:
                batch.release()
                batch.answered(Answer((), ()))
            elif batch.lease.route:
                self._connections.send(batch.lease.route, batch)
            else:
                self._puts.write(
                    batch.transfer, batch.parts, batch.payload, _always, functools.partial(_written, batch)
                )
        except Exception as error:  # noqa: BLE001 - becomes the result of the part that it happened to
            batch.release()
            batch.fail(as_record(error))


def _written(batch: Batch, answer: Answer) -> None:
    batch.release()
    batch.answered(answer)


def _always() -> bool:
    return True
