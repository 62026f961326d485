"""Large objects over every path, beside every tool that can do the same, on the same servers in the same run.

S3 server -> GCS server through one, two and three gateways, the stock operator and rclone; S3 server -> directory and
back through one gateway, rclone, s5cmd and aws-cli; and what the servers, the sockets, the codec and the cipher can do
alone. Two gateways once more over HTTP and HTTPS with random bytes and with text, each against the sum of its stages.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certificates
import common
import engine
import limits
import msgspec
import peers
import plots
import stages
from common import DESTINATION_BUCKET, MIB, SOURCE_BUCKET, Servers, say

from skyplane_core.client import Location
from skyplane_core.model import Compression, Credentials, StoreConfig
from skyplane_core.shrinkage import describe
from skyplane_core.testing.objectserver import ObjectServer

COUNT, SIZE, PART = 8, 256 * MIB, 16 * MIB
CONCURRENCY = 32
REFERENCE_MB_PER_SECOND = 44.0
"""Open-source Skyplane 0.3.2, two gateways, incompressible, on the same kind of machine."""
ROUNDS = 3


@contextlib.contextmanager
def servers(*, tls: tuple[str, str] | None = None) -> Iterator[Servers]:
    """Both servers, over HTTP or HTTPS."""
    with (
        ObjectServer("s3", buckets=[SOURCE_BUCKET], in_process=False, tls=tls) as s3,
        ObjectServer("gcs", buckets=[DESTINATION_BUCKET], in_process=False, tls=tls) as gcs,
    ):
        yield Servers(s3, gcs)


def configs(of: Servers, *, verify: bool | str = True) -> tuple[StoreConfig, StoreConfig]:
    """Both ends as our stores open them."""
    source = StoreConfig(
        "s3",
        SOURCE_BUCKET,
        endpoint_url=of.s3.endpoint_url,
        region="us-east-1",
        path_style=True,
        verify=verify,
        credentials=Credentials(access_key=peers.KEY, secret_key=peers.SECRET),
    )
    destination = StoreConfig(
        "gcs", DESTINATION_BUCKET, endpoint_url=of.gcs.endpoint_url, project="bench", verify=verify
    )
    return source, destination


def fill(of: Servers, kind: str, count: int = COUNT, size: int = SIZE) -> None:
    """Objects of one kind of content at the source, none at the destination."""
    of.empty(of.s3, SOURCE_BUCKET)
    of.empty(of.gcs, DESTINATION_BUCKET)
    body = stages.content(kind, size)
    for number in range(count):
        of.s3.put(SOURCE_BUCKET, f"data/{number:06d}.bin", number.to_bytes(8, "big") + body[8:])


# --- our own paths ---------------------------------------------------------------------------------------------------


def through(of: Servers, count: int, compression: Compression, *, verify: bool | str = True) -> engine.Moved:
    """S3 -> GCS through so many gateways: once to warm up, then the median of three."""
    source, destination = configs(of, verify=verify)
    with engine.gateways(count) as (client, dataplane):
        runs = []
        for _ in range(ROUNDS + 1):
            of.empty(of.gcs, DESTINATION_BUCKET)
            runs.append(
                engine.move(
                    client,
                    dataplane,
                    Location(source, "data/"),
                    Location(destination, "ours/data/"),
                    (of.s3, of.gcs),
                    compression=compression,
                    part_size=PART,
                    concurrency=CONCURRENCY,
                )
            )
            of.check("ours/", COUNT)
    return sorted(runs[1:], key=lambda moved: moved.seconds)[ROUNDS // 2]


def row(name: str, moved: engine.Moved) -> dict[str, Any]:
    """One line of the table, told at once."""
    say(
        f"  {name:44} {moved.mb_per_second:7.0f} MB/s {moved.cpu_per_gb:6.3f} CPU s/GB"
        f" {moved.server_cpu_seconds / (moved.bytes / 1e9):6.3f} in the servers {moved.peak_rss_mb:6.0f} MB"
    )
    return {
        "name": name,
        "mb_per_second": round(moved.mb_per_second, 1),
        "cpu_seconds_per_gb": round(moved.cpu_per_gb, 3),
        "server_cpu_seconds_per_gb": round(moved.server_cpu_seconds / (moved.bytes / 1e9), 3),
        "peak_rss_mb": round(moved.peak_rss_mb),
        "wire_share": round(moved.wire_bytes / moved.bytes, 3),
    } | _chosen(moved)


def _chosen(moved: engine.Moved) -> dict[str, Any]:
    """What compression chose and why, told at once; nothing where there was nothing to choose."""
    if moved.shrinkage is None:
        return {}
    say(f"    {describe(moved.shrinkage)}")
    return {"compression": describe(moved.shrinkage), "shrinkage": msgspec.to_builtins(moved.shrinkage)}


def matrix() -> list[dict[str, Any]]:
    """Two gateways, {random, text} x {HTTP, HTTPS}, and ``auto``, each against its own stages."""
    rows = []
    for scheme in ("http", "https"):
        with contextlib.ExitStack() as stack:
            pair = stack.enter_context(certificates.pair()) if scheme == "https" else None
            of = stack.enter_context(servers(tls=pair))
            verify: bool | str = pair[0] if pair else True
            for kind, mode in (
                ("random", Compression.NONE),
                ("text", Compression.LZ4),
                ("random", Compression.AUTO),
                ("text", Compression.AUTO),
            ):
                fill(of, kind)
                moved = through(of, 2, mode, verify=verify)
                found = row(f"2 gateways, {kind}, {mode.value}, {scheme}", moved)
                if mode is not Compression.AUTO:
                    found |= _against_stages(of, kind, mode, moved, verify=verify)
                rows.append(found)
    return rows


def _against_stages(
    of: Servers, kind: str, mode: Compression, moved: engine.Moved, *, verify: bool | str
) -> dict[str, Any]:
    source, destination = configs(of, verify=verify)
    key = "data/000000.bin"
    data = stages.content(kind)
    wire = stages.wire(data, mode)
    costs = {
        "get": stages.get(source, key, SIZE, PART),
        **{name: cost for name, cost in dataclasses.asdict(wire).items() if name != "shrunk"},
        "put": stages.put(destination, "stage/", data, SIZE, PART),
    }
    total = sum(costs.values())
    say(f"    stages {total:.3f} s/GB: " + ", ".join(f"{name} {cost:.3f}" for name, cost in costs.items()))
    say(f"    {moved.cpu_per_gb / total:.2f} of its stages")
    return {
        "stages": {name: round(cost, 4) for name, cost in costs.items()},
        "stages_total": round(total, 3),
        "times_its_stages": round(moved.cpu_per_gb / total, 2),
        "times_the_reference": round(moved.mb_per_second / REFERENCE_MB_PER_SECOND, 1),
    }


# --- beside others ---------------------------------------------------------------------------------------------------


def peer_row(name: str, ran: peers.Ran, total: int) -> dict[str, Any]:
    """One line of the table for somebody else's tool, told at once."""
    say(
        f"  {name:44} {total / 1e6 / ran.seconds:7.0f} MB/s {ran.cpu_seconds / (total / 1e9):6.3f} CPU s/GB"
        f" {'':22} {ran.peak_rss_mb:6.0f} MB"
    )
    return {
        "name": name,
        "mb_per_second": round(total / 1e6 / ran.seconds, 1),
        "cpu_seconds_per_gb": round(ran.cpu_seconds / (total / 1e9), 3),
        "peak_rss_mb": round(ran.peak_rss_mb),
    }


