"""Values for one peer, sent in order over the control link: all that wait travel in one call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from skyplane_core.errors import SkyplaneError

T = TypeVar("T")
MOST_AT_ONCE: Final = 64
PAUSE_SECONDS: Final = 1.0
"""Between two attempts where a peer cannot be reached."""


class Outbox(Generic[T]):
    """One thread sends; ``put`` never blocks. What it holds is bounded by the leases that may be out.

    Args:
        name: of the thread.
        send: one call with what waits; may raise any SkyplaneError.
        failed: told what ``send`` could not get through and why; True to try these again in a moment.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[tuple[T, ...]], None],
        failed: Callable[[tuple[T, ...], SkyplaneError], bool],
    ) -> None:
        self._send = send
        self._failed = failed
        self._changed = threading.Condition()
        self._waiting: list[T] = []
        self._closed = False
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def put(self, value: T) -> None:
        with self._changed:
            self._waiting.append(value)
            self._changed.notify()

    def drop(self, unwanted: Callable[[T], bool]) -> None:
        """Forget what waits and is not wanted any more."""
        with self._changed:
            self._waiting = [value for value in self._waiting if not unwanted(value)]

    def close(self) -> None:
        """Send nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return
                values, self._waiting = tuple(self._waiting[:MOST_AT_ONCE]), self._waiting[MOST_AT_ONCE:]
            try:
                self._send(values)
            except SkyplaneError as error:
                if self._failed(values, error):
                    with self._changed:
                        self._waiting[:0] = values
                        self._changed.wait_for(lambda: self._closed, PAUSE_SECONDS)
