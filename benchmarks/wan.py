"""Two gateways on machines of an emulated WAN: 1 Gbit/s, 100 ms there and back, one segment in a thousand lost.

Needs root (see docs/testing.md). Each case has a lab, machines and gateways of its own; SSH starts the gateways.
Goodput is the payload that the writer has authenticated, asked once a second, from five seconds after its first byte.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import common
import matplotlib as mpl
import psutil
from common import DESTINATION_BUCKET, MIB, SOURCE_BUCKET, say

from skyplane_core.client import ClientConfig, Location, SkyplaneClient
from skyplane_core.control import PeerAddress
from skyplane_core.dataplane import Dataplane
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.provision.bundle import this_target
from skyplane_core.provision.bundle_build import build
from skyplane_core.provision.hosts import Role, SshHost
from skyplane_core.spec import TransferOptions
from skyplane_core.testing.lab import FakeVm, Host, Link, Topology, Wan, both_ways
from skyplane_core.testing.objectserver import ObjectServer

RATE_MBIT, DELAY_MS, LOSS_PERCENT = 1000.0, 50.0, 0.1
RAMP_SECONDS = 5
STEP_SECONDS = 1.0
OBJECT_BYTES = 128 * MIB
TOPOLOGY = Topology(
    hosts=(
        Host(name="client", ip="10.1.0.1", region="west"),
        Host(name="source", ip="10.1.0.2", region="west"),
        Host(name="reader", ip="10.1.0.3", region="west"),
        Host(name="writer", ip="10.2.0.1", region="east"),
        Host(name="destination", ip="10.2.0.2", region="east"),
    ),
    links=both_ways(Link(source="west", target="east", rate_mbit=RATE_MBIT, delay_ms=DELAY_MS)),
    seed=7,
)


class Case(NamedTuple):
    """``connections`` 0: as the gateway chooses. ``target``: share of the link that it should reach."""

    name: str
    congestion: tuple[str, ...] = ()
    connections: int = 0
    pool_bytes: int = 512 * MIB
    part_size: int = 0
    target: float = 0.0
    seconds: int = 60
    runs: int = 2


CASES = (
    Case("default", target=0.85),
    Case("cubic", ("cubic",), target=0.6),
    Case("one connection of cubic", ("cubic",), connections=1, seconds=30, runs=1),
)


@contextlib.contextmanager
def lab(case: Case) -> Iterator[tuple[Wan, FakeVm, FakeVm, ObjectServer, ObjectServer]]:
    """The network, the gateways' machines, and the stores on hosts beside them."""
    with contextlib.ExitStack() as stack:
        wan = stack.enter_context(Wan(TOPOLOGY, congestion="cubic", allowed_congestion=case.congestion or None))
        servers = []
        for host, kind, bucket in (("source", "s3", SOURCE_BUCKET), ("destination", "gcs", DESTINATION_BUCKET)):
            with wan.inside(host):
                ip = wan.topology.host(host).ip
                servers.append(stack.enter_context(ObjectServer(kind, buckets=[bucket], host=ip, in_process=False)))
        machines = [stack.enter_context(FakeVm(wan, name)) for name in ("reader", "writer")]
        yield wan, machines[0], machines[1], servers[0], servers[1]


def fill(server: ObjectServer, objects: int) -> None:
    """Random bytes; only their first differ from object to object."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(random.Random(OBJECT_BYTES).randbytes(OBJECT_BYTES))
        for number in range(objects):
            file.seek(0)
            file.write(number.to_bytes(8, "big"))
            file.flush()
            server.put(SOURCE_BUCKET, f"data/{number:03d}", Path(file.name))


def machine_host(vm: FakeVm, role: Role) -> SshHost:
    """What the client is told of a machine."""
    return SshHost(vm.address, user="root", key=str(vm.key_file), host_key=vm.host_key, role=role)


def ends(source: ObjectServer, destination: ObjectServer) -> tuple[Location, Location]:
    keys = Credentials(access_key="BENCHACCESSKEY", secret_key="bench-secret-key")
    west = StoreConfig(
        "s3", SOURCE_BUCKET, endpoint_url=source.endpoint_url, region="us-east-1", path_style=True, credentials=keys
    )
    east = StoreConfig("gcs", DESTINATION_BUCKET, endpoint_url=destination.endpoint_url, project="bench")
    return Location(west, "data/"), Location(east, "data/")


class Emptier:
    """Compares what has arrived with its source and deletes it, so that hours of data need little memory."""

    def __init__(self, source: ObjectServer, destination: ObjectServer) -> None:
        self._source, self._destination = source, destination
        self.objects = 0
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Emptier:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        ready: list[str] = []
        while not self._stop.wait(2.0):
            # Those of the round before: the engine has looked at its own by now.
            for key in ready:
                copy, original = self._destination.head(DESTINATION_BUCKET, key), self._source.head(SOURCE_BUCKET, key)
                if (copy["size"], copy["crc32c"]) != (original["size"], original["crc32c"]):
                    self.wrong.append(key)
                self.objects += 1
                self._destination.delete(DESTINATION_BUCKET, key)
            ready = [key for key in self._destination.list(DESTINATION_BUCKET) if key.startswith("data/0")]


def insist(dataplane: Dataplane, connections: int) -> None:
    """Take the choice from the gateways: so many connections from each to the other."""
    gateways = dataplane.reference.gateways
    peers = [PeerAddress(it.gateway_id, it.dialled, it.wire_port, connections) for it in gateways]
    for channel in dataplane.gateways:
        channel.set_peers(tuple(peers))


def measure(case: Case, seconds: int) -> dict[str, Any]:
    """One case, from its machines' boot to their end."""
    say(f"{case.name}: {RAMP_SECONDS} + {seconds} s")
    objects = round(RATE_MBIT * 1e6 / 8 * (seconds + RAMP_SECONDS + 3) / OBJECT_BYTES) + 1
    with lab(case) as (wan, reader, writer, source, destination), wan.inside("client"):
        fill(source, objects if case.connections != 1 else 8)
        hosts = (machine_host(reader, Role.READER), machine_host(writer, Role.WRITER))
        client = SkyplaneClient(ClientConfig(hosts=hosts, pool_bytes=case.pool_bytes))
        options = TransferOptions(part_size=case.part_size)
        with client.dataplane().auto_deprovision() as dataplane:
            dataplane.provision()
            if case.connections:
                insist(dataplane, case.connections)
            wan.change("west", "east", loss_percent=LOSS_PERCENT)
            prepared = client.prepare(*ends(source, destination), recursive=True, options=options)
            with Emptier(source, destination) as emptier:
                tracker = dataplane.submit(prepared)
                figures = watch(case, wan, dataplane, seconds)
                figures["memory_mb"] = {vm.name: memory(vm) for vm in (reader, writer)}
                tracker.cancel()
                tracker.wait()
            figures["objects_compared"] = emptier.objects
            if emptier.wrong:
                raise AssertionError(f"these differ from their source: {emptier.wrong}")
            figures["connections_over_time"] = choices(dataplane)
    return figures


