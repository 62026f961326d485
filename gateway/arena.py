"""Who gets which bytes of the buffer pool: pure, no threads, no clock. :mod:`gateway.pool` adds those.

Two kinds of buffers share the pool. A *wire* buffer is freed when a peer has taken its bytes, which the peer may not do
before its own pool has room; a *store* buffer is freed by a store alone. Two gateways that send to each other could
wait for each other for ever if wire buffers could take the whole pool, so on a gateway that reads and writes the pool
is split in halves, one a kind; then store buffers always drain, and so does everything that waits for them.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections import deque
from typing import Final, NamedTuple

GRANULE: Final = 64 * 1024
"""Unit of allocation; also the least that a batch holds, so that batches of empty objects are bounded too."""


class Kind(enum.Enum):
    """What a buffer waits for before it is freed: a peer, or a store."""

    WIRE = "wire"
    STORE = "store"


class Arena:
    """First-fit allocation of contiguous granules out of ``size`` bytes; low addresses first, so they stay warm."""

    def __init__(self, size: int) -> None:
        self._free = [(0, size // GRANULE)]
        self._used: dict[int, int] = {}

    def allocate(self, size: int, low: int, high: int) -> int | None:
        """The offset of ``size`` bytes within ``[low, high)``; None if there is no such gap now."""
        granules, first, end = rounded(size) // GRANULE, low // GRANULE, high // GRANULE
        for index, (start, stop) in enumerate(self._free):
            begin = max(start, first)
            if begin + granules <= min(stop, end):
                rest = [gap for gap in ((start, begin), (begin + granules, stop)) if gap[0] < gap[1]]
                self._free[index : index + 1] = rest
                self._used[begin] = granules
                return begin * GRANULE
        return None

    def free(self, offset: int) -> None:
        """Give back what ``allocate`` returned. Raises KeyError if it is not allocated."""
        start = offset // GRANULE
        stop = start + self._used.pop(start)
        index = bisect_left(self._free, (start, stop))
        if index < len(self._free) and self._free[index][0] == stop:
            stop = self._free.pop(index)[1]
        if index and self._free[index - 1][1] == start:
            index -= 1
            start = self._free.pop(index)[0]
        self._free.insert(index, (start, stop))

    @property
    def held(self) -> int:
        return sum(self._used.values()) * GRANULE


def rounded(size: int) -> int:
    """``size`` in whole granules, at least one."""
    return max(1, -(-size // GRANULE)) * GRANULE


class Ticket:
    """One wish for a buffer; ``offset`` is set when it is granted."""

    __slots__ = ("kind", "offset", "owner", "size")

    def __init__(self, owner: str, kind: Kind, size: int) -> None:
        self.owner = owner
        self.kind = kind
        self.size = rounded(size)
        self.offset: int | None = None

    @property
    def where(self) -> int:
        """The offset of a granted ticket's buffer. Raises ValueError if it is not granted."""
        if self.offset is None:
            raise ValueError("this ticket holds nothing")
        return self.offset


class _Range(NamedTuple):
    low: int
    high: int


class Shares:
    """Decides who is next. For each kind, the waiting transfer that holds fewest bytes; within it, first come.

    Whoever is chosen and does not fit yet stays chosen: nobody of its kind overtakes it, so its gap opens as buffers
    are freed, however large it is.
    """

    def __init__(self, size: int) -> None:
        self.size = size // GRANULE * GRANULE
        self.split = False
        self._arena = Arena(self.size)
        self._waiting: dict[Kind, dict[str, deque[Ticket]]] = {kind: {} for kind in Kind}
        self._chosen: dict[Kind, Ticket | None] = dict.fromkeys(Kind)
        self._held: dict[str, int] = {}

    @property
    def largest(self) -> int:
        """Bytes of the largest buffer that may be asked for, split or not."""
        return self.size // 2 // GRANULE * GRANULE

    @property
    def held(self) -> int:
        return sum(self._held.values())

    def held_by(self, owner: str) -> int:
        return self._held.get(owner, 0)

    def waiting(self) -> list[Ticket]:
        return [ticket for owners in self._waiting.values() for queue in owners.values() for ticket in queue]

    def wish(self, ticket: Ticket) -> list[Ticket]:
        """Queue ``ticket``; returns the tickets granted now, perhaps this one.

        Raises:
            ValueError: it is larger than ``largest``.
        """
        if ticket.size > self.largest:
            raise ValueError(f"{ticket.size} bytes are more than half of the pool")
        self._waiting[ticket.kind].setdefault(ticket.owner, deque()).append(ticket)
        return self._grant()

    def give_back(self, ticket: Ticket) -> list[Ticket]:
        """Free a granted ticket's buffer; returns the tickets granted thereby."""
        self._arena.free(ticket.where)
        ticket.offset = None
        self._held[ticket.owner] -= ticket.size
        if not self._held[ticket.owner]:
            del self._held[ticket.owner]
        return self._grant()

    def withdraw(self, ticket: Ticket) -> list[Ticket]:
        """Drop a ticket that still waits; returns the tickets granted because it no longer stands in the way."""
        self._remove(ticket)
        return self._grant()

    def set_split(self, *, split: bool) -> list[Ticket]:
        """Give each kind its half from now on, or all to both; buffers that are out stay where they are."""
        self.split = split
        return self._grant()

    def _grant(self) -> list[Ticket]:
        granted = []
        for kind in Kind:
            low, high = self._range(kind)
            while (ticket := self._next(kind)) is not None:
                offset = self._arena.allocate(ticket.size, low, high)
                if offset is None:
                    break
                ticket.offset = offset
                self._remove(ticket)
                self._held[ticket.owner] = self._held.get(ticket.owner, 0) + ticket.size
                granted.append(ticket)
        return granted

    def _next(self, kind: Kind) -> Ticket | None:
        chosen = self._chosen[kind]
        if chosen is None and self._waiting[kind]:
            owner = min(self._waiting[kind], key=self.held_by)
            chosen = self._chosen[kind] = self._waiting[kind][owner][0]
        return chosen

    def _remove(self, ticket: Ticket) -> None:
        owners = self._waiting[ticket.kind]
        owners[ticket.owner].remove(ticket)
        if not owners[ticket.owner]:
            del owners[ticket.owner]
        if self._chosen[ticket.kind] is ticket:
            self._chosen[ticket.kind] = None

    def _range(self, kind: Kind) -> _Range:
        if not self.split:
            return _Range(0, self.size)
        return _Range(0, self.largest) if kind is Kind.WIRE else _Range(self.size - self.largest, self.size)
