"""The buffer pool: one mapping for all part bytes of a data process. It is the memory limit and the back-pressure.

Reading from stores and from peers starts with a buffer and stops where there is none; nothing else throttles.
"""

from __future__ import annotations

import mmap
import threading
from typing import Final

from gateway.arena import GRANULE, Kind, Shares, Ticket
from gateway.counters import Counter, Counters
from skyplane_core.errors import ErrorRecord, GatewayRefused, SkyplaneError, Throttled, from_record

WAIT_SECONDS: Final = 600.0
"""The longest wait for a buffer. Buffers drain as stores make progress, whose own limits are about a minute."""


class Buffer:
    """A granted buffer. ``view`` is valid until ``release``, which may be called once or more, from any thread."""

    def __init__(self, pool: Pool, ticket: Ticket, view: memoryview) -> None:
        self.view = view
        self._pool = pool
        self._ticket: Ticket | None = ticket
        self._lock = threading.Lock()

    def release(self) -> None:
        with self._lock:
            ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self._pool.give_back(ticket)


class _Waiter:
    """A thread in :meth:`Pool.acquire`: woken by a grant, or by an error."""

    def __init__(self) -> None:
        self.wake = threading.Event()
        self.error: ErrorRecord | None = None

    def fail(self, error: ErrorRecord) -> None:
        self.error = error
        self.wake.set()


class Pool:
    """Thread-safe. Memory is touched by use only, lowest addresses first, and stays resident then.

    Args:
        size: bytes; what is resident never exceeds it.
        counters: where the bytes held are shown.
    """

    def __init__(self, size: int, counters: Counters) -> None:
        if size < 2 * GRANULE:
            raise ValueError(f"a pool of {size} bytes holds no two buffers")
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        mapping = mmap.mmap(-1, size, flags=flags)
        # The first touch of 4 KiB pages costs 0.40 s/GB, of huge ones 0.06-0.09 (docs/measurements.md).
        mapping.madvise(mmap.MADV_HUGEPAGE)
        self._memory = memoryview(mapping)
        self._shares = Shares(size)
        self._counters = counters
        self._lock = threading.Lock()
        self._waiters: dict[Ticket, _Waiter] = {}
        self._closed: ErrorRecord | None = None

    @property
    def largest(self) -> int:
        """Bytes of the largest buffer that :meth:`acquire` grants."""
        return self._shares.largest

    @property
    def held(self) -> int:
        with self._lock:
            return self._shares.held

    def acquire(self, size: int, transfer_id: str, kind: Kind, timeout: float = WAIT_SECONDS) -> Buffer:
        """Wait for ``size`` contiguous bytes (0 is fine) and return them; their contents are anything.

        Raises:
            GatewayRefused: more than half of the pool, which would leave no room for anything beside it.
            Throttled: no buffer came free in ``timeout`` seconds.
            SkyplaneError: what :meth:`cancel` or :meth:`close` was given.
        """
        if size > self.largest:
            raise GatewayRefused(
                f"a batch of {size} bytes needs more than half of this gateway's buffer pool ({self._shares.size})",
                next_step="Use smaller parts, or gateways with a larger pool_bytes.",
            )
        ticket = Ticket(transfer_id, kind, size)
        with self._lock:
            if self._closed is not None:
                raise from_record(self._closed)
            self._announce(self._shares.wish(ticket))
            if ticket.offset is None:
                self._waiters[ticket] = _Waiter()
            waiter = self._waiters.get(ticket)
        if waiter is not None:
            waiter.wake.wait(timeout)
            self._settle(ticket, waiter, timeout)
        start = ticket.where
        return Buffer(self, ticket, self._memory[start : start + size])

    def _settle(self, ticket: Ticket, waiter: _Waiter, timeout: float) -> None:
        with self._lock:
            self._waiters.pop(ticket, None)
            if ticket.offset is not None:
                return
            self._announce(self._shares.withdraw(ticket))
        if waiter.error is not None:
            raise from_record(waiter.error)
        raise Throttled(
            f"no buffer of {ticket.size} bytes came free in {timeout:.0f} s",
            next_step="The destination or the next gateway is too slow for what is being read.",
        )

    def give_back(self, ticket: Ticket) -> None:
        """For :class:`Buffer` only."""
        with self._lock:
            self._announce(self._shares.give_back(ticket))

    def set_split(self, *, split: bool) -> None:
        """Whether wire and store buffers have a half each (see gateway.arena)."""
        with self._lock:
            self._announce(self._shares.set_split(split=split))

    def cancel(self, transfer_id: str, error: SkyplaneError) -> None:
        """Raise ``error`` in whoever waits for this transfer now. Buffers that are out stay out until released."""
        with self._lock:
            for ticket, waiter in self._waiters.items():
                if ticket.owner == transfer_id:
                    waiter.fail(error.record())

    def close(self, error: SkyplaneError) -> None:
        """Raise ``error`` in all who wait and in all who will."""
        with self._lock:
            self._closed = error.record()
            for waiter in self._waiters.values():
                waiter.fail(self._closed)

    def _announce(self, granted: list[Ticket]) -> None:
        self._counters.set(Counter.POOL_BYTES_HELD, self._shares.held)
        for ticket in granted:
            # Absent: it was granted at once, to the caller.
            waiter = self._waiters.pop(ticket, None)
            if waiter is not None:
                waiter.wake.set()
