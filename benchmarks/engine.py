"""Runs of the engine that a benchmark measures: what moved, how long it took, and what every process of it used."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import psutil
from common import Watch

from skyplane_core.client import ClientConfig, Location, SkyplaneClient
from skyplane_core.dataplane import Dataplane
from skyplane_core.model import Compression, Shrinkage
from skyplane_core.spec import TransferOptions, Verification


class Server(Protocol):
    """A process that a benchmark has started to talk to."""

    @property
    def pid(self) -> int:
        """Its id."""
        ...


@dataclasses.dataclass(frozen=True)
class Moved:
    """One transfer. CPU seconds of all gateway processes and of the servers, the most memory of one gateway."""

    bytes: int
    objects: int
    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float
    wire_bytes: int
    peak_rss_mb: float
    shrinkage: Shrinkage | None = None

    @property
    def mb_per_second(self) -> float:
        """Original bytes."""
        return self.bytes / 1e6 / self.seconds

    @property
    def cpu_per_gb(self) -> float:
        """CPU seconds of the gateways a GB of original bytes."""
        return self.cpu_seconds / (self.bytes / 1e9)


@contextmanager
def gateways(count: int, pool_bytes: int = 512 << 20) -> Iterator[tuple[SkyplaneClient, Dataplane]]:
    """A local dataplane, gone at the end."""
    client = SkyplaneClient(ClientConfig(gateways=count, pool_bytes=pool_bytes))
    with client.dataplane().auto_deprovision() as dataplane:
        dataplane.provision()
        yield client, dataplane


def move(
    client: SkyplaneClient,
    dataplane: Dataplane,
    source: Location,
    destination: Location,
    servers: tuple[Server, ...],
    *,
    compression: Compression = Compression.NONE,
    part_size: int = 0,
    concurrency: int = 32,
    recursive: bool = True,
    verify: Verification = Verification.TRANSFERRED,
) -> Moved:
    """Copy, wait for the end, and count.

    Raises:
        SkyplaneError: it did not end well.
    """
    options = TransferOptions(compression=compression, part_size=part_size, concurrency=concurrency, verify=verify)
    prepared = client.prepare(source, destination, recursive=recursive, options=options)
    roots = {address.gateway_id: address.pid for address in dataplane.reference.gateways}
    before = cpu(servers)
    with Watch(roots) as watch:
        began = time.perf_counter()
        result = dataplane.submit(prepared).wait()
        seconds = time.perf_counter() - began
    result.raise_for_state()
    progress = result.progress
    return Moved(
        bytes=progress.bytes_copied,
        objects=progress.objects_copied,
        seconds=seconds,
        cpu_seconds=watch.cpu_used,
        server_cpu_seconds=cpu(servers) - before,
        wire_bytes=progress.wire_bytes,
        peak_rss_mb=max(watch.peak(name) for name in roots) / 1e6,
        shrinkage=progress.shrinkage,
    )


def cpu(servers: tuple[Server, ...]) -> float:
    """CPU seconds that these servers have used, those in processes of their own."""
    total = 0.0
    for server in servers:
        times = psutil.Process(server.pid).cpu_times()
        total += times.user + times.system
    return total
