"""One transfer on the head gateway: threads and I/O around the pure transfer machine.

Threads: *admission* (listing, merge, opening uploads), *driver* (leases, expiry, reports, the end), a few *committers*
(complete, abort, read back). Results of leases arrive through :meth:`TransferRun.deliver` from the agent's own thread.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from gateway.admission import Admission
from gateway.committer import Committer
from skyplane_core.coordinator.decide import decisions
from skyplane_core.coordinator.events import Acked, Event, Finished
from skyplane_core.coordinator.journal import AckRecord, Journal, Recovered, decode, journal_keys, replay
from skyplane_core.coordinator.leases import LeaseTable
from skyplane_core.coordinator.machine import TransferMachine
from skyplane_core.coordinator.receipt import ReceiptWriter
from skyplane_core.coordinator.store import AgentStore
from skyplane_core.errors import SkyplaneError, TransferCancelled, TransferStalled
from skyplane_core.model import Lease, LeaseResult, ObjectInfo
from skyplane_core.spec import Progress, TransferSpec, TransferState

log = logging.getLogger(__name__)

COMMITTERS = 16
LEASES_PER_SLOT = 2
"""Leases a reader holds for each request that it may have in flight: one is being moved, one waits in its queue."""
POOL_SHARE = 0.75
"""Share of the reader's buffer pool that leases of one transfer may fill."""
LEASE_SECONDS = 600.0
ROOM_PARTS = 4096
"""Admission pauses while so many parts wait: enough to keep every reader busy, little to hold in memory."""
REPORT_SECONDS = 0.2
RENEW_SECONDS = 5.0


