"""Watches one transfer from the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_skyplane.finished import outcome
from airflow_provider_skyplane.hooks.skyplane import read_access
from airflow_provider_skyplane.triggers import report, task_state
from airflow_provider_skyplane.watch import RENEW_MARGIN_SECONDS, Watch
from skyplane_core.errors import Retry, SkyplaneError
from skyplane_core.progress_lines import ProgressLines
from skyplane_core.spec import Progress

UNREACHABLE_LIMIT_SECONDS = 180.0
"""For so long the head may not answer before the transfer is given up: a network blip is not a failure."""
RESUME_NOT_BEFORE_SECONDS = 8.0
"""How long after deferring a task may be resumed at the earliest. A worker's supervisor can take 5 s to notice that the
process of a deferred task has ended; if the task is queued again by then, the scheduler takes the late word of that end
for a crash and fails it (a known race of Airflow, seen on 3.3.2)."""
RENEW_PAUSE_SECONDS = 120.0
"""Between two resumes for fresh credentials. A machine's own token service gives out what is about to expire until five
minutes before its end, and may be away for a while."""
_ENDING: set[asyncio.Task[None]] = set()
"""What has been begun when a trigger was cancelled: an event loop by itself keeps no task alive."""


class SkyplaneTransferTrigger(BaseTrigger):
    """One cheap status call per poll, then exactly one event.

    Holds no state that a restarted triggerer would miss, and no secret: the control secret is read from the connection.
    The event's ``status`` is ``success``, ``error``, ``timeout`` (the deadline passed), or ``renew`` (credentials are
    about to expire and a worker has to resolve new ones).

    Args:
        dataplane: the dataplane's reference, as JSON.
        transfer_id: the transfer to watch.
        skyplane_conn_id: connection that holds the control secret.
        ca_fingerprint: SHA-256 of the dataplane CA's certificate, by which a changed control secret is told at once.
        poll_interval: seconds between two polls.
        deadline: seconds since the epoch after which the transfer is given up, or None.
        not_before: seconds since the epoch before which no event is fired, see :data:`RESUME_NOT_BEFORE_SECONDS`.
        renew_not_before: seconds since the epoch before which credentials are not asked for (again).
    """

    def __init__(
        self,
        *,
        dataplane: str,
        transfer_id: str,
        skyplane_conn_id: str,
        ca_fingerprint: str,
        poll_interval: float = 10.0,
        deadline: float | None = None,
        not_before: float = 0.0,
        renew_not_before: float = 0.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dataplane = dataplane
        self.transfer_id = transfer_id
        self.skyplane_conn_id = skyplane_conn_id
        self.ca_fingerprint = ca_fingerprint
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.not_before = not_before
        self.renew_not_before = renew_not_before
        self._heard: Progress | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments; all of them plain JSON."""
        return (
            "airflow_provider_skyplane.triggers.skyplane.SkyplaneTransferTrigger",
            {
                "dataplane": self.dataplane,
                "transfer_id": self.transfer_id,
                "skyplane_conn_id": self.skyplane_conn_id,
                "ca_fingerprint": self.ca_fingerprint,
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
                "not_before": self.not_before,
                "renew_not_before": self.renew_not_before,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch until there is something to tell; yields exactly one event."""
        try:
            event = await self._watched()
            await asyncio.sleep(max(0.0, self.not_before - time.time()))
        except asyncio.CancelledError:
            if not task_state.TELLS:
                await _finished(self._end_unless_deferred())
            raise
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _watched(self) -> dict[str, Any]:
        try:
            watch = await self._begun()
            try:
                return await self._until_event(watch)
            finally:
                await watch.close()
        except Exception as error:  # noqa: BLE001  # a trigger that raises never reaches execute_complete
            return self._event("error", message=f"{type(error).__name__}: {error}")

    async def _begun(self) -> Watch:
        """The watch, once the connection can be read: where it is kept may be away as gateways may."""
        began = time.monotonic()
        while True:
            try:
                return await self._watch()
            except SkyplaneError:
                raise
            except Exception as error:
                if time.monotonic() - began > UNREACHABLE_LIMIT_SECONDS:
                    raise
                self.log.warning(
                    "Transfer %s cannot be watched yet: %s: %s", self.transfer_id, type(error).__name__, error
                )
            await asyncio.sleep(self.poll_interval)

    async def _until_event(self, watch: Watch) -> dict[str, Any]:
        answered = time.monotonic()
        lines = ProgressLines()
        while True:
            try:
                self._heard = progress = await watch.progress()
                answered = time.monotonic()
                if line := lines.line(progress, answered):
                    self.log.info(line)
            except SkyplaneError as error:
                lost_for = time.monotonic() - answered
                if error.retry is Retry.PERMANENT or lost_for > UNREACHABLE_LIMIT_SECONDS:
                    return self._event("error", message=str(error))
                self.log.warning("Transfer %s: no answer for %.0f s: %s", self.transfer_id, lost_for, error)
            else:
                event = self._judge(progress)
                if event is not None:
                    return event
            if self.deadline is not None and time.time() >= self.deadline:
                return self._event("timeout", message=f"Transfer {self.transfer_id} ran past its deadline.")
            await asyncio.sleep(self._pause())

    def _pause(self) -> float:
        if self.deadline is None:
            return self.poll_interval
        return max(0.0, min(self.poll_interval, self.deadline - time.time()))

    def _judge(self, progress: Progress) -> dict[str, Any] | None:
        if progress.state.ended:
            return self._event(**outcome(progress))
        expiry, now = progress.credentials_expire_at, time.time()
        if expiry is not None and expiry - now < RENEW_MARGIN_SECONDS and now >= self.renew_not_before:
            return self._event("renew", message="Credentials are about to expire.", deadline=self.deadline)
        return None

    def _event(self, status: str, **details: Any) -> dict[str, Any]:
        return {"status": status, "dataplane": self.dataplane, "transfer_id": self.transfer_id, **details}

    async def _watch(self) -> Watch:
        secret, hosts = await read_access(self.skyplane_conn_id)
        return await asyncio.to_thread(Watch, self.dataplane, self.transfer_id, secret, self.ca_fingerprint, hosts)

    async def on_kill(self) -> None:
        """A user ended the deferred task (Airflow 3.3+): cancel the transfer and end its gateways.

        Deliberately not in ``cleanup``, which also runs when the triggerer restarts.
        """
        await _finished(self._end())

    async def _end_unless_deferred(self) -> None:
        try:
            goes_on = await task_state.still_deferred(self.task_instance)
        except Exception as error:  # noqa: BLE001  # most likely the triggerer ends, and another one takes over
            self.log.info("Transfer %s goes on: its task cannot be asked for (%s)", self.transfer_id, error)
            return
        if not goes_on:
            await self._end()

    async def _end(self) -> None:
        heard = self._heard
        try:
            watch = await self._watch()
            try:
                heard = await watch.cancel_and_shut_down() or heard
            finally:
                await watch.close()
        except Exception as error:  # noqa: BLE001  # nobody awaits this task any more: the log is where it can be seen
            self.log.warning("Could not end transfer %s; its gateways end by expiry: %s", self.transfer_id, error)
        else:
            self.log.info("Transfer %s was cancelled and its gateways have been ended.", self.transfer_id)
        if heard is not None:
            await self._leave_report(heard)

    async def _leave_report(self, heard: Progress) -> None:
        try:
            await report.leave(self.task_instance, heard)
        except Exception as error:  # noqa: BLE001  # what counts is that the transfer has ended
            self.log.warning("A transfer's report could not be left: %s: %s", type(error).__name__, error)


async def _finished(ending: Coroutine[Any, Any, None]) -> None:
    """Have it done, whatever becomes of who waits: Airflow cancels again every second until a trigger has returned."""
    task = asyncio.create_task(ending)
    _ENDING.add(task)
    task.add_done_callback(_ENDING.discard)
    await asyncio.shield(task)
