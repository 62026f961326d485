"""Many objects of 1 KiB, S3 server -> GCS server: what an object costs when its bytes cost nothing.

One and two gateways and rclone, without added latency and with 10 ms of service latency on both servers, at 64
requests at once to each store. With latency nothing can beat the lower of two bounds: 64 requests at once of 10 ms
each, and a bare loop of 64 threads that GETs and PUTs each object over kept connections, in the same run.
"""

from __future__ import annotations

import dataclasses
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import common
import engine
import paths
import peers
import plots
import psutil
from common import DESTINATION_BUCKET, MIB, SOURCE_BUCKET, Servers, say

from skyplane_core.client import Location, SkyplaneClient
from skyplane_core.dataplane import Dataplane
from skyplane_core.model import Compression
from skyplane_core.spec import TransferOptions
from skyplane_core.stores import gcs_wire
from skyplane_core.stores.http_data import HttpData, Request

COUNT, QUICK_COUNT, SIZE = 100_000, 10_000, 1024
RCLONE_COUNT = 20_000
RCLONE_SECONDS = 60.0
"""Where all objects would take rclone longer than this, it moves a part of them, and its time is scaled up."""
BARE_COUNT = 20_000
CONCURRENCY = 64
LATENCY = 0.010
PREFIX = "data/"
REFERENCE_OBJECTS_PER_SECOND = 9.0
"""Open-source Skyplane 0.3.2, two gateways, objects of 1 KiB, on the same kind of machine."""
CASES = (("no added latency", 0.0), ("10 ms a request", LATENCY))


@dataclasses.dataclass(frozen=True)
class Moved:
    """So many objects in so many seconds. CPU seconds by what used them."""

    objects: int
    seconds: float
    cpu: dict[str, float]
    server_cpu: float

    def row(self, name: str) -> dict[str, Any]:
        """One line of the table, told at once."""
        each = {role: round(seconds * 1e6 / self.objects, 1) for role, seconds in sorted(self.cpu.items())}
        result = {
            "name": name,
            "objects_per_second": round(self.objects / self.seconds, 1),
            "seconds": round(self.seconds, 2),
            "measured_objects": self.objects,
            "cpu_us_per_object": round(sum(self.cpu.values()) * 1e6 / self.objects, 1),
            "cpu_us_per_object_by_process": each,
            "server_cpu_us_per_object": round(self.server_cpu * 1e6 / self.objects, 1),
        }
        say(
            f"  {name:16} {result['objects_per_second']:7.0f} objects/s"
            f" {result['cpu_us_per_object']:6.0f} CPU us an object"
            f" {result['server_cpu_us_per_object']:5.0f} in the servers  {each}"
        )
        return result


def roles(dataplane: Dataplane) -> dict[str, float]:
    """CPU seconds that each process of each gateway has used: ``g0 data`` and so on."""
    used = {}
    for number, address in enumerate(dataplane.reference.gateways):
        root = psutil.Process(address.pid)
        for process in (root, *root.children()):
            role = {"skyplane-gw": "control"}.get(process.name(), process.name().removeprefix("skyplane-"))
            times = process.cpu_times()
            used[f"gateway {number} {role}"] = times.user + times.system
    return used


def ours(of: Servers, client: SkyplaneClient, dataplane: Dataplane, prefix: str, below: str = PREFIX) -> Moved:
    """One transfer of all that is at the source, or of what is below a longer prefix."""
    source, destination = paths.configs(of)
    options = TransferOptions(compression=Compression.NONE, concurrency=CONCURRENCY)
    ends = Location(source, below), Location(destination, prefix)
    prepared = client.prepare(*ends, recursive=True, options=options)
    before, servers_before = roles(dataplane), engine.cpu((of.s3, of.gcs))
    began = time.perf_counter()
    result = dataplane.submit(prepared).wait()
    seconds = time.perf_counter() - began
    servers_used = engine.cpu((of.s3, of.gcs)) - servers_before
    used = {role: after - before[role] for role, after in roles(dataplane).items()}
    result.raise_for_state()
    return Moved(result.progress.objects_copied, seconds, used, servers_used)


def through(of: Servers, gateways: int, count: int, latency: float) -> Moved:
    """All objects through so many gateways, after a thousand that nobody measures."""
    with engine.gateways(gateways, pool_bytes=256 * MIB) as (client, dataplane):
        of.network(latency=0.0, bandwidth=0.0)
        fill(of, count)
        ours(of, client, dataplane, "warm/", f"{PREFIX}000")
        of.network(latency=latency, bandwidth=0.0)
        moved = ours(of, client, dataplane, "ours/")
        of.network(latency=0.0, bandwidth=0.0)
        check(of, "ours/", count)
    return moved


def fill(of: Servers, count: int) -> None:
    """So many objects at the source, none in the destination."""
    of.empty(of.gcs, DESTINATION_BUCKET)
    if len(of.s3.list(SOURCE_BUCKET)) != count:
        of.fill(count, SIZE)


