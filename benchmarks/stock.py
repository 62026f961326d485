"""The drop-in against the stock ``S3ToGCSOperator``, on the same servers, in the same run.

The clock runs from the entry of ``execute()`` to its return, so it has everything that a task waits for: listing,
starting and stopping gateways, verification. Each operator runs in a fresh process, which has imported it before the
clock starts.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import common
from common import DESTINATION_BUCKET, MIB, SOURCE_BUCKET, Servers, say

LIMIT_SECONDS = 1800


@dataclasses.dataclass(frozen=True)
class Workload:
    """So many objects of one size, over a network with this much latency a request and bandwidth a connection."""

    name: str
    count: int
    size: int
    latency: float = 0.0
    bandwidth: float = 0.0
    rounds: int = 1
    """More than one: so many after one that does not count, the operators taking turns, and the median of each."""
    quick_count: int = 0
    """With --quick the stock operator moves only so many, and its time is scaled up."""


WORKLOADS = (
    Workload("2,000 x 16 KiB, 0 ms", 2000, 16 * 1024, rounds=3, quick_count=500),
    Workload("8 x 256 MiB, 0 ms", 8, 256 * MIB, rounds=5, quick_count=2),
    Workload("2,000 x 16 KiB, 20 ms", 2000, 16 * 1024, latency=0.020, quick_count=100),
    Workload("8 x 256 MiB, 20 ms, 60 MB/s a connection", 8, 256 * MIB, latency=0.020, bandwidth=60e6, quick_count=1),
)


def execute(which: str, prefix: str) -> dict[str, Any]:
    """In the measured process: build the operator, then time ``execute()``."""
    warnings.simplefilter("ignore")
    if which == "stock":
        from airflow.providers.google.cloud.transfers.s3_to_gcs import S3ToGCSOperator as Operator
    else:
        from airflow_provider_skyplane.transfers.s3_to_gcs import SkyplaneS3ToGCSOperator as Operator
    operator = Operator(
        task_id="copy",
        bucket=SOURCE_BUCKET,
        prefix="data/",
        dest_gcs=f"gs://{DESTINATION_BUCKET}/{prefix}",
        replace=True,
        return_gcs_uris=True,
    )
    began = time.perf_counter()
    moved = operator.execute({})
    return {
        "seconds": round(time.perf_counter() - began, 3),
        "objects": len(moved),
        "worker_peak_rss_mb": peak_rss_mb(),
    }


def peak_rss_mb() -> float:
    """The most memory that this process had. Not ru_maxrss, which begins with what the parent had at the fork."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return round(int(peak.split()[1]) * 1024 / 1e6, 1)


def measure(which: str, servers: Servers, count: int, workload: Workload) -> dict[str, Any]:
    """Fill the source, run one operator over it in a process of its own, and check what arrived."""
    servers.network(latency=0.0, bandwidth=0.0)
    servers.empty(servers.gcs, DESTINATION_BUCKET)
    servers.fill(count, workload.size)
    servers.network(latency=workload.latency, bandwidth=workload.bandwidth)
    idle = common.wait_for_quiet()
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--execute", which, "--prefix", f"{which}/"],
        env=common.environment(servers),
        cwd=common.ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    servers.network(latency=0.0, bandwidth=0.0)
    if done.returncode != 0:
        raise RuntimeError(f"{which} failed on {workload.name}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    servers.check(f"{which}/", count)
    if result["objects"] != count:
        raise RuntimeError(f"{which} says that it moved {result['objects']} objects, not {count}")
    result["idle_before"] = idle
    result["extrapolated"] = count != workload.count
    result["measured_objects"] = result.pop("objects")
    if result["extrapolated"]:
        result["measured_seconds"] = result["seconds"]
        result["seconds"] = round(result["seconds"] * workload.count / count, 3)
    total = workload.count * workload.size
    result["objects_per_second"] = round(workload.count / result["seconds"], 1)
    result["mb_per_second"] = round(total / 1e6 / result["seconds"], 1)
    return result


def take_turns(servers: Servers, workload: Workload, *, quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both operators: the median of each one's rounds. Memory that the servers touch for the first time is dear."""
    count = workload.quick_count if quick else workload.count
    runs: dict[str, list[dict[str, Any]]] = {"stock": [], "skyplane": []}
    for number in range(workload.rounds + (workload.rounds > 1)):
        for which, found in runs.items():
            result = measure(which, servers, count if which == "stock" else workload.count, workload)
            if number or workload.rounds == 1:
                found.append(result)
    medians = []
    for which, found in runs.items():
        median = sorted(found, key=lambda result: result["seconds"])[len(found) // 2]
        median["all_seconds"] = [result["seconds"] for result in found]
        show(which, median)
        medians.append(median)
    return medians[0], medians[1]


def show(which: str, result: dict[str, Any]) -> None:
    """One line of the table."""
    note = ""
    if result["extrapolated"]:
        note = f"  (EXTRAPOLATED from {result['measured_objects']} objects in {result['measured_seconds']} s)"
    rates = f"{result['objects_per_second']:9.1f} objects/s {result['mb_per_second']:8.1f} MB/s"
    say(f"  {which:9} {result['seconds']:8.2f} s {rates}{note}")


def main(*, quick: bool) -> dict[str, Any]:
    """All workloads, both operators."""
    rows = []
    with common.servers() as servers:
        for workload in WORKLOADS:
            say(workload.name)
            stock, ours = take_turns(servers, workload, quick=quick)
            ratio = round(stock["seconds"] / ours["seconds"], 2)
            say(f"  ratio     {ratio:8.2f} times as fast")
            rows.append({"workload": dataclasses.asdict(workload), "stock": stock, "skyplane": ours, "ratio": ratio})
    return {"benchmark": "stock", "quick": quick, "machine": common.machine(), "rows": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Internal: one operator in the measured process; see run.py.")
    parser.add_argument("--execute", choices=("stock", "skyplane"), required=True)
    parser.add_argument("--prefix", required=True)
    arguments = parser.parse_args()
    print(json.dumps(execute(arguments.execute, arguments.prefix)))