def median(runs: list[peers.Ran]) -> peers.Ran:
    """The one of middling duration."""
    return sorted(runs, key=lambda ran: ran.seconds)[len(runs) // 2]


def between_stores(of: Servers, env: dict[str, str]) -> list[dict[str, Any]]:
    """S3 -> GCS: our paths, rclone and the stock operator."""
    total = COUNT * SIZE
    rows = [row(f"{count} gateway{'s' * (count > 1)}", through(of, count, Compression.NONE)) for count in (1, 2, 3)]
    ran = []
    for _ in range(ROUNDS):
        of.empty(of.gcs, DESTINATION_BUCKET)
        ran.append(peers.run(peers.rclone(peers.source(of), peers.destination(of, "rclone"), CONCURRENCY, PART), env))
        of.check_names("rclone/", COUNT)
    rows.append(peer_row("rclone", median(ran), total))
    of.empty(of.gcs, DESTINATION_BUCKET)
    rows.append(peer_row("stock S3ToGCSOperator", peers.run(peers.stock("stock"), common.environment(of)), total))
    of.check("stock/", COUNT)
    return rows


def with_disk(of: Servers, env: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """S3 -> a directory in memory, and back: one gateway, rclone, s5cmd and aws-cli."""
    total = COUNT * SIZE
    rows: dict[str, list[dict[str, Any]]] = {"S3 -> directory": [], "directory -> S3": []}
    source, _ = configs(of)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch, engine.gateways(1) as (client, dataplane):
        ours = StoreConfig("local", scratch)
        for name, down in (("S3 -> directory", True), ("directory -> S3", False)):
            say(name)
            runs = []
            for _ in range(ROUNDS + 1):
                ends = (Location(source, "data/"), Location(ours, "ours/"))
                if down:
                    shutil.rmtree(f"{scratch}/ours", ignore_errors=True)
                else:
                    ends = (Location(ours, "ours/"), Location(source, "up-ours/"))
                    _remove(of, "up-")
                servers_of = (of.s3, of.gcs)
                runs.append(engine.move(client, dataplane, *ends, servers_of, part_size=PART, concurrency=CONCURRENCY))
            middling = sorted(runs[1:], key=lambda moved: moved.seconds)[ROUNDS // 2]
            rows[name].append(row("1 gateway, verified", middling))
            for tool in ("rclone", "s5cmd", "aws-cli"):
                ran, checked = [], []
                for _ in range(ROUNDS):
                    local = peers.Place("local", scratch, "theirs" if down else "ours")
                    remote = peers.source(of)
                    if down:
                        shutil.rmtree(f"{scratch}/theirs", ignore_errors=True)
                    else:
                        remote = dataclasses.replace(remote, prefix=f"up-{tool}")
                        _remove(of, "up-")
                    pair = (remote, local) if down else (local, remote)
                    ran.append(peers.run(peers.command(tool, *pair, CONCURRENCY, PART), env))
                    if down and tool == "rclone":
                        check = peers.run(peers.rclone_check(*pair, CONCURRENCY, PART), env)
                        checked.append(ran[-1].then(check))
                rows[name].append(peer_row(tool, median(ran), total))
                if checked:
                    rows[name].append(peer_row("rclone, verified", median(checked), total))
            shutil.rmtree(f"{scratch}/theirs", ignore_errors=True)
    return rows


def _remove(of: Servers, prefix: str) -> None:
    for key in of.s3.list(SOURCE_BUCKET):
        if key.startswith(prefix):
            of.s3.delete(SOURCE_BUCKET, key)


def main(*, quick: bool) -> dict[str, Any]:
    """All of it."""
    del quick
    with servers() as of, tempfile.TemporaryDirectory() as scratch:
        env = peers.environment(Path(scratch), CONCURRENCY, PART)
        say(f"S3 -> GCS, {COUNT} x {SIZE // MIB} MiB, incompressible, HTTP")
        fill(of, "random")
        stores = between_stores(of, env)
        disk = with_disk(of, env)
        raw = limits.main(of, configs(of), PART)
    say("Two gateways against the sum of their stages")
    result = {
        "benchmark": "paths",
        "machine": common.machine(),
        "objects": COUNT,
        "object_bytes": SIZE,
        "part_bytes": PART,
        "concurrency": CONCURRENCY,
        "S3 -> GCS": stores,
        **disk,
        "limits": raw,
        "two gateways": matrix(),
    }
    plots.bars(result, common.RESULTS / "paths.svg")
    return result
