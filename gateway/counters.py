"""A gateway's running totals, in memory that its processes share; reading them disturbs nobody."""

from __future__ import annotations

import enum
import mmap
import threading


class Counter(enum.IntEnum):
    """Totals since the gateway started; bytes are of objects, before compression, unless said otherwise."""

    BYTES_READ = 0
    """From source stores."""
    BYTES_SENT = 1
    BYTES_RECEIVED = 2
    BYTES_WRITTEN = 3
    """To destination stores, and taken by them."""
    WIRE_BYTES_SENT = 4
    """On data connections: headers, seals and what compression left."""
    WIRE_BYTES_RECEIVED = 5
    POOL_BYTES_HELD = 6
    """Not a total: what is allocated now."""
    PARTS_READ = 7
    PARTS_WRITTEN = 8
    WIRE_BYTES_RELAYED = 9
    """Passed on to another gateway; counted as received, too."""


class Counters:
    """A row of unsigned 64-bit integers. Make it before the fork; one process adds, any process reads.

    Adding is thread-safe. A reader sees each counter whole (an aligned store of 8 bytes), but not all of one moment.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")

    def add(self, counter: Counter, amount: int = 1) -> None:
        with self._lock:
            self._values[counter] += amount

    def set(self, counter: Counter, value: int) -> None:
        self._values[counter] = value

    def __getitem__(self, counter: Counter) -> int:
        return int(self._values[counter])

    def snapshot(self) -> dict[Counter, int]:
        return {counter: self[counter] for counter in Counter}