class TransferRun:
    """Runs one transfer to its end.

    Args:
        spec: what to do.
        routes: for each reader gateway, the gateways after it (see :class:`LeaseTable`).
        pool_bytes: the smallest buffer pool on the route.
        execute: hands a lease to a reader.
        report: told how the transfer stands, a few times a second and at the end.
        renew: called while the transfer moves, so that no gateway expires under it.
        pulse: a number that changes when bytes move anywhere on this gateway.
    """

    def __init__(
        self,
        spec: TransferSpec,
        routes: dict[str, tuple[str, ...]],
        source: AgentStore,
        destinations: dict[int, AgentStore],
        *,
        pool_bytes: int,
        execute: Callable[[Lease], None],
        report: Callable[[Progress], None],
        renew: Callable[[], None],
        pulse: Callable[[], int],
    ) -> None:
        self.spec = spec
        self._source = source
        self._destinations = destinations
        self._readers = list(routes)
        self._pool_bytes = pool_bytes
        self._execute = execute
        self._report = report
        self._renew = renew
        self._pulse = pulse
        self._changed = threading.Condition()
        self._machine = TransferMachine(
            lambda wanted: LeaseTable(
                spec.transfer_id,
                routes,
                max_leases=spec.options.concurrency * LEASES_PER_SLOT,
                max_bytes=int(pool_bytes * POOL_SHARE),
                lease_seconds=LEASE_SECONDS,
                wanted=wanted,
            ),
            max_attempts=spec.options.max_attempts,
            uniform=random.uniform,
        )
        self._state = TransferState.QUEUED
        self._error: SkyplaneError | None = None
        self._admitting = True
        self._cancelled = False
        self._started_at = time.time()
        self._ended_at: float | None = None
        state_store = destinations[0]
        self._receipt = ReceiptWriter(state_store.put_bytes, spec.state)
        self._journal = Journal(state_store, spec.state, f"{time.time_ns():x}")
        self._committer = Committer(self._machine, destinations, self._do, spec.options.max_attempts)
        self._committers = ThreadPoolExecutor(COMMITTERS, thread_name_prefix="committer")
        self._committing = 0
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin; returns at once."""
        self._state = TransferState.RUNNING
        self._report(self.progress())
        for name, target in (("driver", self._drive), ("admission", self._admit)):
            thread = threading.Thread(target=target, name=f"{name}-{self.spec.transfer_id[:12]}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def deliver(self, result: LeaseResult) -> None:
        """A reader reports on a lease."""
        self._do(lambda: self._machine.on_result(result, time.monotonic()))

    def cancel(self) -> None:
        """Stop sending, abort open uploads, end as CANCELLED. What had arrived stays. May be repeated."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def join(self, timeout: float) -> bool:
        """Wait for the end; False if it did not come in ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return self._state.ended

    def progress(self) -> Progress:
        """How the transfer stands now."""
        with self._changed:
            return self._machine.tally.progress(
                self.spec.transfer_id,
                self._state,
                started_at=self._started_at,
                ended_at=self._ended_at,
                error=str(self._error) if self._error else "",
                receipt=self.spec.destinations[0].store.object_uri(self._receipt.key),
            )

    # --- what admission asks of its host -----------------------------------------------------------------------------

    def wait_for_room(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._machine.table.waiting < ROOM_PARTS)
            return not self._stopping

    def selected(self, size: int) -> None:
        with self._changed:
            self._machine.tally.selected += 1
            self._machine.tally.bytes_selected += size

    def do(self, change: Callable[[], list[Event]]) -> None:
        self._do(change)

    def broke(self, bug: Exception) -> None:
        self._broke(bug)

    # --- threads -----------------------------------------------------------------------------------------------------

    @property
    def _stopping(self) -> bool:
        return self._cancelled or self._error is not None

    def _admit(self) -> None:
        try:
            recovered = self._recover()
            admission = Admission(
                self.spec,
                self._source,
                self._destinations,
                self._machine,
                self._journal,
                recovered,
                self._pool_bytes,
                self,
            )
            admission.run(decisions(self.spec, self._counted, self._source, self._destinations[0]))
            for leftover in admission.unused():
                self._destinations[0].abort_upload(leftover.upload.destination_key, leftover.upload.upload_id)
        except SkyplaneError as error:
            self._fail(error)
        except Exception as bug:  # noqa: BLE001 - a defect of ours ends the transfer, by name
            self._broke(bug)
        with self._changed:
            self._admitting = False
            self._machine.tally.listing_done = not self._stopping
            self._changed.notify_all()

    def _counted(self, listing: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
        for info in listing:
            self._machine.tally.listed += 1
            yield info

    def _recover(self) -> dict[tuple[str, int], list[Recovered]]:
        store = self._destinations[0]
        keys = journal_keys(store, self.spec.state)
        return replay(record for key in keys for record in decode(store.get_bytes(key)))

    def _drive(self) -> None:
        try:
            self._loop()
            self._finish()
        except SkyplaneError as error:
            self._conclude(TransferState.FAILED, error)
        except Exception as bug:  # noqa: BLE001 - a defect of ours ends the transfer, by name
            self._broke(bug)
            self._conclude(TransferState.FAILED, self._error)

    def _loop(self) -> None:
        moved_at = renewed_at = reported_at = time.monotonic()
        movement: tuple[int, ...] = ()
        while True:
            now = time.monotonic()
            with self._changed:
                self._machine.table.expire(now)
                leases = [] if self._stopping else self._take(now)
                over = not self._admitting and not self._machine.in_flight and not self._committing
                if over and not leases:
                    return
                stopping = self._stopping
            for lease in leases:
                self._execute(lease)
            if stopping:
                # Every time: an upload that was being opened is admitted after the transfer was given up.
                self._give_up()
            current = (*self._machine.tally.movement(), self._pulse())
            if current != movement:
                movement, moved_at = current, now
            elif now - moved_at > self.spec.options.progress_timeout:
                self._fail(self._stalled())
                moved_at = now
            if now - reported_at >= REPORT_SECONDS:
                reported_at = now
                self._report(self.progress())
            if moved_at > renewed_at and now - renewed_at >= RENEW_SECONDS:
                renewed_at = now
                self._renew()
            with self._changed:
                if not leases:
                    self._changed.wait(REPORT_SECONDS)

    def _take(self, now: float) -> list[Lease]:
        leases = []
        for reader in self._readers:
            while (lease := self._machine.table.take(reader, now)) is not None:
                leases.append(lease)
        return leases

    def _give_up(self) -> None:
        if not self._machine.in_flight:
            return
        error = self._error or TransferCancelled("the transfer was cancelled", where=self.spec.transfer_id)
        self._do(lambda: self._machine.give_up(error))

    def _finish(self) -> None:
        self._committers.shutdown(wait=True)
        if self._cancelled:
            state = TransferState.CANCELLED
        else:
            state = TransferState.FAILED if self._error or self._machine.tally.failed else TransferState.DONE
        self._conclude(state, self._error)

    def _conclude(self, state: TransferState, error: SkyplaneError | None) -> None:
        """Receipt durable first, then the journal goes, then the state says so."""
        with self._changed:
            self._error = error
            self._ended_at = time.time()
        final = self.progress()
        try:
            self._receipt.close(_ended(final, state))
            self._journal.close(discard=state is not TransferState.FAILED or not self._machine.tally.failed)
        except SkyplaneError as failure:
            state = TransferState.FAILED
            with self._changed:
                self._error = self._error or failure
        with self._changed:
            self._state = state
        self._report(self.progress())
        log.info("transfer ended", extra={"fields": {"transfer": self.spec.transfer_id, "state": state.value}})

    # --- shared ------------------------------------------------------------------------------------------------------

    def _do(self, change: Callable[[], list[Event]]) -> None:
        """Change the machine under its lock, then handle its events outside of it."""
        with self._changed:
            events = change()
            work = [event for event in events if not isinstance(event, Finished | Acked)]
            self._committing += len(work)
            self._changed.notify_all()
        for event in events:
            if isinstance(event, Finished):
                self._receipt.add(event.line)
            elif isinstance(event, Acked):
                self._journal.note(AckRecord(event.upload_id, event.ack))
        for event in work:
            self._committers.submit(self._commit, event)

    def _commit(self, event: Event) -> None:
        try:
            self._committer.perform(event)
        except Exception as bug:  # noqa: BLE001 - a defect of ours ends the transfer, by name
            self._broke(bug)
        finally:
            with self._changed:
                self._committing -= 1
                self._changed.notify_all()

    def _stalled(self) -> TransferStalled:
        held = self._machine.table.outstanding()
        where = held[0].lease.parts[0].key if held else ", ".join(self._machine.in_flight_keys()[:3])
        return TransferStalled(
            f"nothing has moved for {self.spec.options.progress_timeout:.0f} s",
            where=where,
            why=f"{len(held)} leases are out, {self._machine.in_flight} objects are in flight",
            next_step="Look at the gateways' logs, then run the transfer again: it continues where it stopped.",
        )

    def _fail(self, error: SkyplaneError) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _broke(self, bug: Exception) -> None:
        log.error("the coordinator failed", exc_info=bug, extra={"fields": {"transfer": self.spec.transfer_id}})
        self._fail(SkyplaneError("internal error in the coordinator", where=self.spec.transfer_id, why=repr(bug)))


def _ended(progress: Progress, state: TransferState) -> Progress:
    return msgspec.structs.replace(progress, state=state)
