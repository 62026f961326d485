"""One transfer on the head gateway: threads and I/O around the pure transfer machine.

Threads: *admission* (listing, merge, opening uploads), *driver* (leases, expiry, reports, the end), a few *committers*
(complete, abort, read back). Results of leases arrive through :meth:`TransferRun.deliver` from the agent's own thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec

from gateway.admission import Admission
from gateway.committer import Committer
from gateway.copying import Copying
from gateway.deletion import Deletion
from gateway.limits import new_machine
from gateway.liveness import REPORT_SECONDS, Liveness, stalled, stranded
from gateway.records import Records
from gateway.removal import Removal
from gateway.uploads import Uploads
from skyplane_core.coordinator.chronicle import Chronicle
from skyplane_core.coordinator.decide import decisions
from skyplane_core.coordinator.events import Abort, Acked, Event, Finished
from skyplane_core.coordinator.journal import AckRecord
from skyplane_core.coordinator.leases import Out
from skyplane_core.coordinator.store import AgentStore
from skyplane_core.errors import SkyplaneError, TransferCancelled, TransferTakenOver
from skyplane_core.history import History
from skyplane_core.model import Lease, LeaseResult, ObjectInfo
from skyplane_core.object_file import ObjectFile
from skyplane_core.shrinkage import describe
from skyplane_core.spec import Progress, Route, TransferSpec, TransferState
from skyplane_core.stores.base import ObjectStore

log = logging.getLogger(__name__)

COMMITTERS = 16
ROOM_PARTS = 4096
"""Admission pauses while so many parts wait: enough to keep every reader busy, little to hold in memory."""
RECALL_SECONDS = 5.0
"""Between two looks for a recall, which are a small GET each; the first comes after as long."""
ROOM_SEGMENTS = 4
"""The same while so many segments of the receipt wait to be stored, of two megabytes each."""


class TransferRun:
    """Runs one transfer to its end.

    Args:
        spec: what to do.
        routes: at least one to each destination.
        pool_bytes: the smallest buffer pool on the route.
        execute: hands a lease to the reader of that name; must not block.
        report: told how the transfer stands, a few times a second and at the end.
        renew: called while the transfer moves, so that no gateway expires under it.
        pulse: a number that changes when bytes move anywhere on this gateway or on another one of the routes.
        receipt: opens the store of the receipt that the spec asks for besides its state.
    """

    def __init__(
        self,
        spec: TransferSpec,
        routes: Sequence[Route],
        source: AgentStore,
        destinations: dict[int, AgentStore],
        *,
        pool_bytes: int,
        execute: Callable[[str, Lease], None],
        report: Callable[[Progress], None],
        renew: Callable[[], None],
        pulse: Callable[[], int],
        receipt: Callable[[], ObjectStore],
    ) -> None:
        self.spec = spec
        self._source = source
        self._destinations = destinations
        self._pool_bytes = pool_bytes
        self._execute = execute
        self._report = report
        self._renew = renew
        self._pulse = pulse
        self._receipt_store = receipt
        self._changed = threading.Condition()
        self._machine = new_machine(spec, routes, pool_bytes)
        self._chronicle = Chronicle(spec, routes, time.monotonic())
        self._state = TransferState.QUEUED
        self._error: SkyplaneError | None = None
        self._admitting = True
        self._cancelled = False
        self._taken_over = False
        self._started_at = time.time()
        self._ended_at: float | None = None
        self._history: History | None = None
        self._records = Records(destinations[0], spec.state)
        self._receipt_uri = spec.destinations[0].store.object_uri(self._records.receipt.key)
        self._uploads = Uploads(spec, source, destinations, self._records.journal)
        copying = Copying(spec, self._machine, destinations, self.do, self._uploads.tags)
        self._committer = Committer(self._machine, destinations, self.do, self._records.closed, self._uploads, copying)
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
        """A reader reports on a lease. Raises nothing: the thread that brings it serves other transfers, too."""
        try:
            self.do(lambda: self._machine.on_result(result, time.monotonic()))
        except Exception as bug:  # noqa: BLE001 - a defect of ours ends the transfer, by name
            self.broke(bug)

    def gateway_lost(self, gateway: str, why: str) -> None:
        """A gateway of the routes cannot be reached: what was leased over it goes out again over the others."""
        with self._changed:
            voided = self._machine.table.lose(gateway, time.monotonic(), why)
            self._changed.notify_all()
        log.warning("leases void", extra={"gateway": gateway, "leases": len(voided)})

    def gateway_found(self, gateway: str) -> None:
        """It is back: its routes are tried again."""
        with self._changed:
            self._machine.table.found(gateway, time.monotonic())
            self._changed.notify_all()

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
                receipt=self._receipt_uri,
                history=self._history,
            )

    def _heed_recall(self) -> None:
        """A client that cannot reach this gateway asks by the transfer's journal that it be let go of."""
        while not self._over(RECALL_SECONDS):
            try:
                wish = self._records.recall()
            except SkyplaneError as error:
                log.info("nothing tells whether the transfer was recalled", extra={"why": str(error)})
                continue
            if wish is None:
                continue
            with self._changed:
                if not self._over(0.0):
                    self._let_go(hand_over=wish.hand_over)
            return

    def _let_go(self, *, hand_over: bool) -> None:
        log.warning("transfer recalled", extra={"transfer": self.spec.transfer_id, "hand_over": hand_over})
        if not hand_over:
            self.cancel()
            return
        self._taken_over = True
        error = TransferTakenOver(
            "somebody else has taken this transfer over",
            where=self.spec.transfer_id,
            why="these gateways could not be reached from there",
        )
        self._fail(error)

    def _over(self, seconds: float) -> bool:
        """Wait so long for the end, or for what leads to it."""
        with self._changed:
            return self._changed.wait_for(lambda: self.stopping or self._ended_at is not None, seconds)

    # --- what admission asks of its host -----------------------------------------------------------------------------

    def wait_for_room(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self.stopping or self._has_room())
            return not self.stopping

    def _has_room(self) -> bool:
        waiting = self._machine.table.waiting + self._machine.copying
        return waiting < ROOM_PARTS and self._records.receipt.unstored < ROOM_SEGMENTS

    def selected(self, size: int) -> None:
        with self._changed:
            self._machine.tally.selected += 1
            self._machine.tally.bytes_selected += size

    # --- threads -----------------------------------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        """Whether it was cancelled or has failed, so that nothing more is sent."""
        return self._cancelled or self._error is not None

    def _admit(self) -> None:
        try:
            self._records.begin(self.spec)
            recovered = self._records.recover()
            # From here on a recall that was meant for an earlier coordinator is known.
            name = f"recall-{self.spec.transfer_id[:12]}"
            threading.Thread(target=self._heed_recall, name=name, daemon=True).start()
            admission = Admission(
                self.spec,
                self._destinations,
                self._machine,
                self._uploads,
                recovered,
                self._pool_bytes,
                self,
            )
            stopped: list[str] = []
            destination = self._destinations[0]
            deletion = Deletion(
                self.spec, self._source, destination, self._machine, self._records, self.do, lambda: self.stopping
            )
            decided = decisions(self.spec, self._counted, self._source, destination, stopped)
            metered = self._chronicle.metered(decided, destination.capabilities, self._pool_bytes)
            admission.run(deletion.sifted(metered))
            self._machine.tally.stopped_at = "".join(stopped)
            if self._error is None:
                # After an error they stay, for a run that gets further.
                uploads = [recovered.upload for recovered in admission.unused()]
                self.do(lambda: [Abort(0, upload.destination_key, upload.upload_id) for upload in uploads])
            if (self.spec.options.delete or self._records.deleting) and self._all_arrived():
                deletion.run()
            if self.spec.options.move and self._all_arrived():
                Removal(
                    self.spec, self._source, destination, self._machine, self._records, self.do, lambda: self.stopping
                ).run()
        except SkyplaneError as error:
            self._fail(error)
        except Exception as bug:  # noqa: BLE001 - a defect of ours ends the transfer, by name
            self.broke(bug)
        with self._changed:
            self._admitting = False
            self._machine.tally.listing_done = not self.stopping
            self._changed.notify_all()

    def _all_arrived(self) -> bool:
        """Wait for everything that was admitted; False if any of it failed, or the transfer as a whole."""
        with self._changed:
            self._machine.tally.listing_done = not self.stopping
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.stopping or not (self._machine.in_flight or self._committing))
            return not self.stopping and not self._machine.tally.failed

    def _counted(self, listing: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
        for info in listing:
            self._machine.tally.listed += 1
            yield info

    def _drive(self) -> None:
        try:
            self._loop()
        except SkyplaneError as error:
            self._fail(error)
        except Exception as bug:  # noqa: BLE001 - a defect of ours ends the transfer, by name
            self.broke(bug)
        self._finish()

    def _loop(self) -> None:
        liveness = Liveness(self.spec.options.progress_timeout, time.monotonic())
        while True:
            now = time.monotonic()
            with self._changed:
                self._machine.table.expire(now)
                leases = [] if self.stopping else self._take(now)
                # Parts that nobody wants any more have left the queue with this, and admission may wait for just that.
                self._changed.notify_all()
                over = not self._admitting and not self._machine.in_flight and not self._committing
                if over and not leases:
                    return
                stopping = self.stopping
                completing = bool(self._committing) and not (self._machine.table.waiting or self._machine.table.out)
                out_of_reach = self._machine.table.stranded(now, liveness.limit)
            for out in leases:
                self._execute(out.reader, out.lease)
            if stopping:
                # Every time: an upload that was being opened is admitted after the transfer was given up.
                self._give_up()
            elif out_of_reach:
                self._fail(stranded(out_of_reach, liveness.limit))
            if liveness.stuck(self._movement(), now, completing=completing):
                unanswered = "; ".join(store.trouble for store in self._destinations.values() if store.trouble)
                self._fail(stalled(self._machine, liveness.limit, now, unanswered))
            if liveness.report_due(now):
                self._chronicle.look(now, self._machine.tally)
                self._report(self.progress())
            if liveness.renewal_due(now):
                self._renew()
            with self._changed:
                if not leases:
                    self._changed.wait(REPORT_SECONDS)

    def _movement(self) -> tuple[float, ...]:
        stores = (self._source, *self._destinations.values())
        answered = max(store.answered_at for store in stores)
        return (*self._machine.tally.movement(), self._pulse(), answered)

    def _take(self, now: float) -> list[Out]:
        leases = []
        while (out := self._machine.table.grant(now)) is not None:
            leases.append(out)
        return leases

    def _give_up(self) -> None:
        if not self._machine.in_flight:
            return
        error = self._error or TransferCancelled("the transfer was cancelled", where=self.spec.transfer_id)
        # A run that continues after an error sends only what the uploads do not hold; whoever cancels wants no rest.
        keep = (self.spec.options.keep_uploads or self._taken_over) and not self._cancelled
        self.do(lambda: self._machine.give_up(error, keep_uploads=keep))

    def _told(self) -> History | None:
        """The transfer's course; a transfer ends whether it can be told or not."""
        try:
            return self._chronicle.history(time.monotonic(), self._machine.tally)
        except Exception:  # what happened to the objects is known without it
            log.exception("the transfer's course cannot be told", extra={"transfer": self.spec.transfer_id})
            return None

    def _finish(self) -> None:
        """Receipt durable first, then the journal goes, then the state says so."""
        self._committers.shutdown(wait=True)
        with self._changed:
            self._ended_at = time.time()
            self._history = self._told()
            self._changed.notify_all()
        state = self._outcome()
        # The summary last: it is to tell, too, that the receipt could not be written where the user wants it.
        for write in (self._hand_over_receipt, self._close_receipt):
            try:
                write(state)
            except SkyplaneError as failure:
                self._fail(failure)
                state = TransferState.FAILED
            except Exception as bug:  # noqa: BLE001 - a defect of ours ends the transfer, by name
                self.broke(bug)
                state = TransferState.FAILED
        # An upload that may still be open has to be found by the next run.
        ended = state is not TransferState.FAILED and self._error is None
        self._records.end_journal(discard=ended and not self._committer.left_open)
        with self._changed:
            self._state = state
        self._report(self.progress())
        ended_as: dict[str, object] = {"transfer": self.spec.transfer_id, "state": state.value}
        if self._machine.tally.server_side_refused:
            ended_as["server_side_refused"] = self._machine.tally.server_side_refused
        if self._machine.tally.shrinkage is not None:
            ended_as["compression"] = describe(self._machine.tally.shrinkage)
        log.info("transfer ended", extra=ended_as)

    def _hand_over_receipt(self, state: TransferState) -> None:
        place = self.spec.receipt
        if place is None or self._records.overtaken(state):
            return
        uri = place.store.object_uri(place.key)
        totals = msgspec.structs.replace(self.progress(), state=state, receipt=uri)
        attempts = self.spec.options.max_attempts
        file = ObjectFile(self._receipt_store, place.key, "application/octet-stream", max_attempts=attempts)
        self._records.hand_over(file, place, totals, self._renew)
        self._receipt_uri = uri

    def _close_receipt(self, state: TransferState) -> None:
        try:
            self._records.close(msgspec.structs.replace(self.progress(), state=state))
        except BaseException:
            self._receipt_uri = ""
            raise

    def _outcome(self) -> TransferState:
        if self._cancelled:
            return TransferState.CANCELLED
        return TransferState.FAILED if self._error or self._machine.tally.failed else TransferState.DONE

    # --- shared ------------------------------------------------------------------------------------------------------

    def do(self, change: Callable[[], list[Event]]) -> None:
        """Change the machine under its lock, note what is settled, and have the rest of its events acted on."""
        with self._changed:
            events = change()
            work = [event for event in events if not isinstance(event, Finished | Acked)]
            lines = [event.line for event in events if isinstance(event, Finished)]
            segments = self._records.receipt.add(lines)
            self._chronicle.settled(lines)
            for event in events:
                if isinstance(event, Acked):
                    self._records.journal.note(AckRecord(event.upload_id, event.ack))
            self._committing += len(work) + segments
            self._changed.notify_all()
        for event in work:
            self._committers.submit(self._commit, partial(self._committer.perform, event))
        for _ in range(segments):
            self._committers.submit(self._commit, self._records.receipt.store)

    def _commit(self, act: Callable[[], None]) -> None:
        try:
            act()
        except SkyplaneError as error:
            self._fail(error)
        except Exception as bug:  # noqa: BLE001 - a defect of ours ends the transfer, by name
            self.broke(bug)
        finally:
            with self._changed:
                self._committing -= 1
                self._changed.notify_all()

    def _fail(self, error: SkyplaneError) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def broke(self, bug: Exception) -> None:
        log.error("the coordinator failed", exc_info=bug, extra={"transfer": self.spec.transfer_id})
        self._fail(SkyplaneError("internal error in the coordinator", where=self.spec.transfer_id, why=repr(bug)))
