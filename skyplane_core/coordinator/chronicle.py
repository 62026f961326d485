"""Notes how a transfer goes, in memory that does not grow with it. Pure; time is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from skyplane_core.coordinator.tally import Tally
from skyplane_core.coordinator.ways import ways_of
from skyplane_core.diff import Decision
from skyplane_core.history import History, Reason, Sample, WayUse
from skyplane_core.planner.cost import CostMeter
from skyplane_core.spec import Outcome, ReceiptLine, Route, TransferSpec
from skyplane_core.stores.base import Capabilities

MAX_SAMPLES = 200
FIRST_INTERVAL = 0.2
"""Seconds between the samples of a short transfer; doubled each time that there are too many."""
MAX_REASONS = 20
MAX_EXAMPLES = 3
OTHER = "other reasons"
"""Stands for all reasons beyond the first :data:`MAX_REASONS`."""


class Chronicle:
    """Of one transfer. Not thread-safe.

    Args:
        spec: the transfer.
        routes: its routes.
        now: when it begins, on the clock of all calls, in seconds.
    """

    def __init__(self, spec: TransferSpec, routes: Sequence[Route], now: float) -> None:
        self._spec = spec
        self._ways = ways_of(routes)
        self._began = now
        self._meter: CostMeter | None = None
        self._samples = Samples()
        self._reasons = Reasons()

    def metered(self, decided: Iterable[Decision], limits: Capabilities, pool_bytes: int) -> Iterator[Decision]:
        """The same decisions, counted for the cost as they pass by.

        Args:
            limits: what the destination can do.
            pool_bytes: the smallest buffer pool on the way.
        """
        if not self._spec.gateways:
            yield from decided
            return
        meter = self._meter = CostMeter(self._spec, self._spec, limits, pool_bytes)
        for decision in decided:
            meter.add(decision)
            yield decision

    def look(self, now: float, tally: Tally) -> None:
        """Look at how far it is; may be called as often as one likes."""
        self._samples.take(now - self._began, tally.bytes_acked, tally.settled)

    def settled(self, lines: Iterable[ReceiptLine]) -> None:
        """Count objects that are done with. Failures are told by name elsewhere: each has its own words."""
        for line in lines:
            if line.outcome is not Outcome.FAILED:
                self._reasons.add(line.outcome.value, line.reason, line.size, line.key or line.destination_key)

    def history(self, now: float, tally: Tally) -> History:
        """All of it, up to now."""
        ends = [(end.store, end.mapping.destination) for end in self._spec.destinations]
        return History(
            self._spec.source.object_uri(self._spec.selection.prefix),
            tuple(store.object_uri(key) for store, key in ends),
            self._samples.until(now - self._began, tally.bytes_acked, tally.settled),
            tuple(WayUse(way.gateways, tally.way_bytes.get(way.number, 0)) for way in self._ways),
            self._reasons.most(),
            self._meter.cost() if self._meter is not None else None,
        )


class Samples:
    """Keeps at most :data:`MAX_SAMPLES`, from 0 on and evenly over the whole time. Not thread-safe."""

    def __init__(self) -> None:
        self._taken = [Sample(0.0, 0, 0)]
        self._interval = FIRST_INTERVAL

    def take(self, seconds: float, size: int, objects: int) -> None:
        """Look once more; what comes too soon after the last one is not kept. Times do not decrease."""
        if seconds - self._taken[-1].seconds < self._interval:
            return
        self._taken.append(Sample(round(seconds, 3), size, objects))
        if len(self._taken) >= MAX_SAMPLES:
            del self._taken[1::2]
            self._interval *= 2

    def until(self, seconds: float, size: int, objects: int) -> tuple[Sample, ...]:
        """All that were kept, and the end."""
        return (*self._taken, Sample(round(seconds, 3), size, objects))


class Reasons:
    """Counts objects by outcome and reason. Not thread-safe."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], list[int]] = {}
        self._examples: dict[tuple[str, str], list[str]] = {}

    def add(self, outcome: str, reason: str, size: int, key: str) -> None:
        """Count an object."""
        alike = (outcome, reason)
        if alike not in self._counts and len(self._counts) >= MAX_REASONS:
            alike = (outcome, OTHER)
        count = self._counts.setdefault(alike, [0, 0])
        count[0] += 1
        count[1] += size
        if count[0] <= MAX_EXAMPLES:
            self._examples.setdefault(alike, []).append(key)

    def most(self) -> tuple[Reason, ...]:
        """Most frequent first."""
        ranked = sorted(self._counts.items(), key=lambda item: (-item[1][0], item[0]))
        return tuple(
            Reason(outcome, reason, count, size, tuple(self._examples[outcome, reason]))
            for (outcome, reason), (count, size) in ranked
        )
