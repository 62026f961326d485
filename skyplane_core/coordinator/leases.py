"""The lease table: which parts wait, which are out with a reader, and which come back. Pure; time is an argument."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence

import msgspec

from skyplane_core.coordinator.queues import MAX_BATCH, SMALL_PART, Lane, Waiting
from skyplane_core.coordinator.ways import Traffic, Way, ways_of
from skyplane_core.model import Lease, PartLease
from skyplane_core.spec import Route

__all__ = ["MAX_BATCH", "SMALL_PART", "LeaseTable", "Out"]


class Out(msgspec.Struct, frozen=True):
    """A lease that a reader holds."""

    lease: Lease
    reader: str
    expires_at: float


class LeaseTable:
    """Parts of one transfer, leased to readers and spread over their ways by what is in flight.

    A slow way keeps its leases longer and so gets fewer. One that fails rests and is tried again later.
    Not thread-safe: its owner serialises calls.

    Args:
        transfer_id: of the transfer whose parts these are.
        routes: see :class:`skyplane_core.spec.Route`; every destination of a part needs one.
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
        routes: Sequence[Route],
        *,
        max_leases: int,
        max_bytes: int,
        lease_seconds: float,
        wanted: Callable[[PartLease], bool],
        first_id: int = 1,
    ) -> None:
        self._transfer_id = transfer_id
        ways = ways_of(routes)
        self._traffic = [Traffic(way, 1 / len(ways)) for way in ways]
        self._lanes = _lanes(ways, wanted)
        self._max_leases = max_leases
        self._max_bytes = max_bytes
        self._lease_seconds = lease_seconds
        self._later: list[tuple[float, int, Waiting]] = []
        self._out: dict[int, Out] = {}
        self._readers = tuple(dict.fromkeys(way.reader for way in ways))
        self._lost: set[str] = set()
        self._first_id = self._next_id = first_id
        self._order = itertools.count()

    @property
    def waiting(self) -> int:
        """Parts that are not with a reader."""
        return sum(map(len, self._lanes)) + len(self._later)

    @property
    def out(self) -> int:
        """Leases that are with a reader."""
        return len(self._out)

    def outstanding(self) -> list[Out]:
        """What readers hold now, for messages about a transfer that stands still."""
        return list(self._out.values())

    def issued(self, lease_id: int) -> bool:
        """Whether this table gave that lease out, however it ended."""
        return self._first_id <= lease_id < self._next_id

    def add(self, part: PartLease, attempt: int = 1, not_before: float = 0.0, now: float = 0.0) -> None:
        """Queue a part; with ``not_before`` in the future, only from then on."""
        waiting = Waiting(part, attempt)
        if not_before > now:
            heapq.heappush(self._later, (not_before, next(self._order), waiting))
        else:
            self._queue(waiting)

    def grant(self, now: float) -> Out | None:
        """The next lease and its reader: over the way with the least in flight. None if nothing may go out now."""
        return self._grant(now, self._traffic)

    def take(self, reader: str, now: float) -> Lease | None:
        """The next lease for ``reader``, or None if it holds enough or nothing waits that it may send."""
        out = self._grant(now, [traffic for traffic in self._traffic if traffic.way.reader == reader])
        return out.lease if out else None

    def settle(self, lease_id: int, now: float = 0.0, lost: str = "") -> Lease | None:
        """A reader answered: the lease is over. None if it had expired, in which case its parts may be out again.

        Args:
            lost: why what was sent did not get through, if it did not; its way rests then.
        """
        out = self._close(lease_id)
        if out is None:
            return None
        traffic = self._traffic[out.lease.way]
        if lost:
            traffic.failed(now, lost)
        else:
            traffic.worked()
        return out.lease

    def expire(self, now: float) -> list[Lease]:
        """Void the leases that got no answer in time and queue their parts again; returns what was voided."""
        late = [lease_id for lease_id, out in self._out.items() if out.expires_at <= now]
        for lease_id in late:
            self._traffic[self._out[lease_id].lease.way].failed(now, f"no answer for {self._lease_seconds:.0f} s")
        return self._void(late, spent=1)

    def lose(self, gateway: str, now: float, why: str = "it cannot be reached") -> list[Lease]:
        """A gateway is away: what was leased over it is void at once, and nothing is until :meth:`found`."""
        self._lost.add(gateway)
        for traffic in self._traffic:
            if gateway in traffic.way.gateways:
                traffic.failed(now, f"{gateway}: {why}")
        over = [lease_id for lease_id, out in self._out.items() if gateway in self._traffic[out.lease.way].way.gateways]
        return self._void(over, spent=0)

    def found(self, gateway: str, now: float) -> None:
        """A gateway is back; its ways are tried again."""
        self._lost.discard(gateway)
        for traffic in self._traffic:
            if gateway in traffic.way.gateways:
                traffic.retry(now)

    def stranded(self, now: float, seconds: float) -> str:
        """Which ways have all failed for longer than ``seconds`` to a destination that parts wait for; empty if none.

        Each way is named with the reason of its last failure.
        """
        if all(traffic.failing_since is None for traffic in self._traffic):
            return ""
        later = [item[2].part for item in self._later]
        leased = [part for out in self._out.values() for part in out.lease.parts]
        targets = {target.destination for part in (*later, *leased) for target in part.targets}
        for lane in self._lanes:
            if not len(lane) and not targets & lane.destinations:
                continue
            ways = [traffic for traffic in self._traffic if lane.destinations <= traffic.way.destinations]
            if all(way.failing_since is not None and now - way.failing_since > seconds for way in ways):
                return "; ".join(f"{traffic.way}: {traffic.why}" for traffic in ways)
        return ""

    def _grant(self, now: float, candidates: Sequence[Traffic]) -> Out | None:
        self._ripen(now)
        for traffic in sorted(candidates, key=lambda traffic: traffic.load):
            way = traffic.way
            if traffic.usable(now) and not self._lost.intersection(way.gateways):
                batch = self._batch_for(way)
                if batch:
                    return self._lease(traffic, batch, now)
        return None

    def _batch_for(self, way: Way) -> list[Waiting]:
        held = [traffic for traffic in self._traffic if traffic.way.reader == way.reader]
        if sum(traffic.leases for traffic in held) >= self._max_leases:
            return []
        taken = sum(traffic.bytes for traffic in held)
        slots = self._max_leases * len(self._readers)
        for index, lane in enumerate(self._lanes):
            if lane.destinations <= way.destinations:
                batch = lane.next_batch(self._max_bytes - taken, slots, alone=taken == 0)
                if batch:
                    # The other destinations come first next time.
                    self._lanes.append(self._lanes.pop(index))
                    return batch
        return []

    def _lease(self, traffic: Traffic, batch: list[Waiting], now: float) -> Out:
        lease = Lease(
            lease_id=self._next_id,
            transfer_id=self._transfer_id,
            attempt=batch[0].attempt,
            route=traffic.way.path,
            parts=tuple(waiting.part for waiting in batch),
            way=traffic.way.number,
        )
        self._next_id += 1
        traffic.sent(lease.size)
        out = self._out[lease.lease_id] = Out(lease, traffic.way.reader, now + self._lease_seconds)
        return out

    def _close(self, lease_id: int) -> Out | None:
        out = self._out.pop(lease_id, None)
        if out is not None:
            self._traffic[out.lease.way].over(out.lease.size)
        return out

    def _void(self, lease_ids: Sequence[int], spent: int) -> list[Lease]:
        voided = []
        for lease_id in lease_ids:
            out = self._close(lease_id)
            if out is None:
                continue
            voided.append(out.lease)
            for part in out.lease.parts:
                self.add(part, out.lease.attempt + spent)
        return voided

    def _queue(self, waiting: Waiting) -> None:
        """To the lane of its destinations; a part whose destinations are reached over different ways is split."""
        queued = 0
        for lane in self._lanes:
            targets = tuple(target for target in waiting.part.targets if target.destination in lane.destinations)
            if targets:
                lane.add(Waiting(msgspec.structs.replace(waiting.part, targets=targets), waiting.attempt))
                queued += len(targets)
        if queued < len(waiting.part.targets):
            raise ValueError(f"no route leads to some destination of part {waiting.part.part} of {waiting.part.key!r}")

    def _ripen(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            self._queue(heapq.heappop(self._later)[2])


def _lanes(ways: Sequence[Way], wanted: Callable[[PartLease], bool]) -> list[Lane]:
    """One for each set of destinations that the very same ways lead to."""
    destinations = sorted({destination for way in ways for destination in way.destinations})
    alike: dict[tuple[int, ...], list[int]] = {}
    for destination in destinations:
        leading = tuple(way.number for way in ways if destination in way.destinations)
        alike.setdefault(leading, []).append(destination)
    return [Lane(frozenset(same), wanted) for same in alike.values()]
