"""Parts that wait to be leased to the same destinations: small ones in batches, large ones alone. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from skyplane_core.model import PartLease

SMALL_PART = 1024 * 1024
"""Parts below this size travel in batches; a batch is at most this long."""
MAX_BATCH = 32
"""Most parts in one batch: a batch is fetched by one thread, so longer ones would serialise what could overlap."""


class Waiting(msgspec.Struct, frozen=True):
    """A part that waits to be leased. ``attempt`` is the number that its next sending will have."""

    part: PartLease
    attempt: int


class Lane:
    """The queues of one set of destinations that are reached over the same ways.

    Args:
        wanted: asked before a part leaves; False drops it.
    """

    def __init__(self, destinations: frozenset[int], wanted: Callable[[PartLease], bool]) -> None:
        self.destinations = destinations
        self._wanted = wanted
        self._large: deque[Waiting] = deque()
        self._small: deque[Waiting] = deque()
        self._small_turn = False

    def __len__(self) -> int:
        return len(self._large) + len(self._small)

    def add(self, waiting: Waiting) -> None:
        """Queue a part behind those of its size."""
        (self._small if waiting.part.size < SMALL_PART else self._large).append(waiting)

    def next_batch(self, room: int, slots: int, *, alone: bool) -> list[Waiting]:
        """The next large part, or the next batch of small ones, in turns; empty if nothing fits.

        Args:
            room: bytes that the batch may have; with ``alone`` one larger part is fine, too.
            slots: leases over which what waits is to be spread.
        """
        kinds = ("small", "large") if self._small_turn else ("large", "small")
        for kind in kinds:
            batch = self._take_large(room, alone=alone) if kind == "large" else self._take_small(room, slots, alone)
            if batch:
                self._small_turn = kind == "large"
                return batch
        return []

    def _take_large(self, room: int, *, alone: bool) -> list[Waiting]:
        while self._large and not self._wanted(self._large[0].part):
            self._large.popleft()
        if self._large and (alone or self._large[0].part.size <= room):
            return [self._large.popleft()]
        return []

    def _take_small(self, room: int, slots: int, alone: bool) -> list[Waiting]:  # noqa: FBT001 - private, one caller
        # Spread what waits over all leases before any batch grows: the last ones must not queue behind each other.
        fair = -(-len(self._small) // slots)
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
