"""One direction of one connection: which bytes may leave now, and what happens between two of them. Pure.

Bytes come in with :meth:`Flow.take`, leave as :meth:`Flow.ready` says, and are counted by :meth:`Flow.sent`. A rule
that lies at byte n is due when exactly n bytes have left: :meth:`Flow.due` hands it out then, and nothing leaves before
that was asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from skyplane_core.testing.faultproxy.faults import ProxyFault, Rule

HELD = 1 << 20
"""Bytes that wait to be forwarded before reading pauses: a stalled direction must feel stalled to its sender."""
PIECE = 256 << 10
"""Bytes that leave at once at most."""
SLICES = 50
"""A slow direction moves in so many steps a second."""


class Flow:
    """Time is an argument: seconds on any clock that only goes forward."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.passed = 0
        self.ended = False
        """Its source has sent its last byte."""
        self.closed = False
        """Nothing more leaves: what comes is dropped."""
        self.stalled = False
        self._pending = [(rule, rule.fault.at) for rule in rules]
        self._waiting: deque[tuple[float, bytearray]] = deque()
        self._held = 0
        self._delay = 0.0
        self._rate = 0.0
        self._next = 0.0

    def add(self, rule: Rule, at: int) -> None:
        """Have ``rule`` strike at byte ``at``; one that lies behind never does."""
        if at >= self.passed:
            self._pending.append((rule, at))

    @property
    def wants(self) -> bool:
        """Whether more bytes may be taken."""
        return not self.ended and (self.closed or self._held < HELD)

    @property
    def drained(self) -> bool:
        """Whether its source has ended and all that it sent has left or was dropped."""
        return self.ended and (self.closed or not self._waiting)

    def take(self, data: bytes, now: float) -> None:
        """Bytes came from the source; empty ``data`` is its end."""
        if not data:
            self.ended = True
        elif not self.closed:
            self._waiting.append((now + self._delay, bytearray(data)))
            self._held += len(data)

    def due(self) -> ProxyFault | None:
        """The next fault that strikes right here, once. What concerns bytes only has taken effect with this."""
        for index, (rule, at) in enumerate(self._pending):
            if rule.spent:
                continue
            if at != self.passed or (rule.fault.action == "flip" and not self._waiting):
                continue
            del self._pending[index]
            rule.struck += 1
            self._apply(rule.fault)
            return rule.fault
        return None

    def ready(self, now: float) -> memoryview:
        """What may leave now, up to the next rule; empty if nothing may. To be released before :meth:`sent`."""
        if self.stalled or self.closed or not self._waiting:
            return memoryview(b"")
        moment, data = self._waiting[0]
        if now < max(moment, self._next):
            return memoryview(b"")
        limit = min([at - self.passed for rule, at in self._pending if not rule.spent], default=PIECE)
        if self._rate:
            limit = min(limit, max(1, int(self._rate / SLICES)))
        return memoryview(data)[: min(limit, PIECE)]

    def wakes_at(self) -> float | None:
        """When to ask again although nothing happens; None: not for the clock's sake."""
        if self.stalled or self.closed or not self._waiting:
            return None
        return max(self._waiting[0][0], self._next)

    def sent(self, count: int, now: float) -> None:
        """``count`` bytes of what was ready have left."""
        moment, data = self._waiting.popleft()
        del data[:count]
        if data:
            self._waiting.appendleft((moment, data))
        self._held -= count
        self.passed += count
        if self._rate:
            self._next = now + count / self._rate

    def close(self) -> None:
        """Drop what waits and what will come."""
        self.closed = True
        self._waiting.clear()
        self._held = 0

    def clear(self) -> None:
        """No more rules, and no stall, delay or limit from here on."""
        self._pending.clear()
        self.stalled, self._delay, self._rate, self._next = False, 0.0, 0.0, 0.0

    def _apply(self, fault: ProxyFault) -> None:
        if fault.action == "stall":
            self.stalled = True
        elif fault.action == "slow":
            self._rate = fault.rate
        elif fault.action == "delay":
            # What is here already was sent before this byte left, and is late by as much.
            self._waiting = deque((moment + fault.seconds - self._delay, data) for moment, data in self._waiting)
            self._delay = fault.seconds
        elif fault.action == "flip":
            self._waiting[0][1][0] ^= 1 << fault.bit
