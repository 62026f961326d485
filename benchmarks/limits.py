"""What nothing can beat here: the servers, the sockets, and each stage alone."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import stages
from common import SOURCE_BUCKET, Servers, say

from skyplane_core.model import Compression, StoreConfig

SECONDS = 3


def main(of: Servers, ends: tuple[StoreConfig, StoreConfig], part_bytes: int) -> dict[str, Any]:
    """Measure all of them, one after the other."""
    say("Limits")
    key = "data/000000.bin"
    head = of.s3.head(SOURCE_BUCKET, key)
    data = stages.content("random")
    size = min(head["size"], 256 * stages.MIB)
    found: dict[str, Any] = {}
    for name, work in (
        ("GET from the S3 server", lambda: stages.get(ends[0], key, size, part_bytes)),
        ("PUT to the GCS server", lambda: stages.put(ends[1], "limit/", data, size, part_bytes)),
    ):
        began = time.perf_counter()
        cost = work()
        # Three rounds, of which the last has warm servers; the rate is that of all three, starts included.
        rate = stages.ROUNDS * size / 1e6 / (time.perf_counter() - began)
        found[name] = {"mb_per_second": round(rate, 1), "client_cpu_seconds_per_gb": round(cost, 3)}
        say(f"  {name:44} {rate:7.0f} MB/s {cost:6.3f} CPU s/GB")
    for kind, mode in (("random", Compression.NONE), ("text", Compression.LZ4)):
        costs = dataclasses.asdict(stages.wire(stages.content(kind), mode))
        found[f"stages, {kind}"] = {name: round(cost, 4) for name, cost in costs.items()}
        say(f"  {kind}: " + ", ".join(f"{name} {cost:.3f}" for name, cost in costs.items()))
    for connections in (1, 4, 16):
        rate = iperf3(connections)
        found[f"iperf3, {connections} connections"] = {"mb_per_second": round(rate, 1)}
        say(f"  iperf3, {connections:2} connections {rate:29.0f} MB/s")
    return found


def iperf3(connections: int) -> float:
    """MB/s over loopback, 1 MiB writes, cubic.

    Raises:
        RuntimeError: it is not installed, or fails.
    """
    program = shutil.which("iperf3")
    if program is None:
        raise RuntimeError("iperf3 is not installed; scripts/setup --peers installs it")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    server = subprocess.Popen(
        [program, "--server", "--one-off", "--bind", "127.0.0.1", "--port", port], stdout=subprocess.DEVNULL
    )
    try:
        _wait_for(int(port))
        arguments = ["--client", "127.0.0.1", "--port", port, "--parallel", str(connections), "--time", str(SECONDS)]
        done = subprocess.run(
            [program, *arguments, "--length", "1M", "--congestion", "cubic", "--json"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"iperf3 failed: {done.stdout[-500:]} {done.stderr[-500:]}")
        return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 8e6
    finally:
        server.kill()
        server.wait()


def _wait_for(port: int) -> None:
    """Until somebody listens, seen without connecting: the server serves one client only."""
    deadline = time.monotonic() + 10
    needle = f":{port:04X} 00000000:0000 0A"
    while time.monotonic() < deadline:
        if needle in Path("/proc/net/tcp").read_text(encoding="ascii"):
            return
        time.sleep(0.02)
    raise RuntimeError("iperf3 does not listen")