def memory(vm: FakeVm) -> int:
    """Resident memory of the largest process of a machine: that of the gateway which moves the bytes."""
    return round(max(psutil.Process(it.host_pid).memory_info().rss for it in vm.processes()) / 1e6)


def choices(dataplane: Dataplane) -> list[int]:
    """How many connections the reader allowed, one after the other, as its log has it."""
    lines = [json.loads(line) for line in dataplane.logs()["gateway-0"].splitlines() if line.startswith("{")]
    return [it["fields"]["connections"] for it in lines if it["event"] == "number of data connections changed"]


def watch(case: Case, wan: Wan, dataplane: Dataplane, seconds: int) -> dict[str, Any]:
    """Sample the writer, the link and the number of connections."""
    channel = dataplane.gateways[1]
    began: float | None = None
    samples: list[tuple[float, int, int]] = []
    router = 0.0
    loads: list[float] = []
    while not samples or samples[-1][0] < RAMP_SECONDS + seconds:
        payload = channel.status().counters["bytes_received"]
        now = time.monotonic()
        if began is None:
            if not payload:
                time.sleep(0.02)
                continue
            began, router = now, wan.cpu_seconds
        samples.append((now - began, payload, wan.counters("west", "east").bytes))
        loads.append(os.getloadavg()[0])
        time.sleep(max(0.0, began + STEP_SECONDS * len(samples) - time.monotonic()))
    router = wan.cpu_seconds - router
    series = [
        round((later[1] - earlier[1]) * 8e-6 / (later[0] - earlier[0]), 1)
        for earlier, later in itertools.pairwise(samples)
    ]
    start = next(index for index, sample in enumerate(samples) if sample[0] >= RAMP_SECONDS)
    first, last = samples[start], samples[-1]
    took = last[0] - first[0]
    goodput = (last[1] - first[1]) * 8e-6 / took
    wire = (last[2] - first[2]) * 8e-6 / took
    load = statistics.mean(loads)
    counters = wan.counters("west", "east")
    figures = {
        "case": case.name,
        "congestion_allowed": list(case.congestion) or "all of the kernel's, bbr among them",
        "connections": case.connections or "chosen",
        "pool_mb": case.pool_bytes // MIB,
        "part_size_mb": case.part_size // MIB or "chosen",
        "seconds": round(took, 1),
        "goodput_mbit": round(goodput, 1),
        "share_of_link": round(goodput / RATE_MBIT, 3),
        "target": case.target or None,
        "wire_mbit": round(wire, 1),
        "segments": counters.segments,
        "lost": counters.lost,
        "dropped": counters.dropped,
        "router_cores": round(router / samples[-1][0], 2),
        "load_average": round(load, 1),
        "mbit_each_second": series,
    }
    say(f"  {goodput:.0f} Mbit/s of payload, {wire:.0f} on the link; load {load:.1f}, router {figures['router_cores']}")
    return figures


def plot(runs: list[dict[str, Any]], path: Path) -> None:
    """Payload over time, each run a line."""
    mpl.use("Agg")
    # The same figures give the same file.
    mpl.rcParams["svg.hashsalt"] = "wan"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4))
    colours: dict[str, str] = {}
    for run in runs:
        new = run["case"] not in colours
        colour = colours.setdefault(run["case"], f"C{len(colours)}")
        axes.plot(
            range(1, len(run["mbit_each_second"]) + 1), run["mbit_each_second"],
            color=colour, linewidth=1, label=run["case"] if new else None,
        )  # fmt: skip
    axes.axvline(RAMP_SECONDS, color="grey", linestyle=":", linewidth=1)
    axes.set(xlabel="seconds", ylabel="payload (Mbit/s)", ylim=(0, RATE_MBIT), title="1 Gbit/s, 100 ms, 0.1 % loss")
    axes.legend(fontsize="small")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main(*, quick: bool) -> dict[str, Any]:
    """The cases with a target twice, the others once; ``quick``: each once, and shorter."""
    say("a WAN of 1 Gbit/s, 100 ms there and back, one segment in a thousand lost")
    build(this_target())
    turns = [(number, case) for number in range(2) for case in CASES if number < (1 if quick else case.runs)]
    runs = [measure(case, 15 if quick else case.seconds) for _number, case in turns]
    plot(runs, common.RESULTS / f"wan{'-quick' if quick else ''}.svg")
    return {"benchmark": "wan", "quick": quick, "machine": common.machine(), "runs": runs}
