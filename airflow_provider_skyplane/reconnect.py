"""Looks for the transfer of an earlier try of a task, and asks its gateways and its receipt how it stands."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_skyplane.durable import Next, Reference, References, Standing, decide, wanted
from airflow_provider_skyplane.finished import Finished
from airflow_provider_skyplane.recall import recall
from skyplane_core.errors import GatewayUnreachable, SkyplaneError, TransferNotFound
from skyplane_core.spec import Progress

if TYPE_CHECKING:
    from airflow_provider_skyplane.engine import Engine, FanOut, Request, Run

CANCEL_SECONDS = 15.0
"""How long a transfer that is cancelled may take to abort its uploads before its gateways are ended all the same."""
RECALLED_SECONDS = 60.0
"""How long a transfer that was recalled is waited for: its head looks every 5 s, and lets go within some more."""
_ASK_SECONDS = 10.0
"""How long gateways on other machines are asked again while the network does not lead there."""
_ASK_PAUSE_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Found:
    """What a try goes on with: a run and, if that has ended, how; else an id to continue; else nothing."""

    run: Run | None = None
    finished: Finished | None = None
    transfer_id: str | None = None


class Reconnection:
    """One try's look at what an earlier one has started.

    Args:
        epoch: the task's ``max_tries``.
        log: where it says what it found.
    """

    def __init__(
        self, engine: Engine, request: Callable[[], Request | FanOut], references: References, epoch: int, log: Any
    ) -> None:
        self._engine = engine
        self._request = request
        self._references = references
        self._epoch = epoch
        self._log = log

    def find(self) -> Found:
        """The earlier transfer if it is to be gone on with. One that is not has been ended, as far as it answers.

        Raises:
            SkyplaneError: source, destination or receipt cannot be read.
        """
        from airflow_provider_skyplane.engine import is_reference

        reference = self._references.load()
        if reference is None or not is_reference(reference.dataplane):
            return Found()
        try:
            run = self._engine.attach(reference.dataplane, reference.transfer_id)
        except SkyplaneError as error:
            self._log.warning("Transfer %s of an earlier try cannot be asked: %s", reference.transfer_id, error)
            return Found()
        if not wanted(reference, self._engine.fingerprint(self._request()), self._epoch):
            self._log.info("Transfer %s is of a task that was cleared or changed since.", reference.transfer_id)
            return self._unwanted(run, reference)
        standing, finished = self._ask(run, reference)
        self._log.info("An earlier try started transfer %s: %s.", reference.transfer_id, standing.value)
        match decide(standing):
            case Next.ATTACH:
                return Found(run=run, finished=finished)
            case Next.CONTINUE:
                return Found(transfer_id=reference.transfer_id)
            case Next.REPLACE:
                return self._replaced(run)
            case Next.TAKE_OVER:
                return self._taken_over(run, reference)

    def save(self, run: Run) -> None:
        """Keep what the next try needs to find this run."""
        host = socket.gethostname()
        self._references.save(Reference(run.reference, run.transfer_id, run.fingerprint, self._epoch, host))

    def forget(self, run: Run) -> None:
        """Nobody is to come back to it. May be repeated.

        What another try has kept since is left alone: this one may be thought to be dead, and be only cut off.
        """
        kept = self._references.load()
        if kept is None or kept.dataplane == run.reference:
            self._references.delete()

    def _ask(self, run: Run, reference: Reference) -> tuple[Standing, Finished | None]:
        try:
            progress = self._progress(run)
        except TransferNotFound:
            # It was never started there, or has ended and was forgotten since: the receipt knows.
            return self._receipt(reference) or (Standing.FAILED, None)
        except SkyplaneError as error:
            self._log.info("The gateways of transfer %s do not answer: %s", reference.transfer_id, error)
            return self._receipt(reference) or (self._silent(run, reference), None)
        return _standing(progress)

    def _progress(self, run: Run) -> Progress:
        deadline = time.monotonic() + (_ASK_SECONDS if run.outlives_task else 0.0)
        while True:
            try:
                return run.progress()
            except GatewayUnreachable:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(_ASK_PAUSE_SECONDS)

    def _receipt(self, reference: Reference) -> tuple[Standing, Finished | None] | None:
        progress = self._engine.ended(self._request(), reference.transfer_id)
        return None if progress is None else _standing(progress)

    def _silent(self, run: Run, reference: Reference) -> Standing:
        """Whether gateways that do not answer are gone for certain, which they are once they have been stopped."""
        if elsewhere(run, reference.host):
            return Standing.UNKNOWN
        try:
            run.stop()
        except SkyplaneError as error:
            self._log.warning("The gateways of transfer %s could not be ended: %s", reference.transfer_id, error)
            return Standing.UNKNOWN
        return Standing.ENDED

    def _replaced(self, run: Run) -> Found:
        end(run, CANCEL_SECONDS, self._log)
        return Found()

    def _unwanted(self, run: Run, reference: Reference) -> Found:
        if elsewhere(run, reference.host) and not _answers(run):
            run.leave()
            self._recall(reference, hand_over=False)
            return Found()
        ending = end(run, CANCEL_SECONDS, self._log)
        if ending.progress is None and not ending.certain:
            self._recall(reference, hand_over=False)
        return Found()

    def _taken_over(self, run: Run, reference: Reference) -> Found:
        standing, finished = self._recall(reference, hand_over=True) or (Standing.ENDED, None)
        if standing is Standing.DONE:
            return Found(run=run, finished=finished)
        run.leave()
        return Found(transfer_id=reference.transfer_id)

    def _recall(self, reference: Reference, *, hand_over: bool) -> tuple[Standing, Finished | None] | None:
        """How a transfer that cannot be reached has ended, once it was recalled; None if nothing is heard of it."""
        transfer_id, host = reference.transfer_id, reference.host
        if not recall(self._engine, self._request(), transfer_id, hand_over=hand_over):
            self._log.info("Transfer %s, started on host %s, has nothing open at this destination.", transfer_id, host)
            return self._receipt(reference) if hand_over else None
        self._log.warning(
            "Transfer %s was started on host %s, whose gateways cannot be reached from %s. A word at its destination "
            "tells them to let go of it; waiting for their answer, %.0f s at most.",
            transfer_id,
            host,
            socket.gethostname(),
            RECALLED_SECONDS,
        )
        deadline = time.monotonic() + RECALLED_SECONDS
        while (told := self._receipt(reference)) is None and time.monotonic() < deadline:
            time.sleep(_ASK_PAUSE_SECONDS)
        if told is None:
            self._log.warning(
                "Nothing was heard of transfer %s: host %s, or the gateways there, must be gone. Should they only be "
                "cut off from the destination, they let go of it within seconds of getting there again.",
                transfer_id,
                host,
            )
        else:
            self._log.info("Transfer %s runs on host %s no more.", transfer_id, host)
        return told


def elsewhere(run: Run, host: str) -> bool:
    """Whether its gateways, started from ``host``, are processes there, so that nothing here tells whether they run."""
    return not run.outlives_task and host != socket.gethostname()


def _answers(run: Run) -> bool:
    """Whether its gateways can be asked from here, whatever they say."""
    try:
        run.progress()
    except TransferNotFound:
        return True
    except SkyplaneError:
        return False
    return True


def _standing(progress: Progress) -> tuple[Standing, Finished | None]:
    if not progress.state.ended:
        return Standing.RUNNING, None
    finished = Finished.of(progress)
    return (Standing.FAILED if finished.failed else Standing.DONE), finished


class Ending(NamedTuple):
    """``certain``: its gateways have ended. ``progress``: the last that was heard of the transfer, None if nothing."""

    certain: bool
    progress: Progress | None

    @property
    def orderly(self) -> bool:
        """Whether the transfer has ended and left no upload open."""
        return self.progress is not None and self.progress.state.ended


def end(run: Run, seconds: float, log: Any) -> Ending:
    """Cancel a transfer, wait so long for its uploads to be aborted, and end its gateways. May be repeated.

    Of what went wrong the log tells: whoever calls this has something else to report, and gateways that cannot be
    reached end by their expiry.
    """
    progress, certain = None, True
    try:
        progress = run.cancel(seconds)
    except (TransferNotFound, GatewayUnreachable) as error:
        # The usual case: it has ended, and its gateways with it.
        log.info("Transfer %s does not answer any more.", run.transfer_id)
        log.debug("It was asked: %s", error)
    except SkyplaneError as error:
        log.warning("Could not cancel transfer %s: %s", run.transfer_id, error)
    try:
        run.stop()
    except SkyplaneError as error:
        log.warning("Could not stop dataplane %s, which ends by its expiry: %s", run.dataplane_id, error)
        certain = False
    return Ending(certain, progress)
