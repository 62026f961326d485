"""The lease table: which parts wait, which are out with a reader, and which come back. Pure; time is an argument."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from skyplane_core.model import Lease, PartLease

SMALL_PART = 1024 * 1024
"""Parts below this size travel in batches; a batch is at most this long."""
MAX_BATCH = 32
"""Most parts in one batch: a batch is fetched by one thread, so longer ones would serialise what could overlap."""


class Waiting(msgspec.Struct, frozen=True):
    """A part that waits to be leased. ``attempt`` is the number that its next sending will have."""

    part: PartLease
    attempt: int


class Out(msgspec.Struct, frozen=True):
    """A lease that a reader holds."""

    lease: Lease
    reader: str
    expires_at: float


class LeaseTable:
    """Parts of one transfer, leased to readers that ask for them.

    Not thread-safe: its owner serialises calls.

    Args:
        transfer_id: of the transfer whose parts these are.
        routes: for each reader, the gateways after it up to the writer (empty: the reader writes itself).
        max_leases: leases that one reader may hold.
        max_bytes: payload bytes that one reader may hold; a single larger part is leased alone.
        lease_seconds: after so long without an answer a lease is void and its parts are leased again.
        wanted: asked before a part is leased; False drops it (its object has failed, or an earlier sending arrived).
        first_id: of the first lease. Drawn anew for each table, it tells answers to this one from late answers to
            leases of an earlier coordinator of the same transfer, which had other numbers for its objects.
    """

    def __init__(
        self,
        transfer_id: str,
        routes: Mapping[str, tuple[str, ...]],
        *,
        max_leases: int,
        max_bytes: int,
        lease_seconds: float,
        wanted: Callable[[PartLease], bool],
        first_id: int = 1,
    ) -> None:
        self._transfer_id = transfer_id
        self._routes = dict(routes)
        self._max_leases = max_leases
        self._max_bytes = max_bytes
        self._lease_seconds = lease_seconds
        self._wanted = wanted
        self._large: deque[Waiting] = deque()
        self._small: deque[Waiting] = deque()
        self._later: list[tuple[float, int, Waiting]] = []
        self._out: dict[int, Out] = {}
        self._held_leases = dict.fromkeys(self._routes, 0)
        self._held_bytes = dict.fromkeys(self._routes, 0)
        self._first_id = self._next_id = first_id
        self._order = itertools.count()
        self._small_turn = False

    @property
    def waiting(self) -> int:
        """Parts that are not with a reader."""
        return len(self._large) + len(self._small) + len(self._later)

    @property
    def out(self) -> int:
        """Leases that are with a reader."""
        return len(self._out)

    def outstanding(self) -> list[Out]:
        """What readers hold now, for messages about a transfer that stands still."""
        return list(self._out.values())

    def add(self, part: PartLease, attempt: int = 1, not_before: float = 0.0, now: float = 0.0) -> None:
        """Queue a part; with ``not_before`` in the future, only from then on."""
        waiting = Waiting(part, attempt)
        if not_before > now:
            heapq.heappush(self._later, (not_before, next(self._order), waiting))
        else:
            self._queue(waiting)

    def take(self, reader: str, now: float) -> Lease | None:
        """The next lease for ``reader``, or None if it holds enough or nothing waits.

        Small and large parts take turns, so that the round trips of small objects overlap the bandwidth of large ones.
        """
        self._ripen(now)
        if self._held_leases[reader] >= self._max_leases:
            return None
        room = self._max_bytes - self._held_bytes[reader]
        batch = self._next_batch(room, alone=self._held_bytes[reader] == 0)
        if not batch:
            return None
        lease = Lease(
            lease_id=self._next_id,
            transfer_id=self._transfer_id,
            attempt=batch[0].attempt,
            route=self._routes[reader],
            parts=tuple(waiting.part for waiting in batch),
        )
        self._next_id += 1
        self._out[lease.lease_id] = Out(lease, reader, now + self._lease_seconds)
        self._held_leases[reader] += 1
        self._held_bytes[reader] += lease.size
        return lease

    def issued(self, lease_id: int) -> bool:
        """Whether a lease of this id was ever handed out here."""
        return self._first_id <= lease_id < self._next_id

    def settle(self, lease_id: int) -> Lease | None:
        """A reader answered: the lease is over. None if it had expired, in which case its parts may be out again."""
        out = self._out.pop(lease_id, None)
        if out is None:
            return None
        self._held_leases[out.reader] -= 1
        self._held_bytes[out.reader] -= out.lease.size
        return out.lease

    def expire(self, now: float) -> list[Lease]:
        """Void the leases that got no answer in time and queue their parts again; returns what was voided."""
        late = [lease_id for lease_id, out in self._out.items() if out.expires_at <= now]
        voided = []
        for lease_id in late:
            lease = self.settle(lease_id)
            if lease is None:
                continue
            voided.append(lease)
            for part in lease.parts:
                self.add(part, lease.attempt + 1)
        return voided

    def _queue(self, waiting: Waiting) -> None:
        (self._small if waiting.part.size < SMALL_PART else self._large).append(waiting)

    def _ripen(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            self._queue(heapq.heappop(self._later)[2])

    def _next_batch(self, room: int, *, alone: bool) -> list[Waiting]:
        kinds = [self._take_small, self._take_large] if self._small_turn else [self._take_large, self._take_small]
        for take in kinds:
            batch = take(room, alone=alone)
            if batch:
                self._small_turn = take == self._take_large
                return batch
        return []

    def _take_large(self, room: int, *, alone: bool) -> list[Waiting]:
        while self._large and not self._wanted(self._large[0].part):
            self._large.popleft()
        if self._large and (alone or self._large[0].part.size <= room):
            return [self._large.popleft()]
        return []

    def _take_small(self, room: int, *, alone: bool) -> list[Waiting]:
        # Spread what waits over all leases before any batch grows: the last ones must not queue behind each other.
        fair = -(-len(self._small) // (self._max_leases * len(self._routes)))
        limit = max(1, min(MAX_BATCH, fair))
        batch: list[Waiting] = []
        size = 0
        while self._small and len(batch) < limit:
            waiting = self._small[0]
            if not self._wanted(waiting.part):
                self._small.popleft()
                continue
            first = not batch
            if not first and (size + waiting.part.size > SMALL_PART or waiting.attempt != batch[0].attempt):
                break
            if size + waiting.part.size > room and not (first and alone):
                break
            batch.append(self._small.popleft())
            size += waiting.part.size
        return batch
