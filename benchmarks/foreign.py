"""Large objects between servers that nobody here wrote, beside rclone, s5cmd and aws-cli, in one run.

Two instances of OpenStack Swift with its S3 API, which checks signatures and MD5 sums, each with its own endpoint, so
that nobody can ask one of them to copy on the server's side. Swift is slow, and that is what this shows: what each tool
makes of a server that is the limit. Every tool runs once to warm up and then in turns with the others, and what it has
written is read again and compared. Needs ``scripts/setup --servers --peers``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import common
import engine
import peers
import plots
import psutil
import stages
from awscrt.checksums import crc32c
from common import MIB, say

from skyplane_core.client import Location, SkyplaneClient
from skyplane_core.dataplane import Dataplane
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.spec import Verification
from tests.servers.swift import ACCESS_KEY, SECRET_KEY, swift_s3

COUNT, SIZE, PART = 2, 256 * MIB, 16 * MIB
"""As large as in the benchmark of all paths: every tool cuts them into parts, rclone does not below 200 MiB."""
TOTAL = COUNT * SIZE
CONCURRENCY = 16
"""Each of Swift's servers is one process that serves requests in turns; more at once only wait."""
ROUNDS = 3
BUCKET = "bench"


@dataclasses.dataclass(frozen=True)
class Swift:
    """One instance: its S3 endpoint, and the processes of it."""

    endpoint_url: str
    processes: tuple[psutil.Process, ...]
    client: Any

    @property
    def config(self) -> StoreConfig:
        """Its bucket as our stores open it."""
        return StoreConfig(
            "s3",
            BUCKET,
            endpoint_url=self.endpoint_url,
            region="us-east-1",
            path_style=True,
            credentials=Credentials(access_key=ACCESS_KEY, secret_key=SECRET_KEY),
        )

    def place(self, prefix: str) -> peers.Place:
        """A prefix of its bucket as the other tools are told of it."""
        return peers.Place("s3", BUCKET, prefix, self.endpoint_url, ACCESS_KEY, SECRET_KEY, md5_etags=True)

    def keys(self, prefix: str) -> list[str]:
        """All keys below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def remove(self, prefix: str) -> None:
        """Delete all objects below a prefix."""
        for key in self.keys(prefix):
            self.client.delete_object(Bucket=BUCKET, Key=key)

    def sums(self, prefix: str) -> dict[str, int]:
        """CRC32C of all objects below a prefix, by the last segment of their keys; our state is none of them."""
        keys = [key for key in self.keys(prefix) if "/.skyplane/" not in key]
        return {key.rpartition("/")[2]: self._sum(key) for key in keys}

    def _sum(self, key: str) -> int:
        found = 0
        for piece in self.client.get_object(Bucket=BUCKET, Key=key)["Body"].iter_chunks(MIB):
            found = crc32c(piece, found)
        return found


@contextlib.contextmanager
def swift(directory: Path) -> Iterator[Swift]:
    """Run one instance with an empty bucket."""
    import boto3
    from botocore.config import Config

    before = set(psutil.Process().children())
    directory.mkdir()
    with swift_s3(directory) as url:
        client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}),
        )
        client.create_bucket(Bucket=BUCKET)
        yield Swift(url, tuple(set(psutil.Process().children()) - before), client)
        client.close()


@dataclasses.dataclass(frozen=True)
class Run:
    """What one copy took."""

    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float
    peak_rss_mb: float


@dataclasses.dataclass(frozen=True)
class Contender:
    """Somebody who copies everything: ``clear`` takes away what the last run left, ``sums`` reads what this one did."""

    name: str
    copy: Callable[[], Run]
    clear: Callable[[], None]
    sums: Callable[[], dict[str, int]]


@dataclasses.dataclass(frozen=True)
class Scene:
    """What the contenders work with. ``scratch`` is a directory in memory, with the objects as files in ``files``."""

    source: Swift
    destination: Swift
    scratch: Path
    env: dict[str, str]

    @property
    def servers(self) -> tuple[psutil.Process, ...]:
        """All server processes."""
        return self.source.processes + self.destination.processes

    def theirs(self, tool: str, src: peers.Place, dst: peers.Place) -> Callable[[], Run]:
        """A run of another tool."""

        def copy() -> Run:
            before = engine.cpu(self.servers)
            ran = peers.run(peers.command(tool, src, dst, CONCURRENCY, PART), self.env)
            return Run(ran.seconds, ran.cpu_seconds, engine.cpu(self.servers) - before, ran.peak_rss_mb)

        return copy

    def ours(
        self,
        gateways: tuple[SkyplaneClient, Dataplane],
        src: Location,
        dst: Location,
        verify: Verification = Verification.TRANSFERRED,
    ) -> Callable[[], Run]:
        """A run of our gateways."""

        def copy() -> Run:
            moved = engine.move(
                *gateways, src, dst, self.servers, part_size=PART, concurrency=CONCURRENCY, verify=verify
            )
            return Run(moved.seconds, moved.cpu_seconds, moved.server_cpu_seconds, moved.peak_rss_mb)

        return copy

    def to_swift(self, name: str, at: Swift, prefix: str, copy: Callable[[], Run]) -> Contender:
        """Somebody who writes below ``prefix`` of an instance."""
        return Contender(name, copy, lambda: at.remove(f"{prefix}/"), lambda: at.sums(f"{prefix}/"))

    def to_directory(self, name: str, prefix: str, copy: Callable[[], Run]) -> Contender:
        """Somebody who writes below ``prefix`` of the scratch directory."""
        root = self.scratch / prefix
        return Contender(name, copy, lambda: shutil.rmtree(root, ignore_errors=True), lambda: file_sums(root))


def file_sums(root: Path) -> dict[str, int]:
    """CRC32C of all files below a directory, by name; our state is none of them."""
    files = [path for path in root.rglob("*") if path.is_file() and ".skyplane" not in path.parts]
    return {path.name: crc32c(path.read_bytes()) for path in files}


def compare(title: str, contenders: list[Contender], expected: dict[str, int]) -> list[dict[str, Any]]:
    """All contenders in turns, the middling run of each, and ours against each of theirs.

    Raises:
        AssertionError: naming who has left other bytes than the source's.
    """
    say(f"{title}, {COUNT} x {SIZE // MIB} MiB")
    runs: dict[str, list[Run]] = {each.name: [] for each in contenders}
    for number in range(ROUNDS + 1):
        for each in contenders:
            each.clear()
            runs[each.name].append(each.copy())
            if number == ROUNDS and each.sums() != expected:
                raise AssertionError(f"{each.name} left other bytes than those of the source")
            if number == ROUNDS:
                each.clear()
    rows = [_row(name, all_[1:]) for name, all_ in runs.items()]
    others = [row for row in rows if "gateway" not in row["name"]]
    for row in rows:
        if row not in others:
            row["times"] = {other["name"]: round(row["mb_per_second"] / other["mb_per_second"], 2) for other in others}
            ratios = ", ".join(f"{ratio:.2f} x {name}" for name, ratio in row["times"].items())
            say(f"  {row['name']}: {ratios}")
    return rows


def _row(name: str, runs: list[Run]) -> dict[str, Any]:
    gb = TOTAL / 1e9
    run = sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]
    row = {
        "name": name,
        "mb_per_second": round(TOTAL / 1e6 / run.seconds, 1),
        "all_mb_per_second": [round(TOTAL / 1e6 / each.seconds, 1) for each in runs],
        "cpu_seconds_per_gb": round(run.cpu_seconds / gb, 3),
        "server_cpu_seconds_per_gb": round(run.server_cpu_seconds / gb, 3),
        "server_share_of_the_cpu": round(run.server_cpu_seconds / run.seconds / (os.cpu_count() or 1), 2),
        "peak_rss_mb": round(run.peak_rss_mb),
    }
    say(
        f"  {name:36} {row['mb_per_second']:6.0f} MB/s {row['cpu_seconds_per_gb']:6.2f} CPU s/GB"
        f" {row['server_cpu_seconds_per_gb']:6.2f} in the servers ({row['server_share_of_the_cpu']:.0%} of the CPU)"
        f" {row['peak_rss_mb']:5} MB"
    )
    return row


def fill(source: Swift, files: Path) -> dict[str, int]:
    """The objects, at the source and as files; returns their checksums by name."""
    files.mkdir()
    body = stages.content("random", SIZE)
    for number in range(COUNT):
        name, content = f"{number:06d}.bin", number.to_bytes(8, "big") + body[8:]
        (files / name).write_bytes(content)
        source.client.put_object(Bucket=BUCKET, Key=f"data/{name}", Body=content)
    return file_sums(files)


def main(*, quick: bool) -> dict[str, Any]:
    """All of it; the load of the machine is in the result."""
    del quick
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        scene = Scene(
            stack.enter_context(swift(scratch / "swift-a")),
            stack.enter_context(swift(scratch / "swift-b")),
            scratch,
            peers.environment(scratch, CONCURRENCY, PART, key=ACCESS_KEY, secret=SECRET_KEY),
        )
        expected = fill(scene.source, scratch / "files")
        one, two = (stack.enter_context(engine.gateways(count)) for count in (1, 2))
        result: dict[str, Any] = {
            "benchmark": "foreign",
            "machine": common.machine(),
            "servers": "OpenStack Swift with s3api, two instances",
            "objects": COUNT,
            "object_bytes": SIZE,
            "part_bytes": PART,
            "concurrency": CONCURRENCY,
        }
        for title, contenders in tables(scene, one, two).items():
            result[title] = compare(title, contenders, expected)
    plots.bars(result, common.RESULTS / "foreign.svg")
    return result


def tables(
    scene: Scene, one: tuple[SkyplaneClient, Dataplane], two: tuple[SkyplaneClient, Dataplane]
) -> dict[str, list[Contender]]:
    """Who competes in what. What is not read back is compared with what the others verify: sums of their own."""
    a, b = scene.source, scene.destination
    data, disk = Location(a.config, "data/"), StoreConfig("local", str(scene.scratch))
    place, files = a.place("data"), peers.Place("local", str(scene.scratch), "files")
    quickly = Verification.NONE

    def up(prefix: str) -> Location:
        return Location(b.config, f"{prefix}/")

    between = [
        scene.to_swift("1 gateway", b, "one", scene.ours(one, data, up("one"))),
        scene.to_swift("1 gateway, not read back", b, "one-quick", scene.ours(one, data, up("one-quick"), quickly)),
        scene.to_swift("2 gateways", b, "two", scene.ours(two, data, up("two"))),
        scene.to_swift("2 gateways, not read back", b, "two-quick", scene.ours(two, data, up("two-quick"), quickly)),
        scene.to_swift("rclone", b, "rclone", scene.theirs("rclone", place, b.place("rclone"))),
    ]
    down = [scene.to_directory("1 gateway", "ours", scene.ours(one, data, Location(disk, "ours/")))]
    local = Location(disk, "files/")
    upward = [
        scene.to_swift("1 gateway", b, "up", scene.ours(one, local, up("up"))),
        scene.to_swift("1 gateway, not read back", b, "up-quick", scene.ours(one, local, up("up-quick"), quickly)),
    ]
    for tool in ("rclone", "s5cmd", "aws-cli"):
        theirs = peers.Place("local", str(scene.scratch), tool)
        down.append(scene.to_directory(tool, tool, scene.theirs(tool, place, theirs)))
        upward.append(scene.to_swift(tool, b, f"up-{tool}", scene.theirs(tool, files, b.place(f"up-{tool}"))))
    return {"S3 -> S3": between, "S3 -> directory": down, "directory -> S3": upward}
