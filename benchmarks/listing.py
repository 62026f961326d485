"""A sync in which nothing has changed, of millions of keys a side: S3 listing against GCS listing, key by key.

No object has bytes here: a server gives pages of generated keys (``skyplane_core.testing.listserver``). What it can
give is the limit, measured by a loop that fetches all pages of both sides and looks at nothing. rclone compares fewer,
by size, because the versions that our copies record mean nothing to it, and its better way of listing counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import engine
import peers
import psutil
from common import SAMPLE_SECONDS, Watch, say

from skyplane_core.client import Location
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.spec import Compare, TransferOptions
from skyplane_core.stores.http_data import HttpData, Request
from skyplane_core.testing.listserver import ListServer

COUNT, QUICK_COUNT = 10_000_000, 200_000
RCLONE_COUNT = 1_000_000
SLOW_COUNT, QUICK_SLOW_COUNT = 1_000_000, 100_000
SLOW_PAGE_SECONDS = 0.1
"""What S3 and GCS take for a page of a thousand keys, give or take as much."""
CHECKERS = 16
BUCKET, PREFIX = "listed", "data/"
_NEXT = {
    "s3": re.compile(rb"<NextContinuationToken>([^<]*)<"),
    "gcs": re.compile(rb'"nextPageToken":"([^"]*)"'),
}
_TARGET = {
    "s3": f"/{BUCKET}?list-type=2&prefix={PREFIX}&continuation-token=",
    "gcs": f"/storage/v1/b/{BUCKET}/o?prefix={PREFIX}&pageToken=",
}


@dataclasses.dataclass(frozen=True)
class Listed:
    """So many keys a side in so many seconds. ``peak_rss_mb``: the most memory of each process."""

    keys: int
    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float
    peak_rss_mb: dict[str, float]

    def row(self, name: str) -> dict[str, Any]:
        """One line of the table, told at once."""
        result = {
            "name": name,
            "keys_a_side": self.keys,
            "seconds": round(self.seconds, 2),
            "keys_per_second": round(self.keys / self.seconds),
            "cpu_s_per_million_keys": round(self.cpu_seconds / self.keys * 1e6, 2),
            "server_cpu_s_per_million_keys": round(self.server_cpu_seconds / self.keys * 1e6, 2),
            "peak_rss_mb": {process: round(mb) for process, mb in self.peak_rss_mb.items()},
        }
        say(
            f"  {name:24} {result['keys_per_second']:9} keys/s a side"
            f" {result['cpu_s_per_million_keys']:7.2f} CPU s a million"
            f" {result['server_cpu_s_per_million_keys']:6.2f} in the servers  MB: {result['peak_rss_mb']}"
        )
        return result


@contextlib.contextmanager
def sides(count: int, latency: float = 0.0) -> Iterator[tuple[ListServer, ListServer]]:
    """Both servers."""
    with (
        ListServer("s3", count, BUCKET, latency=latency) as s3,
        ListServer("gcs", count, BUCKET, latency=latency) as gcs,
    ):
        yield s3, gcs


def config(server: ListServer) -> StoreConfig:
    """The bucket on a server."""
    if server.kind == "s3":
        credentials = Credentials(access_key=peers.KEY, secret_key=peers.SECRET)
        return StoreConfig(
            "s3",
            BUCKET,
            endpoint_url=server.endpoint_url,
            region="us-east-1",
            path_style=True,
            credentials=credentials,
        )
    return StoreConfig("gcs", BUCKET, endpoint_url=server.endpoint_url)


def bare(servers: tuple[ListServer, ListServer], count: int) -> Listed:
    """All pages of both sides at once, each by a loop that looks for the next page's name only."""

    def work(server: ListServer) -> None:
        http = HttpData(server.endpoint_url)
        token, pages = b"", 0
        while True:
            answer = http.send(Request("GET", _TARGET[server.kind] + token.decode(), {}), b"")
            if answer.status != 200:
                raise AssertionError(f"{answer.status} from the {server.kind} side")
            pages += 1
            found = _NEXT[server.kind].search(answer.body[:4096])
            if not found:
                break
            token = found[1]
        http.close()
        if pages != -(-count // 1000):
            raise AssertionError(f"{pages} pages from the {server.kind} side")

    before, began, used = engine.cpu(servers), time.perf_counter(), time.process_time()
    threads = [threading.Thread(target=work, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    return Listed(count, seconds, time.process_time() - used, engine.cpu(servers) - before, {})


class Own:
    """Samples the memory of this process, the client, without its children."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Own:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        process = psutil.Process()
        while not self._stop.wait(SAMPLE_SECONDS):
            self.peak_mb = max(self.peak_mb, process.memory_info().rss / 1e6)


def ours(servers: tuple[ListServer, ListServer], count: int, gateways: int) -> Listed:
    """A sync that finds each object at its destination, recorded as a copy of this very version."""
    with engine.gateways(gateways, pool_bytes=128 << 20) as (client, dataplane):
        ends = Location(config(servers[0]), PREFIX), Location(config(servers[1]), PREFIX)
        prepared = client.prepare(*ends, recursive=True, options=TransferOptions(compare=Compare.EXACT))
        roots = {address.gateway_id: address.pid for address in dataplane.reference.gateways}
        names = {}
        for number, pid in enumerate(roots.values()):
            process = psutil.Process(pid)
            for place, member in enumerate((process, *process.children(recursive=True))):
                role = {"skyplane-gw": "control"}.get(member.name(), member.name().removeprefix("skyplane-"))
                names[list(roots)[number] + f"/{place}"] = f"gateway {number} {role}"
        before, used = engine.cpu(servers), time.process_time()
        with Watch(roots) as watch, Own() as own:
            began = time.perf_counter()
            result = dataplane.submit(prepared).wait()
            seconds = time.perf_counter() - began
        used = time.process_time() - used
        result.raise_for_state()
        skipped = result.progress.objects_skipped
        if (skipped, result.progress.objects_copied) != (count, 0):
            raise AssertionError(f"{skipped} objects skipped of {count}: {result.progress}")
    peak = {names[name]: watch.peak(name) / 1e6 for name in watch.samples if name in names}
    return Listed(count, seconds, watch.cpu_used + used, engine.cpu(servers) - before, {"client": own.peak_mb, **peak})


def rclone(servers: tuple[ListServer, ListServer], count: int, *, flat: bool) -> Listed:
    """The same question of rclone. ``flat``: it lists all keys at once (``--fast-list``), not folder by folder."""
    source = peers.Place("s3", BUCKET, "data", servers[0].endpoint_url)
    destination = peers.Place("gcs", BUCKET, "data", servers[1].endpoint_url)
    command = peers.rclone_sync(source, destination, CHECKERS)
    if flat:
        command.append("--fast-list")
    with tempfile.TemporaryDirectory() as scratch:
        env = peers.environment(Path(scratch), CHECKERS, 8 << 20)
        before = engine.cpu(servers)
        ran = peers.run(command, env)
    used = engine.cpu(servers) - before
    return Listed(count, ran.seconds, ran.cpu_seconds, used, {"rclone": ran.peak_rss_mb})


def compared(count: int, theirs_count: int, latency: float) -> list[dict[str, Any]]:
    """Everybody on the same keys, but rclone on fewer where there are many."""
    with sides(count, latency) as servers:
        rows = [] if latency else [bare(servers, count).row("bare loop over pages")]
        rows.append(ours(servers, count, 1).row("1 gateway"))
        rows.append(ours(servers, count, 2).row("2 gateways"))
    with sides(theirs_count, latency) as servers:
        rows.append(rclone(servers, theirs_count, flat=False).row("rclone, folder by folder"))
        rows.append(rclone(servers, theirs_count, flat=True).row("rclone --fast-list"))
    best = max(row["keys_per_second"] for row in rows[-2:])
    for row in rows[:-2]:
        if "gateway" in row["name"]:
            row["times_as_fast_as_rclone"] = round(row["keys_per_second"] / best, 2)
            if not latency:
                row["times_slower_than_the_bare_loop"] = round(rows[0]["keys_per_second"] / row["keys_per_second"], 2)
            say(f"  {row['name']}: {row['times_as_fast_as_rclone']} times as fast as rclone's better run")
    return rows


def main(*, quick: bool) -> dict[str, Any]:
    """As many keys as can be, then fewer with pages that take as long as those of a cloud."""
    count = int(os.environ.get("LISTING_KEYS", QUICK_COUNT if quick else COUNT))
    slow = QUICK_SLOW_COUNT if quick else min(count, SLOW_COUNT)
    machine = common.machine()
    say(f"{count} keys a side, no added latency")
    fast = compared(count, min(count, RCLONE_COUNT), 0.0)
    say(f"{slow} keys a side, {SLOW_PAGE_SECONDS * 1000:.0f} ms a page")
    slow_rows = compared(slow, slow, SLOW_PAGE_SECONDS)
    return {
        "benchmark": "listing",
        "quick": quick,
        "machine": machine,
        "no added latency": fast,
        f"{SLOW_PAGE_SECONDS * 1000:.0f} ms a page": slow_rows,
    }
