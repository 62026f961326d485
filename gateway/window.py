"""How many large batches are in flight at once: as few as keep the machine busy, as many as a slow path needs.

Reading is cheaper than writing, so that without a bound every buffer of the pool fills up with what waits to be
written, and each of many connections costs more than each of few: together a tenth of all CPU time, on the store's
machine too. On a path where requests wait for each other's answers the CPU idles, and then more are let in.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from gateway.threads import Threads

TICK_SECONDS: Final = 0.05
"""Between two looks at the CPU, whose times are counted in steps of 10 ms."""
IDLE_SHARE: Final = 0.15
"""Above this share of idle CPU time, what is in flight does not keep the machine busy."""
OWN_SHARE: Final = 0.25
"""Below this share of all CPU time, it is others who keep it busy, and holding back would not help us."""
GROWTH: Final = 1.5
FIRST_PER_CORE: Final = 2
"""One batch is read and one written at the same time for each core (twice as many: 4 % slower; eight times: 12 %)."""


class Times(NamedTuple):
    """CPU seconds since some moment: of the whole machine, of it idle, and of this process."""

    total: float
    idle: float
    own: float


class Window:
    """The bound, and who waits for it. Pure and not thread-safe.

    Args:
        first: batches that may be in flight at the beginning.
    """

    def __init__(self, first: int) -> None:
        self._first = float(max(1, first))
        self.limit = self._first
        self.in_flight = 0
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def enter(self, start: Callable[[], None]) -> list[Callable[[], None]]:
        """Queue a batch; returns those that may start now."""
        self._waiting.append(start)
        return self._admit()

    def leave(self) -> list[Callable[[], None]]:
        """A batch is done; returns those that may start now.

        With the last one what was learned ends, too: what comes next may go between other stores.
        """
        self.in_flight -= 1
        if not self.in_flight and not self._waiting:
            self.limit = self._first
        return self._admit()

    def look(self, before: Times, now: Times) -> list[Callable[[], None]]:
        """Judge by what the CPUs have done in between; returns those that may start now.

        Where the kernel tells nothing of the machine, the total stands still, and that counts as idle.
        """
        total = now.total - before.total
        idle = total <= 0 or now.idle - before.idle > IDLE_SHARE * total
        if self._waiting and (idle or now.own - before.own < OWN_SHARE * total):
            self.limit *= GROWTH
        return self._admit()

    def _admit(self) -> list[Callable[[], None]]:
        admitted = []
        while self._waiting and self.in_flight < int(self.limit):
            admitted.append(self._waiting.popleft())
            self.in_flight += 1
        return admitted


class Gate:
    """A window for the threads of a data process, with one more that looks at the CPU while somebody waits."""

    def __init__(self, threads: Threads) -> None:
        self._window = Window(FIRST_PER_CORE * (os.cpu_count() or 1))
        self._threads = threads
        self._changed = threading.Condition()
        self._watching = False
        self._closed = False

    def enter(self, start: Callable[[], None]) -> None:
        """Call ``start``, which must not block, now or as soon as there is room. Whoever was started must leave."""
        with self._changed:
            admitted = self._window.enter(start)
            if self._window.waiting and not self._watching and not self._closed:
                self._watching = True
                self._threads.start("window", self._watch)
        _run(admitted)

    def leave(self) -> None:
        """Make room for another batch."""
        with self._changed:
            admitted = self._window.leave()
        _run(admitted)

    def close(self) -> None:
        """Stop looking."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _watch(self) -> None:
        before = cpu_times()
        due = time.monotonic() + TICK_SECONDS
        while True:
            with self._changed:
                while (rest := due - time.monotonic()) > 0 and not self._closed:
                    self._changed.wait(rest)
                if self._closed or not self._window.waiting:
                    self._watching = False
                    return
                now = cpu_times()
                admitted = self._window.look(before, now)
                before, due = now, time.monotonic() + TICK_SECONDS
            _run(admitted)


def cpu_times() -> Times:
    """What the kernel has counted so far; of the machine nothing, where it hides that."""
    own = time.process_time()
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    except OSError:
        return Times(0.0, 0.0, own)
    tick = 1 / os.sysconf("SC_CLK_TCK")
    # user, nice, system, idle, iowait, irq, softirq, steal: proc(5). What a guest takes is in user already.
    ticks = [int(field) for field in line.split()[1:9]]
    return Times(sum(ticks) * tick, sum(ticks[3:5]) * tick, own)


def _run(starts: list[Callable[[], None]]) -> None:
    for start in starts:
        start()
