"""A topology is checked when it is made, and says what is wrong with it."""

from __future__ import annotations

import msgspec
import pytest

from skyplane_core.testing.lab import Host, Link, Topology, both_ways

A = Host(name="a", ip="10.1.0.1", region="west")
B = Host(name="b", ip="10.2.0.1", region="east")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Host(name="A", ip="10.1.0.1", region="west"), "host name 'A'"),
        (lambda: Host(name="a/b", ip="10.1.0.1", region="west"), "host name 'a/b'"),
        (lambda: Host(name="a", ip="10.1.0.300", region="west"), "host 'a': .*10.1.0.300"),
        (lambda: Host(name="a", ip="::1", region="west"), "host 'a': "),
        (lambda: Host(name="a", ip="10.1.0.1", region=""), "the region is empty"),
        (lambda: Host(name="a", ip="10.1.0.1", region="w", egress_mbit=-1), "egress_mbit is -1"),
        (
            lambda: Host(name="a", ip="10.1.0.1", region="w", inbound_ports=frozenset({0, 22})),
            r"\[0\] are no TCP ports",
        ),
        (lambda: Link(source="west", target="east", loss_percent=101), "link 'west' to 'east': loss_percent is 101"),
        (lambda: Link(source="west", target="east", delay_ms=-0.1), "delay_ms is -0.1"),
        (lambda: Link(source="", target="east"), "a region is empty"),
        (lambda: Topology(()), "needs a host"),
        (lambda: Topology((A,), mtu=500), "the MTU is 500"),
        (lambda: Topology((A, msgspec.structs.replace(B, name="a"))), "host name a is there twice"),
        (lambda: Topology((A, msgspec.structs.replace(B, ip=A.ip))), "address 10.1.0.1 is there twice"),
        (lambda: Topology((A, B), (Link(source="west", target="mars"),)), "no host is in region 'mars'"),
        (
            lambda: Topology((A, B), both_ways(Link(source="west", target="east")) * 2),
            "link east to west, west to east",
        ),
        (lambda: Topology((msgspec.structs.replace(A, dials=frozenset({("c", 1)})),)), r"may dial \['c'\]"),
        (lambda: Topology((A, B)).host("c"), r"no host 'c' in this lab; there are \['a', 'b'\]"),
        (lambda: Topology((A, B)).link("west", "east"), "no link 'west' to 'east'"),
    ],
)
def test_what_is_wrong_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_link_both_ways_differs_in_direction_only():
    there, back = both_ways(Link(source="west", target="east", rate_mbit=100, delay_ms=10))
    assert (back.source, back.target) == ("east", "west")
    assert (back.rate_mbit, back.delay_ms) == (there.rate_mbit, there.delay_ms)


def test_the_default_queue_is_one_bandwidth_delay_product():
    assert Link(source="a", target="b", rate_mbit=1000, delay_ms=50).queue_bytes == 12.5e6
    assert Link(source="a", target="b", rate_mbit=1, delay_ms=1).queue_bytes == 256_000
    assert Link(source="a", target="b", rate_mbit=1000, delay_ms=50, queue_kb=10).queue_bytes == 10_000


def test_a_topology_survives_the_way_to_the_router():
    host = msgspec.structs.replace(A, inbound_ports=frozenset({22}), dials=frozenset({("b", 22)}))
    topology = Topology((host, B), both_ways(Link(source="west", target="east", loss_percent=0.1)), seed=7)
    assert msgspec.json.decode(msgspec.json.encode(topology), type=Topology) == topology
