"""The processes that the control process forked: notice their end, wait for it, or bring it about."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Mapping

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.002


class Children:
    """Child processes by name. Not reaped by anybody else, so a pid in here is never somebody else's."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._running = dict(pids)

    def reap(self) -> dict[str, int]:
        """Those that ended since the last call, with the exit code, or minus the signal that killed it."""
        ended = {}
        for name, pid in list(self._running.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self._running[name]
                ended[name] = os.waitstatus_to_exitcode(status)
                logger.info("process ended", extra={"child": name, "pid": pid, "status": ended[name]})
        return ended

    async def gone(self, seconds: float) -> None:
        """Wait until all have ended by themselves; after ``seconds`` kill the rest."""
        deadline = time.monotonic() + seconds
        while self._running and time.monotonic() < deadline:
            self.reap()
            await asyncio.sleep(_POLL_SECONDS if self._running else 0)
        self.kill()

    def kill(self) -> None:
        """Kill and reap whatever still runs."""
        for name, pid in self._running.items():
            logger.warning("process did not end and is killed", extra={"child": name, "pid": pid})
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._running.clear()
