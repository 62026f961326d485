"""The whole WAN without its I/O: packets in, packets out when their time has come. Pure: it is told the time.

A parcel that a stage delays is queued and enters the next stage when it is due, so each stage sees the order of time.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import msgspec

from skyplane_core.testing.lab import segments
from skyplane_core.testing.lab.shaping import GONE, Cap, FlowCaps, Gate, LinkStage, Parcel, Stage
from skyplane_core.testing.lab.topology import Host, Link, Topology

Deliver = Callable[[int, list[bytes]], None]


class Counters(msgspec.Struct, frozen=True):
    """What a link has seen."""

    source: str
    target: str
    bytes: int
    """IP bytes that left the source's region, headers and what was lost on the way included: what a cloud bills."""
    segments: int
    """The packets that these bytes were on the wire."""
    lost: int
    """Segments lost by chance."""
    dropped: int
    """Segments that found the queue or a flow's cap full. They are not in ``bytes``."""


class Path:
    """From one host to another."""

    __slots__ = ("flow_caps", "is_cut", "link", "stages", "target")

    def __init__(self, target: int, stages: list[Stage], link: LinkStage | None, flow_caps: FlowCaps) -> None:
        self.target = target
        self.stages = stages
        self.link = link
        self.flow_caps = flow_caps
        self.is_cut = False


class Emulation:
    """Carries packets between the hosts of a topology, which it knows by their index.

    Args:
        topology: what to emulate.
        deliver: is called with a host's index and the packets that reach it now.
    """

    def __init__(self, topology: Topology, deliver: Deliver) -> None:
        self.topology = topology
        self._deliver = deliver
        self._queue: list[tuple[int, int, Path, int, Parcel]] = []
        self._number = 0
        self._links = {
            (link.source, link.target): LinkStage(link, random.Random(f"{topology.seed} {link.source} {link.target}"))  # noqa: S311 - reproducible
            for link in topology.links
        }
        self._cut: frozenset[frozenset[int]] = frozenset()
        self._unplugged: frozenset[int] = frozenset()
        hosts = topology.hosts
        self._egress = [Cap.of(host.egress_mbit) for host in hosts]
        self._ingress = [Cap.of(host.ingress_mbit) for host in hosts]
        self._indexes = {host.name: index for index, host in enumerate(hosts)}
        addresses = [bytes(int(part) for part in host.ip.split(".")) for host in hosts]
        self._paths: list[dict[bytes, Path]] = [
            {addresses[j]: path for j in range(len(hosts)) if i != j and (path := self._path(i, j))}
            for i in range(len(hosts))
        ]
        self._pairs = {(i, path.target): path for i, paths in enumerate(self._paths) for path in paths.values()}

    def _path(self, i: int, j: int) -> Path | None:
        source, target = self.topology.hosts[i], self.topology.hosts[j]
        link = self._links.get((source.region, target.region))
        if link is None and source.region != target.region:
            return None
        stages: list[Stage] = list(_gates(source, target))
        if source.egress_mbit:
            stages.append(self._egress[i])
        flow_caps = FlowCaps(0)
        if link is not None:
            flow_caps.set(self.topology.link(source.region, target.region).flow_mbit)
            stages += [flow_caps, link]
        if target.ingress_mbit:
            stages.append(self._ingress[j])
        return Path(j, stages, link, flow_caps)

    def arrive(self, now: int, source: int, packet: bytes) -> None:
        """A packet that a host sends. One that has no way is dropped, as the internet does."""
        if packet[segments.VIRTIO] >> 4 != 4:
            return
        path = self._paths[source].get(segments.target_address(packet))
        if path is not None and not path.is_cut:
            self._advance(now, path, 0, Parcel(packet))

    def _advance(self, now: int, path: Path, index: int, parcel: Parcel) -> None:
        stages = path.stages
        while index < len(stages):
            leave = stages[index].enter(now, parcel)
            if leave == GONE:
                return
            index += 1
            if leave > now:
                self._number += 1  # equal times keep their order
                heapq.heappush(self._queue, (leave, self._number, path, index, parcel))
                return
        if not path.is_cut:
            self._deliver(path.target, parcel.packets)

    def run(self, now: int) -> None:
        """Everything that is due by ``now``."""
        queue = self._queue
        while queue and queue[0][0] <= now:
            due, _number, path, index, parcel = heapq.heappop(queue)
            self._advance(due, path, index, parcel)

    @property
    def next_due(self) -> int | None:
        """When :meth:`run` has something to do."""
        return self._queue[0][0] if self._queue else None

    def set_cut(self, first: str, second: str, *, cut: bool) -> None:
        """Part two hosts, in both directions, or join them. What is on its way is lost too."""
        pair = frozenset((self._indexes[first], self._indexes[second]))
        self._cut = self._cut | {pair} if cut else self._cut - {pair}
        self._note_cuts()

    def set_plugged(self, host: str, *, plugged: bool) -> None:
        """The same for one host and all others, whether or not it is parted from some of them as well."""
        index = {self._indexes[host]}
        self._unplugged = self._unplugged - index if plugged else self._unplugged | index
        self._note_cuts()

    def _note_cuts(self) -> None:
        for pair, path in self._pairs.items():
            path.is_cut = frozenset(pair) in self._cut or bool(self._unplugged.intersection(pair))

    def set_link(self, link: Link) -> None:
        """Other figures for a link that is there. What is on its way arrives when it would have."""
        stage = self._links[link.source, link.target]
        stage.set(link)
        for path in self._pairs.values():
            if path.link is stage:
                path.flow_caps.set(link.flow_mbit)

    def counters(self) -> list[Counters]:
        """Of each link."""
        found = []
        for (source, target), stage in self._links.items():
            flow_drops = sum(path.flow_caps.dropped for path in self._pairs.values() if path.link is stage)
            found.append(Counters(source, target, stage.bytes, stage.segments, stage.lost, stage.dropped + flow_drops))
        return found


def _gates(source: Host, target: Host) -> list[Stage]:
    """The firewalls between two hosts."""
    gates: list[Stage] = []
    if (dials := source.dials) is not None:
        gates.append(Gate(frozenset(port for name, port in dials if name == target.name).__contains__))
    if target.inbound_ports is not None:
        gates.append(Gate(target.inbound_ports.__contains__))
    return gates
