"""One large incompressible object through two gateways: speed, CPU seconds per GB, and memory against its limit."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import matplotlib as mpl
from common import DESTINATION_BUCKET, MIB, SOURCE_BUCKET, Servers, Watch, say

from skyplane_core.client import ClientConfig, Location, SkyplaneClient
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.spec import TransferOptions

PART_SIZE = 64 * MIB
POOL_BYTES = 512 * MIB
BASE_BYTES = 150_000_000
"""What a gateway may use besides its pool."""
KEY = "large.bin"


def fill(servers: Servers, size: int) -> None:
    """Put one object of random bytes into the source bucket."""
    directory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        for _ in range(size // PART_SIZE):
            file.write(os.urandom(PART_SIZE))
        file.flush()
        servers.s3.put(SOURCE_BUCKET, KEY, Path(file.name))


def ends(servers: Servers) -> tuple[Location, Location]:
    """The object at the source, and where it goes."""
    source = StoreConfig(
        "s3",
        SOURCE_BUCKET,
        endpoint_url=servers.s3.endpoint_url,
        region="us-east-1",
        path_style=True,
        credentials=Credentials(access_key="BENCHACCESSKEY", secret_key="bench-secret-key"),
    )
    destination = StoreConfig("gcs", DESTINATION_BUCKET, endpoint_url=servers.gcs.endpoint_url, project="bench")
    return Location(source, KEY), Location(destination, KEY)


def plot(watch: Watch, gateways: list[str], path: Path) -> None:
    """Resident memory of each process and each gateway over time, and the limit of a gateway."""
    mpl.use("Agg")
    # The same figures give the same file.
    mpl.rcParams["svg.hashsalt"] = "two-gateways"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4))
    for name, samples in sorted(watch.samples.items()):
        axes.plot([at for at, _rss in samples], [rss / 1e6 for _at, rss in samples], linewidth=0.8, label=name)
    for name in gateways:
        totals = watch.totals(name)
        axes.plot([at for at, _rss in totals], [rss / 1e6 for _at, rss in totals], linewidth=2, label=f"{name} in all")
    limit = (POOL_BYTES + BASE_BYTES) / 1e6
    axes.axhline(limit, color="black", linestyle="--", label=f"pool + {BASE_BYTES // 10**6} MB")
    axes.set(xlabel="seconds", ylabel="resident memory (MB)", ylim=(0, limit * 1.15), title="Memory of two gateways")
    axes.legend(loc="lower right", fontsize="small")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main(*, quick: bool) -> dict[str, Any]:
    """Move the object once to warm up (a quarter of it is enough), then once on the clock."""
    size = (1 if quick else 4) * 1024 * MIB
    say(f"{size / 1e9:.1f} GB, incompressible, in parts of {PART_SIZE // MIB} MiB, through two gateways")
    client = SkyplaneClient(ClientConfig(gateways=2, pool_bytes=POOL_BYTES))
    options = TransferOptions(part_size=PART_SIZE)
    with common.servers() as servers, client.dataplane().auto_deprovision() as dataplane:
        dataplane.provision()
        # The first writes into memory that this machine has never touched cost several times the rest.
        fill(servers, size // 4)
        source, destination = ends(servers)
        dataplane.submit(client.prepare(source, destination, options=options)).wait().raise_for_state()
        fill(servers, size)
        roots = {address.gateway_id: address.pid for address in dataplane.reference.gateways}
        with Watch(roots) as watch:
            began = time.perf_counter()
            result = dataplane.submit(client.prepare(source, destination, options=options)).wait()
            seconds = time.perf_counter() - began
        result.raise_for_state()
        copy, original = servers.gcs.head(DESTINATION_BUCKET, KEY), servers.s3.head(SOURCE_BUCKET, KEY)
        if (copy["size"], copy["crc32c"]) != (size, original["crc32c"]):
            raise AssertionError("the copy differs from its source")
    picture = common.RESULTS / f"two-gateways-memory{'-quick' if quick else ''}.svg"
    plot(watch, sorted(roots), picture)
    peaks = {name: round(watch.peak(name) / 1e6, 1) for name in sorted({*watch.samples, *roots})}
    limit = round((POOL_BYTES + BASE_BYTES) / 1e6, 1)
    measured = {
        "bytes": size,
        "seconds": round(seconds, 3),
        "mb_per_second": round(size / 1e6 / seconds, 1),
        "gateway_cpu_seconds_per_gb": round(watch.cpu_used / (size / 1e9), 3),
        "wire_bytes": result.progress.wire_bytes,
        "peak_rss_mb": peaks,
        "limit_mb": limit,
        "within_limit": max(peaks.values()) <= limit,
    }
    say(f"  {measured['mb_per_second']} MB/s, {measured['gateway_cpu_seconds_per_gb']} CPU s per GB in the gateways")
    say(f"  most memory of one gateway: {max(peaks.values())} MB of {limit} MB allowed")
    say(f"  -> {picture.relative_to(common.ROOT)}")
    return {"benchmark": "two-gateways", "quick": quick, "machine": common.machine(), **measured}
