"""Real connections of the kernel over an emulated WAN."""

from __future__ import annotations

import math
import os
import random
import socket
import subprocess
import time
from pathlib import Path

import pytest

from skyplane_core.testing.lab import Host, LabError, Link, Topology, Wan, both_ways, congestion
from tests.lab.conftest import two_hosts
from tests.lab.traffic import PORT, connection, dial, transfer

MB = 1_000_000


def round_trips(dialled: socket.socket, accepted: socket.socket, count: int) -> list[float]:
    seconds = []
    for _ in range(count):
        began = time.monotonic()
        dialled.sendall(b"?")
        accepted.recv(1)
        accepted.sendall(b"!")
        dialled.recv(1)
        seconds.append(time.monotonic() - began)
    return seconds


def test_a_round_trip_takes_twice_the_delay():
    with Wan(two_hosts(delay_ms=30)) as wan, connection(wan) as ends:
        assert 0.060 <= min(round_trips(*ends, 10)) < 0.120


def test_hosts_of_one_region_are_near():
    hosts = tuple(Host(name=name, ip=f"10.1.0.{n}", region="west") for n, name in enumerate(("a", "b"), 1))
    with Wan(Topology(hosts)) as wan, connection(wan) as ends:
        assert min(round_trips(*ends, 50)) < 0.010


@pytest.mark.parametrize("figures", [{}, {"rate_mbit": 400, "delay_ms": 2, "loss_percent": 1, "queue_kb": 200}])
def test_bytes_arrive_as_they_were_sent(figures):
    data = random.Random(1).randbytes(5 * MB)
    with Wan(two_hosts(**figures)) as wan, connection(wan) as ends:
        transfer(*ends, data)
        counters = wan.counters("west", "east")
        assert counters.bytes > len(data)
        assert counters.segments > len(data) / 1460
        assert bool(counters.lost) == bool(figures)


def test_loss_is_counted_by_segment_and_as_frequent_as_asked():
    with Wan(two_hosts(delay_ms=1, loss_percent=0.5)) as wan, connection(wan) as ends:
        transfer(*ends, bytes(30 * MB))
        counters = wan.counters("west", "east")
    expected = counters.segments * 0.005
    assert counters.segments > 30 * MB / 1460
    assert abs(counters.lost - expected) < 6 * math.sqrt(expected)
    # Had whole super-packets been lost, many more bytes would have been sent again.
    assert counters.bytes < 1.15 * 30 * MB * 1500 / 1448


@pytest.mark.parametrize(
    ("figures", "host"),
    [({"rate_mbit": 100}, {}), ({"flow_mbit": 100}, {}), ({}, {"egress_mbit": 100}), ({}, {"ingress_mbit": 100})],
    ids=["link", "flow", "egress", "ingress"],
)
def test_a_rate_is_not_exceeded(figures, host):
    topology = Topology(
        (Host(name="a", ip="10.1.0.1", region="west", **host), Host(name="b", ip="10.2.0.1", region="east", **host)),
        both_ways(Link(source="west", target="east", delay_ms=1, **figures)),
    )
    data = bytes(10 * MB)
    with Wan(topology) as wan, connection(wan) as ends:
        seconds = transfer(*ends, data)
    assert len(data) * 8e-6 / seconds < 100


def test_a_cut_stops_a_connection_and_healing_resumes_it():
    with Wan(two_hosts(delay_ms=1)) as wan, connection(wan) as (dialled, accepted):
        dialled.sendall(b"before")
        assert accepted.recv(100) == b"before"
        wan.cut("a", "b")
        dialled.sendall(b"after")
        accepted.settimeout(1)
        with pytest.raises(TimeoutError):
            accepted.recv(100)
        wan.heal("b", "a")
        accepted.settimeout(60)
        assert accepted.recv(100) == b"after"


def test_a_host_off_the_network_is_silent():
    with Wan(two_hosts()) as wan, connection(wan) as ends:
        wan.unplug("b")
        with pytest.raises(TimeoutError):
            dial(wan, "a", "b", PORT, timeout=1)
        wan.plug("b")
        assert round_trips(*ends, 1)


