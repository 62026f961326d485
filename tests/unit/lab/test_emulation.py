"""Delay, rate, queue, loss, firewalls and partitions, on a clock that the test turns."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.testing.lab import Host, Link, Topology, both_ways
from skyplane_core.testing.lab.emulation import Emulation
from tests.unit.lab import packets

MS = 1_000_000
MSS = 1000
SEGMENT = MSS + packets.HEADERS


class World:
    """Two hosts, and what has arrived at the second one."""

    def __init__(self, *, seed: int = 1, source: dict | None = None, target: dict | None = None, **figures: float):
        hosts = (
            Host(name="a", ip="10.1.0.1", region="west", **(source or {})),
            Host(name="b", ip="10.2.0.1", region="east", **(target or {})),
        )
        self.link = Link(source="west", target="east", **figures)
        self.now = 0
        self.arrived: list[tuple[int, bytes]] = []
        self.emulation = Emulation(Topology(hosts, both_ways(self.link), seed=seed), self._deliver)

    def _deliver(self, target: int, found: list[bytes]) -> None:
        assert target == 1
        self.arrived += [(self.now, packet) for packet in found]

    def send(self, packet: bytes) -> None:
        self.emulation.arrive(self.now, 0, packet)

    def settle(self) -> None:
        """Turn the clock from event to event until nothing is on its way."""
        while (due := self.emulation.next_due) is not None:
            self.now = max(self.now, due)
            self.emulation.run(self.now)

    @property
    def counters(self):
        return next(c for c in self.emulation.counters() if c.source == "west")

    @property
    def payload(self) -> bytes:
        return b"".join(packets.parse_tcp(packet).payload for _time, packet in self.arrived)


def test_a_packet_takes_its_size_over_the_rate_plus_the_delay():
    world = World(rate_mbit=8, delay_ms=50)
    world.send(packets.tcp(bytes(MSS)))
    world.send(packets.tcp(bytes(MSS)))
    world.settle()
    assert [time for time, _packet in world.arrived] == [50 * MS + SEGMENT * 1000, 50 * MS + 2 * SEGMENT * 1000]


def test_a_link_without_figures_passes_at_once():
    world = World()
    world.send(packets.tcp(b"x"))
    assert [time for time, _packet in world.arrived] == [0]


def test_all_caps_on_the_way_hold():
    world = World(source={"egress_mbit": 80}, target={"ingress_mbit": 20}, rate_mbit=40, flow_mbit=160)
    world.send(packets.tcp(bytes(MSS)))
    world.settle()
    # 0.1 + 0.05 + 0.2 + 0.4 microseconds a byte
    assert world.arrived[0][0] == pytest.approx(SEGMENT * 750, abs=4)


def test_a_slow_flow_does_not_take_the_link_from_others():
    world = World(rate_mbit=80, flow_mbit=8)
    for port in (80, 81):
        for _ in range(5):
            world.send(packets.tcp(bytes(MSS), target_port=port))
    world.settle()
    assert len(world.arrived) == 10
    assert world.now == pytest.approx(5 * SEGMENT * 1000 + 2 * SEGMENT * 100, rel=0.05)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40))
def test_a_full_queue_drops_whole_segments_and_counts_them(sent, segments_each, room):
    world = World(rate_mbit=8, queue_kb=room * SEGMENT / 1000)
    for _ in range(sent):
        world.send(packets.tcp(bytes(MSS * segments_each), mss=MSS))
    world.settle()
    offered, carried = sent * segments_each, len(world.payload) // MSS
    assert len(world.payload) % MSS == 0
    assert carried <= room
    assert carried == min(offered, room)
    assert (world.counters.segments, world.counters.dropped) == (carried, offered - carried)
    assert world.counters.bytes == carried * SEGMENT


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.1, 5.0, 50.0, 100.0]), st.lists(st.integers(1, 44), min_size=1))
def test_loss_takes_segments_and_nothing_else(seed, percent, counts):
    world = World(seed=seed, loss_percent=percent)
    sent = {}
    for number, count in enumerate(counts):
        sequence = number * 44 * MSS
        body = b"".join((number * 44 + k).to_bytes(4, "big") * (MSS // 4) for k in range(count))
        sent |= {sequence + k * MSS: body[k * MSS : (k + 1) * MSS] for k in range(count)}
        world.send(packets.tcp(body, mss=MSS, sequence=sequence))
    received = {}
    for _time, packet in world.arrived:
        parsed = packets.parse_tcp(packet)
        for offset in range(0, len(parsed.payload), MSS):
            received[parsed.sequence + offset] = parsed.payload[offset : offset + MSS]
    assert received.items() <= sent.items()
    assert world.counters.lost == len(sent) - len(received)
    assert (world.counters.segments, world.counters.bytes) == (len(sent), len(sent) * SEGMENT)
    assert percent > 0 or received == sent
    assert percent < 100 or not received


@pytest.mark.parametrize("percent", [0.1, 1, 20])
def test_loss_is_as_frequent_as_asked_and_the_same_for_the_same_seed(percent):
    def lost(seed: int) -> int:
        world = World(seed=seed, loss_percent=percent)
        for _ in range(5000):
            world.send(packets.tcp(bytes(40 * 10), mss=10))
        return world.counters.lost

    expected, deviation = 200_000 * percent / 100, math.sqrt(200_000 * percent / 100 * (1 - percent / 100))
    assert abs(lost(1) - expected) < 5 * deviation
    assert lost(1) == lost(1) != lost(2)


def test_closed_ports_refuse_who_dials_and_nothing_else():
    world = World(target={"inbound_ports": frozenset({22})})
    world.send(packets.tcp(b"", flags=0x02, target_port=80))
    assert not world.arrived
    world.send(packets.tcp(b"", flags=0x02, target_port=22))
    world.send(packets.tcp(b"answer", flags=0x10, target_port=80))
    assert len(world.arrived) == 2


def test_a_host_dials_only_where_it_may():
    world = World(source={"dials": frozenset({("b", 22)})})
    world.send(packets.tcp(b"", flags=0x02, target_port=80))
    assert not world.arrived
    world.send(packets.tcp(b"", flags=0x02, target_port=22))
    assert len(world.arrived) == 1


def test_a_cut_takes_what_is_on_its_way_too():
    world = World(delay_ms=10)
    world.send(packets.tcp(b"x"))
    world.emulation.set_cut("b", "a", cut=True)
    world.settle()
    world.send(packets.tcp(b"y"))
    world.settle()
    assert not world.arrived
    world.emulation.set_cut("a", "b", cut=False)
    world.send(packets.tcp(b"z"))
    world.settle()
    assert world.payload == b"z"


def test_a_host_off_the_network_stays_parted_from_whom_it_was_when_it_is_back():
    world = World()
    world.emulation.set_cut("a", "b", cut=True)
    world.emulation.set_plugged("b", plugged=False)
    world.emulation.set_plugged("b", plugged=True)
    world.send(packets.tcp(b"x"))
    assert not world.arrived
    world.emulation.set_cut("a", "b", cut=False)
    world.emulation.set_plugged("a", plugged=False)
    world.send(packets.tcp(b"y"))
    assert not world.arrived
    world.emulation.set_plugged("a", plugged=True)
    world.send(packets.tcp(b"z"))
    assert world.payload == b"z"


def test_a_changed_link_is_as_told_from_now_on():
    world = World(rate_mbit=8, delay_ms=100, loss_percent=100, flow_mbit=8)
    world.emulation.set_link(Link(source="west", target="east", delay_ms=1))
    world.send(packets.tcp(bytes(MSS)))
    world.settle()
    assert world.now == 1 * MS
    assert world.counters.lost == 0


def test_what_has_no_way_is_dropped():
    world = World()
    for target in ("10.9.9.9", "10.1.0.1"):
        world.send(bytes(10) + packets.internet(17, bytes(8), target=target))
    world.send(bytes(10) + b"\x60" + bytes(50))
    assert not world.arrived


def test_a_link_of_a_region_to_itself_shapes_what_stays_there():
    hosts = tuple(Host(name=name, ip=f"10.1.0.{n}", region="west") for n, name in enumerate(("a", "b"), 1))
    reached = []
    link = Link(source="west", target="west", delay_ms=2)
    emulation = Emulation(Topology(hosts, (link,)), lambda target, _packets: reached.append(target))
    emulation.arrive(0, 0, bytes(10) + packets.internet(17, bytes(8), target="10.1.0.2"))
    assert emulation.next_due == 2 * MS
    emulation.run(2 * MS)
    assert reached == [1]


def test_regions_without_a_link_are_apart_and_one_region_is_not():
    hosts = tuple(
        Host(name=name, ip=ip, region=region)
        for name, ip, region in (("a", "10.1.0.1", "west"), ("b", "10.2.0.1", "east"), ("c", "10.1.0.2", "west"))
    )
    reached = []
    emulation = Emulation(Topology(hosts), lambda target, _packets: reached.append(target))
    for target in ("10.2.0.1", "10.1.0.2"):
        emulation.arrive(0, 0, bytes(10) + packets.internet(17, bytes(8), target=target))
    assert reached == [2]
    assert msgspec.json.encode(emulation.counters()) == b"[]"
