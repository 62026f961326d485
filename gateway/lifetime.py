"""How long a gateway lives, and why it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec


class Ending(msgspec.Struct, frozen=True):
    """Why a gateway ends, and its exit code. ``process`` names a child that died; its ``status`` is minus a signal."""

    reason: str
    exit_code: int = 0
    process: str = ""
    status: int = 0

    def fields(self) -> dict[str, object]:
        """For the log."""
        died = {"died": self.process, "status": self.status} if self.process else {}
        return {"reason": self.reason, **died}


class Lifetime:
    """The expiry, and the first reason to end. For one event loop.

    Args:
        seconds: how long to live after the last :meth:`renew`.
        clock: a monotonic clock in seconds. Wall-clock time would end gateways when somebody sets it.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._deadline = clock() + seconds
        self._ending: Ending | None = None
        self._ended = asyncio.Event()

    def renew(self) -> None:
        """A transfer made progress: the expiry starts anew."""
        self._deadline = self._clock() + self._seconds

    def remaining(self) -> float:
        """Seconds until the gateway ends itself; never negative."""
        return max(0.0, self._deadline - self._clock())

    def end(self, ending: Ending) -> None:
        """End the gateway. The first reason holds; later ones are consequences of it."""
        if self._ending is None:
            self._ending = ending
            self._ended.set()

    async def ended(self) -> Ending:
        """Wait for the end, which comes with the expiry at the latest."""
        while (ending := self._ending) is None:
            remaining = self.remaining()
            if remaining <= 0:
                self.end(Ending("expired"))
                continue
            try:
                await asyncio.wait_for(self._ended.wait(), remaining)
            except asyncio.TimeoutError:
                # The expiry may have been renewed meanwhile: look again.
                continue
        return ending
