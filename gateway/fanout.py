"""How many connections a peer gets: as many as bring more throughput. Pure; time and measurements are arguments.

How many fill a path is not known beforehand: one connection with bbr fills a lossy gigabit, one with cubic gets a
hundredth of it; clouds cap single flows; buffers limit a long path. So it is tried: while batches wait, the number is
doubled and what is acknowledged is measured before and after. What brings nothing is taken back, and so is what only
makes a queue overflow. Where no queue is in the path at all it is not full, and there a step counts also if it brings
nothing at once: what the earlier connections lose meanwhile hides it, since each is fast until its first losses.
"""

from __future__ import annotations

import enum
from typing import Final

from gateway.path_view import Seen

FIRST: Final = 4
"""One fills a clean path and four make up for stock buffers; they also let small transfers begin at full speed."""
MOST: Final = 160
"""So many of cubic take four fifths of a gigabit over 100 ms where one segment in a thousand is lost."""
MOST_AT_ONCE: Final = 32
"""Connections opened in one step: the peer takes 64 handshakes at a time, from all of its peers."""
GAIN: Final = 0.1
"""Doubling helps by this much or it does not count: half-second rates of a busy path differ by some percent."""
RISING: Final = 0.1
RESENT: Final = 0.02
"""A step after which so much more of all segments is sent again fills queues rather than the path."""
WINDOW_SECONDS: Final = 0.5
WINDOW_ROUND_TRIPS: Final = 4
"""A window is at least as long as slow start takes to show what a connection can do, or nearly."""
MOST_WINDOWS: Final = 6
"""After so many windows of rising rates a step is judged anyway: a new connection of cubic is fast only at first."""
PAUSE_FIRST: Final = 1.0
PAUSE_MOST: Final = 30.0
"""After a step in vain the next one waits, each time twice as long: paths change, and a decay looks like no gain."""


class _Phase(enum.Enum):
    WATCHING = "watching"
    TRYING = "trying"


class Fanout:
    """The number of connections to one peer; not thread-safe.

    Args:
        first: connections from the start.
        most: connections at most; the same as ``first`` where nothing is to be tried.
    """

    def __init__(self, first: int = FIRST, most: int = MOST) -> None:
        if not 1 <= first <= most:
            raise ValueError(f"from {first} to {most} connections")
        self.allowed = first
        self.most = most
        self._phase = _Phase.WATCHING
        self._proven = first
        self._baseline = 0.0
        self._last: float | None = None
        self._windows = 0
        self._opened: tuple[float, Seen] | None = None
        self._room = True
        self._losing = 0.0
        self._overflowed = False
        self._pause = PAUSE_FIRST
        self._not_before = 0.0
        self._refused: tuple[int, float] | None = None

    @property
    def fixed(self) -> bool:
        """Whether there is nothing to decide."""
        return self._proven == self.most

    def tick(self, now: float, seen: Seen, *, pressed: bool) -> int:
        """Look at the path; returns how many connections may be used from now on.

        Args:
            now: seconds on a monotonic clock.
            seen: the path as all connections see it.
            pressed: all allowed connections are open and batches wait for them. Otherwise the connections are not what
                limits throughput, and nothing can be learnt about them.
        """
        if self._opened is None or not pressed:
            self._opened, self._room = (now, seen), True
            return self.allowed
        self._room = self._room and seen.room
        began, before = self._opened
        if now - began < max(WINDOW_SECONDS, WINDOW_ROUND_TRIPS * seen.rtt):
            return self.allowed
        room, self._room = self._room, True
        self._opened = (now, seen)
        resent = (seen.resent - before.resent) / max(1, seen.sent - before.sent)
        self._judge(now, (seen.acked - before.acked) / (now - began), resent, room=room)
        return self.allowed

    def _judge(self, now: float, rate: float, resent: float, *, room: bool) -> None:
        last, self._last = self._last, rate
        self._windows += 1
        # The first window after a change holds a part of what was before it.
        if last is None or (rate > last * (1 + RISING) and self._windows < MOST_WINDOWS):
            return
        overflows = resent > self._losing + RESENT
        if self._phase is _Phase.TRYING and (overflows or (rate <= self._baseline * (1 + GAIN) and not room)):
            self._overflowed = overflows
            self._refused = None if overflows else (self.allowed, rate)
            self._set(self._proven, _Phase.WATCHING)
            self._not_before = now + self._pause
            self._pause = min(PAUSE_MOST, 2 * self._pause)
            return
        refused, self._refused = self._refused, None
        if refused is not None and refused[1] > rate * (1 + GAIN):
            # Fewer again bring less than more did: the path had become slower meanwhile, which hid the gain.
            self._proven, self._pause, self._not_before = refused[0], PAUSE_FIRST, now
            self._set(self._proven, _Phase.WATCHING)
            return
        if self._phase is _Phase.TRYING:
            self._proven, self._pause = self.allowed, PAUSE_FIRST
            self._phase = _Phase.WATCHING
        if self.allowed < self.most and (now >= self._not_before or (room and not self._overflowed)):
            self._baseline, self._losing = rate, resent
            self._set(min(self.most, self.allowed + min(self.allowed, MOST_AT_ONCE)), _Phase.TRYING)

    def _set(self, allowed: int, phase: _Phase) -> None:
        self.allowed, self._phase = allowed, phase
        self._last, self._windows, self._opened = None, 0, None
