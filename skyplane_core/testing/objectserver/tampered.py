"""A request body that goes wrong on its way to the operation."""

# ruff: noqa: D102 - the docstrings of the interface that this class has hold.
from __future__ import annotations

from collections.abc import Callable

from skyplane_core.testing.objectserver.faults import Fault
from skyplane_core.testing.objectserver.messages import BodySource, ConnectionLost


class TamperedBody:
    """A request body that a fault changes, cuts or holds up."""

    def __init__(self, inner: BodySource, fault: Fault, hold: Callable[[], None]) -> None:
        self._inner = inner
        self._fault = fault
        self._hold = hold
        self._held = False
        self._done = 0

    def readinto(self, view: memoryview) -> int:
        before = self._fault.at - self._done
        if self._fault.action == "flip-upload":
            got = self._inner.readinto(view)
            if 0 <= before < got:
                view[before] ^= 1
            self._done += got
            return got
        if before <= 0 and self._fault.action == "reset-during":
            raise ConnectionLost("reset by a fault")
        if before <= 0 and not self._held:
            self._held = True
            self._hold()
        got = self._inner.readinto(view[:before] if before > 0 else view)
        self._done += got
        return got
