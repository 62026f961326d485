"""The stages that a packet passes: firewall, rate caps with queues, loss, delay. Pure: they are told the time.

Times are nanoseconds of a monotonic clock. A stage answers when a parcel leaves it, or :data:`GONE`. It must be asked
in the order of time: a parcel enters the next stage only when it has left the one before, else the future slot of one
slow flow would block a link that others share.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Protocol

from skyplane_core.testing.lab import segments
from skyplane_core.testing.lab.topology import Link

GONE = -1
CAP_QUEUE_SECONDS = 0.05
"""What may wait for a host's or a flow's cap."""
CAP_QUEUE_BYTES = 131072
"""But two super-packets at least."""
MANY_FLOWS = 4096


class Parcel:
    """What travels as one: a packet as it was read, or what loss has left of it."""

    __slots__ = ("packets", "segments", "size")

    def __init__(self, packet: bytes) -> None:
        self.packets = [packet]
        self.segments, self.size = segments.shape(packet)

    def keep(self, wanted: list[tuple[int, int]]) -> None:
        """Reduce it to these ranges of its segments, in order and without overlap."""
        kept, offset = [], 0
        for packet in self.packets:
            count = segments.shape(packet).segments
            for first, last in wanted:
                low, high = max(first - offset, 0), min(last - offset, count)
                if low < high:
                    kept.append(packet if (low, high) == (0, count) else segments.cut(packet, low, high))
            offset += count
        self.packets = kept
        shapes = [segments.shape(packet) for packet in kept]
        self.segments = sum(shape.segments for shape in shapes)
        self.size = sum(shape.wire_bytes for shape in shapes)


class Stage(Protocol):
    """One thing that may happen to a parcel."""

    def enter(self, now: int, parcel: Parcel) -> int:
        """When the parcel leaves this stage, not before ``now``; or GONE. May reduce the parcel."""


class Gate:
    """Lets a connection be opened only where ``allowed`` says so; everything else passes."""

    def __init__(self, allowed: Callable[[int], bool]) -> None:
        self._allowed = allowed

    def enter(self, now: int, parcel: Parcel) -> int:
        port = segments.dialled_port(parcel.packets[0])
        return now if port is None or self._allowed(port) else GONE


class Cap:
    """A rate, with a queue before it. ``dropped`` counts the segments that found it full."""

    def __init__(self, rate_mbit: float, queue_bytes: float) -> None:
        self.dropped = 0
        self.free_at = 0
        self.set(rate_mbit, queue_bytes)

    def set(self, rate_mbit: float, queue_bytes: float) -> None:
        """Another rate (0: no limit) and queue from now on."""
        self._ns_per_byte = 8000 / rate_mbit if rate_mbit else 0.0
        self._queue_ns = queue_bytes * self._ns_per_byte

    @classmethod
    def of(cls, rate_mbit: float) -> Cap:
        """The cap of a host or of a flow."""
        return cls(rate_mbit, max(rate_mbit * 1e6 / 8 * CAP_QUEUE_SECONDS, CAP_QUEUE_BYTES))

    def enter(self, now: int, parcel: Parcel) -> int:
        if not self._ns_per_byte:
            return now
        begin = max(self.free_at, now)
        need = parcel.size * self._ns_per_byte
        room = self._queue_ns - (begin - now)
        if need > room:
            fit = max(0, int(room * parcel.segments / need))
            self.dropped += parcel.segments - fit
            if not fit:
                return GONE
            parcel.keep([(0, fit)])
            need = parcel.size * self._ns_per_byte
        self.free_at = begin + int(need)
        return self.free_at


class FlowCaps:
    """A cap for each flow between two hosts; 0 means none. ``dropped`` counts the segments that found a queue full."""

    def __init__(self, rate_mbit: float) -> None:
        self.dropped = 0
        self.set(rate_mbit)

    def set(self, rate_mbit: float) -> None:
        """Another rate from now on."""
        self._rate_mbit = rate_mbit
        self._caps: dict[bytes, Cap] = {}

    def enter(self, now: int, parcel: Parcel) -> int:
        if not self._rate_mbit:
            return now
        flow = segments.flow(parcel.packets[0])
        cap = self._caps.get(flow)
        if cap is None:
            if len(self._caps) >= MANY_FLOWS:
                self._caps = {key: kept for key, kept in self._caps.items() if kept.free_at > now}
            cap = self._caps[flow] = Cap.of(self._rate_mbit)
        before = cap.dropped
        leave = cap.enter(now, parcel)
        self.dropped += cap.dropped - before
        return leave


class Loss:
    """Loses each segment with the same chance, by drawing the distance to the next one: only those cost time."""

    def __init__(self, percent: float, chance: random.Random) -> None:
        self.lost = 0
        self._random = chance
        self.set(percent)

    def set(self, percent: float) -> None:
        """Another chance from now on."""
        self._probability = percent / 100
        self._safe = self._distance()

    def _distance(self) -> int:
        """How many segments pass before the next one that is lost: geometrically distributed."""
        if self._probability <= 0:
            return 1 << 62
        if self._probability >= 1:
            return 0
        return int(math.log(1 - self._random.random()) / math.log(1 - self._probability))

    def enter(self, now: int, parcel: Parcel) -> int:
        if self._safe >= parcel.segments:
            self._safe -= parcel.segments
            return now
        survivors, first, count = [], 0, parcel.segments
        while first + self._safe < count:
            victim = first + self._safe
            if victim > first:
                survivors.append((first, victim))
            self.lost += 1
            first = victim + 1
            self._safe = self._distance()
        if first < count:
            survivors.append((first, count))
        self._safe -= count - first
        if not survivors:
            return GONE
        parcel.keep(survivors)
        return now


class LinkStage:
    """A link: rate and queue, then what is billed, then loss, then delay. All host pairs of two regions share one."""

    def __init__(self, link: Link, chance: random.Random) -> None:
        self.bytes = self.segments = 0
        self._rate = Cap(link.rate_mbit, link.queue_bytes)
        self._loss = Loss(link.loss_percent, chance)
        self._delay = int(link.delay_ms * 1e6)

    def set(self, link: Link) -> None:
        """Rate, queue, loss and delay as they are from now on; the counters go on."""
        self._rate.set(link.rate_mbit, link.queue_bytes)
        self._loss.set(link.loss_percent)
        self._delay = int(link.delay_ms * 1e6)

    @property
    def lost(self) -> int:
        """Segments that were lost by chance."""
        return self._loss.lost

    @property
    def dropped(self) -> int:
        """Segments that found the queue full."""
        return self._rate.dropped

    def enter(self, now: int, parcel: Parcel) -> int:
        leave = self._rate.enter(now, parcel)
        if leave == GONE:
            return GONE
        self.bytes += parcel.size
        self.segments += parcel.segments
        return GONE if self._loss.enter(leave, parcel) == GONE else leave + self._delay
