"""What the benchmarks share: servers on loopback, data, the machine's description, and /proc."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import random
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from skyplane_core.testing.objectserver import ObjectServer

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "benchmarks"
SOURCE_BUCKET, DESTINATION_BUCKET = "bench-source", "bench-destination"
MIB = 1024 * 1024
SAMPLE_SECONDS = 0.1
QUIET_SHARE = 0.95


def say(text: str) -> None:
    """One line for whoever waits, at once."""
    print(text, flush=True)


def machine() -> dict[str, Any]:
    """Where the figures come from, as far as it matters for them."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    names = (
        "airflow-provider-skyplane",
        "apache-airflow",
        "apache-airflow-providers-google",
        "cryptography",
        "cramjam",
    )
    versions = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": versions,
    }


def wait_for_quiet(limit_seconds: float = 60.0) -> float:
    """Wait until this machine does next to nothing else; returns the idle share of the last second.

    A limit, since a machine that is never quiet gives figures, too; the share says how good they are.
    """
    deadline = time.monotonic() + limit_seconds
    while True:
        idle = 1 - psutil.cpu_percent(interval=1.0) / 100
        if idle >= QUIET_SHARE or time.monotonic() >= deadline:
            return round(idle, 3)


def save(name: str, result: dict[str, Any]) -> Path:
    """Write a result to docs/benchmarks/."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    say(f"  -> {path.relative_to(ROOT)}")
    return path


@dataclasses.dataclass(frozen=True)
class Servers:
    """An S3 and a GCS server, each a process of its own."""

    s3: ObjectServer
    gcs: ObjectServer

    def network(self, *, latency: float, bandwidth: float) -> None:
        """From now on: seconds added to every request, and bytes per second of every connection."""
        for server in (self.s3, self.gcs):
            server.set_network(latency=latency, bandwidth=bandwidth)

    def fill(self, count: int, size: int) -> None:
        """Replace what is in the source bucket by ``count`` incompressible objects of ``size`` bytes."""
        self.empty(self.s3, SOURCE_BUCKET)
        generator = random.Random(size)
        body = b"".join(generator.randbytes(min(MIB, size)) for _ in range(max(1, size // MIB)))
        for number in range(count):
            # One body for all, but for its first bytes: nothing here looks at more than one object at a time.
            self.s3.put(SOURCE_BUCKET, f"data/{number:06d}.bin", number.to_bytes(8, "big") + body[8:])

    @staticmethod
    def empty(server: ObjectServer, bucket: str) -> None:
        """Delete all objects of a bucket."""
        for key in server.list(bucket):
            server.delete(bucket, key)

    def check_names(self, prefix: str, count: int) -> None:
        """So many objects are below ``prefix`` at the destination, whatever is in them."""
        found = [key for key in self.gcs.list(DESTINATION_BUCKET) if key.startswith(prefix)]
        if len(found) != count:
            raise AssertionError(f"{len(found)} objects below {prefix}, expected {count}")

    def check(self, prefix: str, count: int) -> None:
        """Each of ``count`` source objects is at the destination with the checksum that the source's bytes have.

        Raises:
            AssertionError: naming the first difference. A figure for bytes that did not arrive is none.
        """
        keys = self.s3.list(SOURCE_BUCKET)
        if len(keys) != count:
            raise AssertionError(f"{len(keys)} objects at the source, expected {count}")
        for key in keys:
            source, copy = self.s3.head(SOURCE_BUCKET, key), self.gcs.head(DESTINATION_BUCKET, prefix + key)
            if (source["size"], source["crc32c"]) != (copy["size"], copy["crc32c"]):
                raise AssertionError(f"{key} differs at the destination")


@contextlib.contextmanager
def servers() -> Iterator[Servers]:
    """Both servers, gone at the end with all that they hold."""
    with (
        ObjectServer("s3", buckets=[SOURCE_BUCKET], in_process=False) as s3,
        ObjectServer("gcs", buckets=[DESTINATION_BUCKET], in_process=False) as gcs,
    ):
        yield Servers(s3, gcs)


def environment(servers: Servers) -> dict[str, str]:
    """Connections to these servers for Airflow's hooks, and nobody's cloud account."""
    aws = {
        "conn_type": "aws",
        "login": "BENCHACCESSKEY",
        "password": "bench-secret-key",
        "extra": {
            "region_name": "us-east-1",
            "endpoint_url": servers.s3.endpoint_url,
            "config_kwargs": {"s3": {"addressing_style": "path"}},
        },
    }
    google = {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True, "project": "bench"}}
    foreign = ("AIRFLOW", "AWS_", "GOOGLE_", "CLOUDSDK_", "SKYPLANE_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return clean | {
        "NO_PROXY": "127.0.0.1,localhost",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_GCE_CHECK": "true",
        "STORAGE_EMULATOR_HOST": servers.gcs.endpoint_url,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps(google),
    }


class Watch:
    """Samples CPU time and resident memory of processes and their children until it is stopped.

    Memory that processes of one gateway share is counted in each of them, so a sum of theirs is an upper bound.
    """

    def __init__(self, roots: dict[str, int]) -> None:
        self.samples: dict[str, list[tuple[float, int]]] = {}
        self.cpu_seconds: dict[str, float] = {}
        self._first: dict[str, float] = {}
        self._roots = roots
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._sample()
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    @property
    def cpu_used(self) -> float:
        """CPU seconds of all processes since the watch began."""
        return sum(now - self._first[name] for name, now in self.cpu_seconds.items())

    def peak(self, name: str) -> int:
        """The most resident memory that was seen of one process, or, for the name of a root, of all its processes."""
        return max(rss for _at, rss in self.samples.get(name) or self.totals(name))

    def totals(self, root: str) -> list[tuple[float, int]]:
        """Resident memory of all processes of one root, at each sample."""
        sums: dict[float, int] = {}
        for name, samples in self.samples.items():
            if name.startswith(f"{root}/"):
                for at, rss in samples:
                    sums[at] = sums.get(at, 0) + rss
        return sorted(sums.items())

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        at = time.monotonic() - self._began
        for name, pid in self._roots.items():
            with contextlib.suppress(psutil.Error):
                root = psutil.Process(pid)
                for number, process in enumerate((root, *root.children(recursive=True))):
                    self._take(f"{name}/{number}", process, at)

    def _take(self, name: str, process: psutil.Process, at: float) -> None:
        with contextlib.suppress(psutil.Error), process.oneshot():
            times = process.cpu_times()
            used = times.user + times.system
            # A process that starts later began with nothing.
            self._first.setdefault(name, used if at < SAMPLE_SECONDS else 0.0)
            self.cpu_seconds[name] = used
            self.samples.setdefault(name, []).append((round(at, 2), process.memory_info().rss))
