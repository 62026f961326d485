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
        self._spot: memoryview | None = None

    def spoil(self) -> None:
        """Flip the bit where the body has come to rest."""
        if self._spot is not None:
            self._spot[0] ^= 1

    def readinto(self, view: memoryview) -> int:
        before = self._fault.at - self._done
        if self._fault.action in ("flip-upload", "flip-stored"):
            got = self._inner.readinto(view)
            if 0 <= before < got:
                if self._fault.action == "flip-upload":
                    view[before] ^= 1
                else:
                    self._spot = view[before : before + 1]
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