def test_a_link_can_be_changed():
    with Wan(two_hosts(delay_ms=1)) as wan, connection(wan) as ends:
        assert wan.change("west", "east", delay_ms=100).delay_ms == 100
        assert min(round_trips(*ends, 3)) >= 0.101
        with pytest.raises(ValueError, match="loss_percent is 101"):
            wan.change("west", "east", loss_percent=101)
        with pytest.raises(ValueError, match="no link 'west' to 'mars'"):
            wan.change("west", "mars", delay_ms=1)


def test_a_host_behind_a_firewall_dials_out_only():
    topology = Topology(
        (
            Host(name="head", ip="10.1.0.1", region="west"),
            Host(name="worker", ip="10.1.0.2", region="west", inbound_ports=frozenset({22})),
        )
    )
    with Wan(topology) as wan:
        with connection(wan, "worker", "head") as ends:
            transfer(*ends, bytes(MB))
        with pytest.raises(TimeoutError):
            dial(wan, "head", "worker", PORT, timeout=1)
        with pytest.raises(ConnectionRefusedError):
            dial(wan, "head", "worker", 22, timeout=60)


def test_the_router_does_not_wait_for_busy_neighbours():
    may = subprocess.run(["chrt", "--rr", "1", "true"], capture_output=True, check=False).returncode == 0
    with Wan(two_hosts()) as wan:
        policy = os.sched_getscheduler(wan._router.pid) & ~os.SCHED_RESET_ON_FORK
    assert policy == (os.SCHED_RR if may else os.SCHED_OTHER)


def test_there_is_no_way_out():
    with Wan(two_hosts()) as wan, wan.inside("a"), pytest.raises(OSError, match="Network is unreachable"):
        socket.create_connection(("192.0.2.1", 80), timeout=60)


def test_programs_of_this_machine_run_with_the_network_of_a_host():
    with Wan(two_hosts(), sysctls={"net.ipv4.tcp_wmem": "4096 65536 1048576"}) as wan:
        shown = subprocess.run(
            wan.command("b", ["ip", "-o", "addr"]), capture_output=True, text=True, check=True
        ).stdout
        settings = subprocess.run(
            wan.command("b", ["cat", "/proc/sys/net/ipv4/tcp_wmem"]), capture_output=True, text=True, check=True
        ).stdout
        with pytest.raises(ValueError, match="no host 'c'"):
            wan.command("c", ["true"])
    assert "10.2.0.1/32" in shown
    assert settings.split() == ["4096", "65536", "1048576"]


CHOOSE = """
import socket
s = socket.socket()
print(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\\0").decode())
for name in (b"reno", b"bbr"):
    try:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name)
        print("may")
    except OSError:
        print("may not")
"""


def allowed_on_this_machine() -> str:
    """The list of the whole machine, when no lab of whomever has changed it."""
    with congestion._alone():
        return Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control").read_text()


def test_congestion_control_is_what_the_lab_says():
    before = allowed_on_this_machine()
    with Wan(two_hosts(), congestion="cubic", allowed_congestion=["cubic", "reno"]) as wan:
        command = wan.command("a", ["python3", "-I", "-c", CHOOSE])
        chosen = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert chosen.splitlines() == ["cubic", "may", "may not"]
    assert allowed_on_this_machine() == before


def test_a_default_congestion_control_leaves_the_machine_as_it_was():
    before = allowed_on_this_machine()
    with Wan(two_hosts(), congestion="cubic") as wan, wan.inside("a"), socket.socket() as plain:
        assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == b"cubic"
    assert allowed_on_this_machine() == before
    with pytest.raises(LabError, match="no congestion control nonsense"), Wan(two_hosts(), congestion="nonsense"):
        pass
    with pytest.raises(ValueError, match="'bbr' is not among those allowed"):
        Wan(two_hosts(), congestion="bbr", allowed_congestion=["cubic"])
