"""What can go wrong on a connection, and where on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

TO_SERVER = "to-server"
"""From whoever connected to the proxy, to the target."""
TO_CLIENT = "to-client"
"""From the target back."""

ACTIONS = {
    "cut": "reset the connection, both ways, with RST",
    "half-close": "end this direction with FIN and drop what follows; the other direction goes on",
    "truncate": "end the connection both ways with FIN; what follows in this direction is lost",
    "stall": "forward nothing more in this direction and keep the sockets open, until resume()",
    "flip": "flip bit `bit` of the byte at `at`",
    "slow": "forward at `rate` bytes a second from here on",
    "delay": "from here on each byte arrives `seconds` later",
    "call": "call `callback` with the connection's number; nothing moves on any connection meanwhile",
}
"""What can go wrong, by name."""


def _nothing(_connection: int) -> None:
    return


@dataclasses.dataclass(frozen=True)
class ProxyFault:
    """One rule: what happens once ``at`` bytes of a connection have passed in one direction.

    Args:
        action: one of :data:`ACTIONS`.
        direction: :data:`TO_SERVER` or :data:`TO_CLIENT`.
        at: bytes of that connection in that direction. All before them are handed on first, none after them.
        connections: only these, counted from 1 in the order in which they were accepted; empty: every one.
        times: at most so often, over all connections; None: without end.
        bit: of ``flip``, 0 to 7.
        rate: bytes per second, of ``slow``.
        seconds: of ``delay``.
        callback: of ``call``; runs in the proxy's thread.
    """

    action: str
    direction: str = TO_SERVER
    at: int = 0
    connections: tuple[int, ...] = ()
    times: int | None = None
    bit: int = 0
    rate: float = 1e6
    seconds: float = 0.1
    callback: Callable[[int], None] = _nothing

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"{self.action!r} is no fault; there are: {', '.join(ACTIONS)}")
        if self.direction not in (TO_SERVER, TO_CLIENT):
            raise ValueError(f"{self.direction!r} is no direction; there are: {TO_SERVER}, {TO_CLIENT}")
        if self.at < 0 or self.rate <= 0 or self.seconds < 0 or not 0 <= self.bit < 8:
            raise ValueError(f"out of range: {self}")

    def applies(self, connection: int, direction: str) -> bool:
        """Whether it may strike there."""
        return direction == self.direction and (not self.connections or connection in self.connections)


class Rule:
    """A fault, and how often it has struck."""

    def __init__(self, fault: ProxyFault) -> None:
        self.fault = fault
        self.struck = 0

    @property
    def spent(self) -> bool:
        """Whether it will not strike any more."""
        return self.fault.times is not None and self.struck >= self.fault.times
