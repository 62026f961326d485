"""Watching one transfer from outside: progress, the end, and the receipt."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skyplane_core.errors import GatewayUnreachable, TransferCancelled, TransferFailed
from skyplane_core.receipt_file import write_receipt
from skyplane_core.receipt_place import format_of
from skyplane_core.spec import Progress, ReceiptLine, TransferState
from skyplane_core.units import counted

if TYPE_CHECKING:
    from skyplane_core.dataplane import Dataplane
    from skyplane_core.prepare import Prepared

log = logging.getLogger(__name__)

RENEW_MARGIN_SECONDS = 600.0
"""Credentials are renewed when less than this is left of them."""
RENEW_PAUSE_SECONDS = 30.0
"""Between two renewals: a token service may go on giving out what is about to expire, and may be away for a while."""
POLL_SHARE = 0.02
"""A poll's pause, as a share of the time waited so far: what is lost at the end is at most that share."""
FIRST_POLL_SECONDS = 0.02
LAST_POLL_SECONDS = 1.0
UNREACHABLE_SECONDS = 60.0
"""How long a head may be silent before its transfer counts as lost."""


@dataclasses.dataclass(frozen=True)
class Result:
    """How a transfer ended.

    ``receipt`` is the URI of its receipt where it was asked for, else of its summary at the destination; empty if that
    could not be stored.
    """

    progress: Progress
    receipt: str
    _read: Callable[[], Iterator[ReceiptLine]] = dataclasses.field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether everything arrived."""
        return self.progress.state is TransferState.DONE

    def lines(self) -> Iterator[ReceiptLine]:
        """The durable receipt, line by line; raises ObjectNotFound after :meth:`Dataplane.discard_state`."""
        return self._read()

    def save(self, path: str | Path) -> None:
        """Write the receipt to a local file, in the format that its name asks for (:func:`receipt_place.format_of`)."""
        with Path(path).open("wb") as file:
            write_receipt(file, format_of(str(path)), self.progress, self.lines())

    def raise_for_state(self) -> None:
        """Raise if the transfer did not end well.

        Raises:
            TransferFailed: with the first causes in the message and in ``failures``.
            TransferCancelled: it was cancelled.
        """
        if self.ok:
            return
        progress = self.progress
        if progress.state is TransferState.CANCELLED:
            raise TransferCancelled("the transfer was cancelled", where=progress.transfer_id)
        causes = [f"{json.dumps(key)}: {reason}" for key, reason in progress.failures[:5]]
        what = progress.error
        if progress.objects_failed:
            what = f"{progress.objects_failed:,} of {counted(progress.objects_selected, 'object')} did not arrive"
            causes += [progress.error] if progress.error else []
        arrived = f"{counted(progress.objects_copied, 'object')} arrived"
        error = TransferFailed(
            what or "the transfer failed",
            where=progress.transfer_id,
            why="; ".join(causes),
            next_step=f"{arrived}; the receipt names all: {self.receipt}" if self.receipt else f"{arrived}.",
        )
        error.failures = progress.failures
        raise error


class Tracker:
    """One transfer on a dataplane. Made by :meth:`Dataplane.run_async` and :meth:`Dataplane.tracker`.

    Args:
        prepared: with it the tracker can renew credentials and read the receipt; a tracker of a transfer that somebody
            else started can only watch and cancel.
        keep: gateways are to go on knowing the transfer when it has ended, for others that ask; then they hold its
            credentials until they end themselves.
    """

    def __init__(
        self, dataplane: Dataplane, transfer_id: str, prepared: Prepared | None = None, *, keep: bool = False
    ) -> None:
        self.transfer_id = transfer_id
        self._dataplane = dataplane
        self._prepared = prepared
        self._keep = keep
        self._final: Progress | None = None
        self._heard = time.monotonic()
        self._renew_after = 0.0

    def progress(self) -> Progress:
        """How the transfer stands; after :meth:`wait`, how it ended. Raises TransferNotFound, GatewayUnreachable."""
        return self._final or self._dataplane.head.progress(self.transfer_id)

    def query_bytes_remaining(self) -> int:
        """Bytes selected and not yet acknowledged at the destination; 0 means that all have arrived.

        Grows while the source is still being listed, and waits for the first listed objects where nothing is known yet.
        """
        while True:
            progress = self.progress()
            remaining = max(0, progress.bytes_selected - progress.bytes_acked)
            if remaining or progress.listing_done or progress.state.ended:
                return remaining
            time.sleep(FIRST_POLL_SECONDS)

    @property
    def is_complete(self) -> bool:
        """Whether the transfer has ended, well or not."""
        return self.progress().state.ended

    def cancel(self) -> None:
        """Stop the transfer; :meth:`wait` then returns its CANCELLED result. May be repeated."""
        self._dataplane.head.cancel(self.transfer_id)

    def wait(self, on_progress: Callable[[Progress], None] | None = None, timeout: float | None = None) -> Result:
        """Block until the transfer has ended, well or not (see :meth:`Result.raise_for_state`).

        Args:
            on_progress: called with each report, at most every 20 ms and at least every second.
            timeout: seconds; the transfer goes on when it passes.

        Raises:
            TimeoutError: it has not ended in time.
            GatewayUnreachable: the head did not answer for a minute.
        """
        return watch([self], on_progress, timeout)[0]

    def listen(self) -> None:
        """Count the head's silence from now on."""
        self._heard = time.monotonic()

    def look(self, on_progress: Callable[[Progress], None] | None = None) -> Result | None:
        """One turn of :func:`watch`: the result if the transfer has ended; else credentials are renewed where due."""
        try:
            progress = self.progress()
        except GatewayUnreachable:
            if time.monotonic() - self._heard > UNREACHABLE_SECONDS or not self._dataplane.alive():
                raise
            return None
        self._heard = time.monotonic()
        if on_progress is not None:
            on_progress(progress)
        if progress.state.ended:
            if self._final is None and self._prepared is not None and not self._keep:
                # Its credentials have no business in a gateway's memory any more.
                self._dataplane.forget(self.transfer_id)
            self._final = progress
            return self._result(progress)
        self._renew_if_due()
        return None

    def _result(self, progress: Progress) -> Result:
        return Result(progress, progress.receipt, lambda: self._dataplane.receipt_lines(self._known()))

    def _known(self) -> Prepared:
        if self._prepared is None:
            raise LookupError("the receipt of a transfer that another client started is read with its own credentials")
        return self._prepared

    def _renew_if_due(self) -> None:
        prepared = self._prepared
        if prepared is None or (prepared.refresh is None and prepared.refresh_receipt is None):
            return
        expiry = prepared.credentials_expire_at
        if expiry is None or expiry - time.time() >= RENEW_MARGIN_SECONDS or time.monotonic() < self._renew_after:
            return
        self._renew_after = time.monotonic() + RENEW_PAUSE_SECONDS
        try:
            self._prepared = self._dataplane.renew(prepared)
        except Exception as error:  # noqa: BLE001  # where they come from is the caller's, and so are its errors
            # Those in use still work; if they never can be renewed, the transfer fails and says so.
            log.warning("credentials could not be renewed: %s: %s", type(error).__name__, error)


def watch(
    trackers: Sequence[Tracker], on_progress: Callable[[Progress], None] | None = None, timeout: float | None = None
) -> list[Result]:
    """Wait for all to end, looking at each in turn: those that run need their credentials while others run, too.

    Raises:
        TimeoutError, GatewayUnreachable: as :meth:`Tracker.wait`.
    """
    began = time.monotonic()
    results: list[Result | None] = [None] * len(trackers)
    for tracker in trackers:
        tracker.listen()
    while True:
        for index, tracker in enumerate(trackers):
            results[index] = results[index] or tracker.look(on_progress)
        ended = [result for result in results if result is not None]
        if len(ended) == len(trackers):
            return ended
        waited = time.monotonic() - began
        if timeout is not None and waited >= timeout:
            running = next(t.transfer_id for t, result in zip(trackers, results, strict=True) if result is None)
            raise TimeoutError(f"transfer {running} has not ended; it goes on")
        time.sleep(min(max(waited * POLL_SHARE, FIRST_POLL_SECONDS), LAST_POLL_SECONDS))
