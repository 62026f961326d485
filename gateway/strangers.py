"""Who has to go when too many connections wait that have not authenticated yet. Pure; used at both ports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

MOST_STRANGERS: Final = 64
"""Handshakes under way at one port, so that strangers cost a bounded amount of memory, threads and descriptors. A
genuine one takes two round trips and a few milliseconds: 64 are enough for hundreds of connections a second."""

T = TypeVar("T", bound=Hashable)


class Strangers(Generic[T]):
    """Connections in the order in which they came, each with the address that it came from. Not thread-safe.

    A newcomer is never turned away, since it may be the genuine one while all others only sit there. Instead the oldest
    goes of the address that has the most: one flooding machine throws out itself, and nobody who is quick.
    """

    def __init__(self) -> None:
        self._waiting: dict[T, str] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, connection: T, host: str) -> None:
        """A connection has come."""
        self._waiting[connection] = host

    def discard(self, connection: T) -> None:
        """It has authenticated, or is gone."""
        self._waiting.pop(connection, None)

    def evict(self) -> T | None:
        """Take out the one that has to go; None if nobody waits."""
        if not self._waiting:
            return None
        ((loudest, _count),) = Counter(self._waiting.values()).most_common(1)
        oldest = next(connection for connection, host in self._waiting.items() if host == loudest)
        del self._waiting[oldest]
        return oldest