def check(of: Servers, prefix: str, count: int) -> None:
    """All names are there, and every hundredth object has the bytes of its source.

    Raises:
        AssertionError: naming the first difference.
    """
    # A receipt lies beside them.
    found = [key for key in of.gcs.list(DESTINATION_BUCKET, prefix) if key.endswith(".bin")]
    if len(found) != count:
        raise AssertionError(f"{len(found)} objects below {prefix}, expected {count}")
    for key in of.s3.list(SOURCE_BUCKET)[::100]:
        name = prefix + key.removeprefix(PREFIX)
        if of.s3.get(SOURCE_BUCKET, key) != of.gcs.get(DESTINATION_BUCKET, name):
            raise AssertionError(f"{key} differs at the destination")


def bare(of: Servers, count: int, latency: float) -> Moved:
    """A loop of threads that reads and writes each object over two kept connections, and does nothing else."""
    of.empty(of.gcs, DESTINATION_BUCKET)
    keys = iter(of.s3.list(SOURCE_BUCKET)[:count])
    lock = threading.Lock()
    source, destination = paths.configs(of)

    def work() -> None:
        get, put = HttpData(source.endpoint_url), HttpData(destination.endpoint_url)
        buffer = memoryview(bytearray(SIZE))
        while True:
            with lock:
                key = next(keys, None)
            if key is None:
                break
            read = get.get_into(Request("GET", f"/{SOURCE_BUCKET}/{key}", {}), buffer)
            target = gcs_wire.xml_target(DESTINATION_BUCKET, f"bare/{key}")
            written = put.send(Request("PUT", target, {}), buffer)
            if (read.status, written.status) != (200, 200):
                raise AssertionError(f"{key}: {read.status}, {written.status}")
        get.close()
        put.close()

    of.network(latency=latency, bandwidth=0.0)
    servers_before, before = engine.cpu((of.s3, of.gcs)), time.process_time()
    began = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(CONCURRENCY)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    used, servers_used = time.process_time() - before, engine.cpu((of.s3, of.gcs)) - servers_before
    of.network(latency=0.0, bandwidth=0.0)
    of.check_names("bare/", count)
    return Moved(count, seconds, {"loop": used}, servers_used)


def rclone(of: Servers, count: int, latency: float, env: dict[str, str]) -> dict[str, Any]:
    """All objects with rclone, or, where that would take long, a part of them."""
    few = min(count, RCLONE_COUNT)
    row = _rclone(of, few, latency, env).row("rclone")
    if few < count and row["seconds"] * count / few <= RCLONE_SECONDS:
        return _rclone(of, count, latency, env).row("rclone")
    return row | {"extrapolated": few < count}


def _rclone(of: Servers, count: int, latency: float, env: dict[str, str]) -> Moved:
    fill(of, count)
    command = peers.rclone(peers.source(of), peers.destination(of, "rclone"), CONCURRENCY, 8 * MIB)
    of.network(latency=latency, bandwidth=0.0)
    before = engine.cpu((of.s3, of.gcs))
    ran = peers.run(command, env)
    used = engine.cpu((of.s3, of.gcs)) - before
    of.network(latency=0.0, bandwidth=0.0)
    check(of, "rclone/", count)
    return Moved(count, ran.seconds, {"rclone": ran.cpu_seconds}, used)


def case(of: Servers, name: str, latency: float, count: int, env: dict[str, str]) -> list[dict[str, Any]]:
    """One network: two gateways, one, the bare loop, rclone."""
    say(f"{count} x {SIZE} bytes, {name}")
    two = through(of, 2, count, latency).row("2 gateways")
    one = through(of, 1, count, latency).row("1 gateway")
    loop = bare(of, min(count, BARE_COUNT), latency).row("bare GET + PUT")
    bounds = [loop["objects_per_second"], *([CONCURRENCY / latency] if latency else [])]
    two["times_slower_than_the_bound"] = round(min(bounds) / two["objects_per_second"], 2)
    one["times_slower_than_the_bound"] = round(min(bounds) / one["objects_per_second"], 2)
    theirs = rclone(of, count, latency, env)
    for row in (two, one):
        row["times_as_fast_as_rclone"] = round(row["objects_per_second"] / theirs["objects_per_second"], 2)
        row["times_the_reference"] = round(row["objects_per_second"] / REFERENCE_OBJECTS_PER_SECOND)
    say(
        f"  2 gateways: {two['times_as_fast_as_rclone']} times as fast as rclone,"
        f" {two['times_slower_than_the_bound']} times slower than the bound of {min(bounds):.0f} objects/s"
    )
    return [two, one, loop, theirs]


def main(*, quick: bool) -> dict[str, Any]:
    """Both networks."""
    count = QUICK_COUNT if quick else COUNT
    machine = common.machine()
    with common.servers() as of, tempfile.TemporaryDirectory() as scratch:
        env = peers.environment(Path(scratch), CONCURRENCY, 8 * MIB)
        tables = {name: case(of, name, latency, count, env) for name, latency in CASES}
    result = {
        "benchmark": "small",
        "quick": quick,
        "machine": machine,
        "objects": count,
        "object_bytes": SIZE,
        "concurrency": CONCURRENCY,
        **tables,
    }
    plots.bars(result, common.RESULTS / f"small{'-quick' if quick else ''}.svg", unit="objects/s")
    return result
