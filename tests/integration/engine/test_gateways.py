"""Transfers over several readers, relays and writers: real processes, some of which are killed in the middle."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable

import pytest

from skyplane_core.client import ClientConfig, Dataplane, Location, SkyplaneClient
from skyplane_core.control import PeerAddress
from skyplane_core.errors import TransferFailed
from skyplane_core.model import Compression
from skyplane_core.planner.plan import Via
from skyplane_core.spec import TransferOptions, TransferState
from skyplane_core.testing.objectserver import ObjectServer
from tests.integration.engine.conftest import MIB, SECRET
from tests.integration.engine.test_secrets import holds, processes
from tests.servers.power_loss import lose_power

At = Callable[..., Location]


def client_of(layout: str, via: Via = Via.RELAYED) -> SkyplaneClient:
    return SkyplaneClient(ClientConfig(layout=layout, via=via, pool_bytes=64 * MIB, control_secret=SECRET))


def options(compression: Compression = Compression.AUTO, **more: object) -> TransferOptions:
    how = {"part_size": 5 * MIB, "multipart_threshold": 6 * MIB, "concurrency": 4, "compression": compression, **more}
    return TransferOptions(**how)  # type: ignore[arg-type]


def fill(s3: ObjectServer, large: int = 4) -> dict[str, bytes]:
    draw = random.Random(7)
    objects = {f"p/small/{number:03}": draw.randbytes(number * 50) for number in range(100)}
    objects |= {f"p/large/{number}": draw.randbytes(17 * MIB + number) for number in range(large)}
    objects["p/text"] = b"all work and no play makes jack a dull boy " * 300_000
    for key, body in objects.items():
        s3.put("src", key, body)
    return objects


def check(gcs: ObjectServer, objects: dict[str, bytes]) -> None:
    assert [key for key in gcs.list("dst", "q/") if ".skyplane" not in key] == sorted(
        "q/" + key.removeprefix("p/") for key in objects
    )
    for key, body in objects.items():
        assert gcs.get("dst", "q/" + key.removeprefix("p/")) == body, key
    assert gcs.uploads("dst") == []


def counters(dataplane: Dataplane) -> list[dict[str, int]]:
    return [channel.status().counters for channel in dataplane.gateways]


def kill(dataplane: Dataplane, number: int) -> str:
    """End one gateway with all its processes, as a machine that loses power."""
    address = dataplane.reference.gateways[number]
    lose_power(address)
    return address.gateway_id


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to this"
        time.sleep(0.02)


@contextlib.contextmanager
def running(client: SkyplaneClient, source: At, destination: At, how: TransferOptions):
    dataplane = client.dataplane()
    with dataplane.auto_deprovision():
        dataplane.provision()
        tracker = dataplane.submit(client.prepare(source("p/"), destination("q/"), recursive=True, options=how))
        yield dataplane, tracker


@pytest.mark.parametrize("compression", [Compression.LZ4, Compression.NONE])
def test_three_gateways_are_reader_relay_and_writer(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, compression: Compression
) -> None:
    objects = fill(s3)
    client = SkyplaneClient(ClientConfig(gateways=3, pool_bytes=64 * MIB, control_secret=SECRET))
    with running(client, source, destination, options(compression)) as (dataplane, tracker):
        tracker.wait(timeout=300).raise_for_state()
        reader, relay, writer = counters(dataplane)
    check(gcs, objects)
    total = sum(map(len, objects.values()))
    assert reader["bytes_read"] == writer["bytes_written"] == total
    assert relay["wire_bytes_relayed"] == reader["wire_bytes_sent"] == writer["wire_bytes_received"]
    assert relay["bytes_read"] == relay["bytes_written"] == relay["bytes_received"] == 0
    assert (reader["wire_bytes_sent"] < total * 0.9) == (compression is Compression.LZ4)


@pytest.mark.parametrize(
    ("layout", "via"), [("2:0:2", Via.RELAYED), ("2:1:2", Via.RELAYED), ("2:2:1", Via.BOTH)], ids=str
)
def test_every_gateway_of_a_layout_moves_bytes(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, layout: str, via: Via
) -> None:
    objects = fill(s3)
    gcs.set_network(latency=0.02)
    readers, relays, writers = map(int, layout.split(":"))
    with running(client_of(layout, via), source, destination, options()) as (dataplane, tracker):
        tracker.wait(timeout=300).raise_for_state()
        moved = counters(dataplane)
    check(gcs, objects)
    total = sum(map(len, objects.values()))
    read = [each["bytes_read"] for each in moved[:readers]]
    relayed = [each["wire_bytes_relayed"] for each in moved[readers : readers + relays]]
    written = [each["bytes_written"] for each in moved[-writers:]]
    assert sum(read) >= total
    assert sum(written) >= total
    assert min(read) > total / 10
    assert min(written) > total / 10
    assert min(relayed, default=1) > 0
    sent = sum(each["wire_bytes_sent"] for each in moved[:readers])
    assert sum(relayed) == (sent if relays and via is Via.RELAYED else sum(relayed))
    if via is Via.BOTH:
        assert 0 < sum(relayed) < sent


@pytest.mark.parametrize(
    ("layout", "victim"),
    [("1:2:1", 1), ("2:0:1", 1), ("2:1:1", 1), ("1:0:2", 2), ("1:0:2", 1), ("1:1:2", 2)],
    ids=["a-relay", "second-reader", "second-reader-before-a-relay", "second-writer", "first-writer", "behind-a-relay"],
)
def test_a_gateway_that_is_killed_in_the_middle_costs_nothing_but_time(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, layout: str, victim: int
) -> None:
    objects = fill(s3, large=6)
    gcs.set_network(bandwidth=4e6)
    with running(client_of(layout), source, destination, options()) as (dataplane, tracker):
        wait_until(lambda: tracker.progress().bytes_acked > 20 * MIB and _moves(dataplane, victim))
        kill(dataplane, victim)
        gcs.set_network(bandwidth=0)
        result = tracker.wait(timeout=300)
    result.raise_for_state()
    assert result.progress.state is TransferState.DONE
    check(gcs, objects)


def _moves(dataplane: Dataplane, number: int) -> bool:
    counted = dataplane.gateways[number].status().counters
    return counted["bytes_read"] + counted["bytes_written"] + counted["wire_bytes_relayed"] > MIB


@pytest.mark.parametrize(("layout", "victim"), [("1:0:1", 1), ("1:1:1", 1)], ids=["the-writer", "the-relay"])
def test_without_any_route_left_the_transfer_fails_in_time_and_names_the_gateway(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, layout: str, victim: int
) -> None:
    fill(s3)
    gcs.set_network(bandwidth=4e6)
    with running(client_of(layout), source, destination, options(progress_timeout=8.0)) as (dataplane, tracker):
        wait_until(lambda: tracker.progress().bytes_acked > 10 * MIB)
        name = kill(dataplane, victim)
        result = tracker.wait(timeout=120)
    assert result.progress.state is TransferState.FAILED
    with pytest.raises(TransferFailed, match=name):
        result.raise_for_state()


def test_a_relay_holds_no_key_and_nobody_more_than_its_role_needs(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At
) -> None:
    fill(s3)
    gcs.set_network(bandwidth=4e6)
    with running(client_of("2:1:2"), source, destination, options()) as (dataplane, tracker):
        wait_until(lambda: tracker.progress().bytes_acked > 20 * MIB and _moves(dataplane, 2))
        key = dataplane._keys[tracker.transfer_id].key
        secrets = {"key": key, "source": b"source-canary-secret", "destination": b"destination-canary-token"}
        expected = [{"key", "source"}] * 2 + [set()] + [{"key", "destination"}] * 2
        for number, names in enumerate(expected):
            family = processes(dataplane, number)
            found = {name for name, secret in secrets.items() if any(holds(process, secret) for process in family)}
            assert found == names, f"gateway {number}"
        tracker.cancel()
        tracker.wait(timeout=120)


def test_a_reader_that_was_only_cut_off_for_a_moment_goes_on(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At
) -> None:
    objects = fill(s3)
    gcs.set_network(bandwidth=4e6)
    with running(client_of("2:0:1"), source, destination, options()) as (dataplane, tracker):
        wait_until(lambda: tracker.progress().bytes_acked > 10 * MIB and _moves(dataplane, 1))
        family = processes(dataplane, 1)
        for process in family:
            process.suspend()
        before = tracker.progress().bytes_acked
        wait_until(lambda: tracker.progress().bytes_acked > before + 10 * MIB)
        for process in family:
            process.resume()
        gcs.set_network(bandwidth=0)
        tracker.wait(timeout=300).raise_for_state()
    check(gcs, objects)


def test_a_dry_run_shows_the_routes(s3: ObjectServer, source: At, destination: At) -> None:
    s3.put("src", "p/a", os.urandom(10))
    client = client_of("2:1:1", Via.BOTH)
    plan, _decisions = client.dry_run(client.prepare(source("p/"), destination("q/"), recursive=True))
    assert plan.kind == "mixed"
    lines = plan.render()
    assert "  gateway gateway-2: local, relay" in lines
    assert [line for line in lines if "route" in line] == [
        "  route to destination 0: gateway-0 -> gateway-2 -> gateway-3, 25%",
        "  route to destination 0: gateway-1 -> gateway-2 -> gateway-3, 25%",
        "  route to destination 0: gateway-0 -> gateway-3, 25%",
        "  route to destination 0: gateway-1 -> gateway-3, 25%",
    ]


@pytest.mark.parametrize(
    ("layout", "hidden"),
    [("1:0:1", {1}), ("1:1:1", {2}), ("1:1:1", {1}), ("2:0:2", {1, 3})],
    ids=["writer", "behind-a-relay", "relay", "reader-and-one-of-two-writers"],
)
def test_gateways_that_nobody_can_dial_dial_the_others(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, layout: str, hidden: set[int]
) -> None:
    objects = fill(s3)
    dataplane = client_of(layout).dataplane()
    with dataplane.auto_deprovision():
        dataplane.provision()
        peers = tuple(
            PeerAddress(address.gateway_id, dials_out=True)
            if number in hidden
            else PeerAddress(address.gateway_id, address.host, address.wire_port)
            for number, address in enumerate(dataplane.reference.gateways)
        )
        for channel in dataplane.gateways:
            channel.set_peers(peers)
        prepared = client_of(layout).prepare(source("p/"), destination("q/"), recursive=True, options=options())
        result = dataplane.submit(prepared).wait(timeout=300)
        moved = counters(dataplane)
    result.raise_for_state()
    check(gcs, objects)
    assert all(each["wire_bytes_sent"] + each["wire_bytes_received"] > 0 for each in moved)
