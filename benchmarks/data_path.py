"""CPU seconds a GB of the data path: each stage alone, then two data processes over loopback, against the stages' sum.

    python benchmarks/data_path.py [--mib 2048] [--part-mib 8] [--data random|text] [--connections 4] [--mode auto]

The source is a file in memory, the destination drops what it gets, so what is measured is the gateways' own work. CPU
seconds are user and system time of the processes; they survive a noisy neighbour, GB/s do not.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import stages

from gateway import data
from gateway.counters import Counters
from gateway.ipc import Channel
from gateway.messages import Execute, Executed, FromData, OpenTransfer, Peer, SetPeers, Stop
from gateway.wire import MAX_RAW
from skyplane_core.model import (
    Compression,
    GatewayTransfer,
    Lease,
    ObjectAttributes,
    PartLease,
    PartTarget,
    Precondition,
    StoreConfig,
    Stored,
    StoredPart,
    TransferKeys,
)
from skyplane_core.provision.bootstrap import Bootstrap
from skyplane_core.stores import registry
from skyplane_core.stores.base import LANDING, Landed, ReadResult

MIB = 1024 * 1024
SECRET = bytes(range(32))
PAGE = 4096
SOURCE_MIB = 64
"""The source repeats after so much, which is twice this machine's L3 cache."""


class MemoryPath:
    """Reads a file in memory at any offset, and drops what is written."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read_into(
        self,
        key: str,  # noqa: ARG002 - the protocol's
        version: str,  # noqa: ARG002 - the protocol's
        offset: int,
        buffer: memoryview,
        *,
        whole: bool = False,  # noqa: ARG002 - the protocol's
        landed: Landed | None = None,
    ) -> ReadResult:
        """As the protocol has it."""
        # Whole pages: an unaligned copy out of the page cache costs five times an aligned one.
        start = offset % (SOURCE_MIB * MIB) // PAGE * PAGE
        start = min(start, (SOURCE_MIB * MIB - len(buffer)) // PAGE * PAGE)
        for done in range(0, len(buffer), LANDING):
            piece = buffer[done : done + LANDING]
            if os.preadv(self._descriptor, [piece], start + done) != len(piece):
                raise RuntimeError("a short read")
            if landed:
                landed(done + len(piece))
        return ReadResult(ObjectAttributes())

    def put_object(
        self,
        key: str,  # noqa: ARG002 - the protocol's
        data: memoryview,
        *,
        crc32c: int,
        attributes: ObjectAttributes,  # noqa: ARG002 - the protocol's
        precondition: Precondition,  # noqa: ARG002 - the protocol's
    ) -> Stored:
        """As the protocol has it."""
        return Stored("1", len(data), crc32c)

    def put_part(
        self,
        key: str,  # noqa: ARG002 - the protocol's
        upload_id: str,  # noqa: ARG002 - the protocol's
        number: int,
        offset: int,  # noqa: ARG002 - the protocol's
        data: memoryview,
        *,
        crc32c: int,
    ) -> StoredPart:
        """As the protocol has it."""
        return StoredPart(number, "1", len(data), crc32c)

    def close(self) -> None:
        """Nothing is held."""


class MemoryStore:
    """As much of a store as a data process needs."""

    def __init__(self, config: StoreConfig) -> None:
        self._descriptor = int(config.bucket)

    def data(self) -> MemoryPath:
        """As the protocol has it."""
        return MemoryPath(self._descriptor)

    def close(self) -> None:
        """Nothing is held."""


def install_memory_store() -> None:
    """Make kind ``memory`` known to the registry of this process and of those forked from it."""
    module = ModuleType("memory_store")
    module.__dict__["open_store"] = MemoryStore
    sys.modules["memory_store"] = module
    registry._MODULES["memory"] = "memory_store"  # noqa: SLF001 - a benchmark's own kind


class Content(NamedTuple):
    """What is moved."""

    descriptor: int
    data: bytes


def content(kind: str) -> Content:
    data = stages.content(kind, SOURCE_MIB * MIB)
    descriptor = os.memfd_create("source")
    os.pwrite(descriptor, data, 0)
    return Content(descriptor, data)


def stage_costs(source: Content, mode: Compression) -> dict[str, dict[str, float]]:
    """CPU seconds a GB of original data of each stage, by process."""
    wire = stages.wire(source.data, mode)
    landing = memoryview(bytearray(MAX_RAW))
    read = stages.per_gb(
        lambda frame: os.preadv(source.descriptor, [landing[: len(frame)]], 0), memoryview(source.data)
    )
    reader = {"read (preadv)": read, "crc32c": wire.crc32c, "probe and compress": wire.compress}
    writer = {"decrypt": wire.decrypt, "crc32c (hot)": wire.crc32c_hot, "decompress": wire.decompress}
    return {
        "reader": {**reader, "encrypt": wire.encrypt, "send": wire.send},
        "writer": {**writer, "receive": wire.receive},
    }


# --- two processes --------------------------------------------------------------------------------------------------


def fork(target: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            target()
            status = 0
        except BaseException:  # noqa: BLE001 - the boundary of a process
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def cpu_of(pid: int) -> float:
    """Wait for a child; its user and system seconds."""
    _pid, status, used = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"a process ended with status {status}")
    return used.ru_utime + used.ru_stime


def cpu_now(pid: int) -> float:
    """User and system seconds of a running process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Process(NamedTuple):
    """A data process and the agent's end of its channel."""

    pid: int
    channel: Channel[FromData]
    port: int


def start(name: str, pool_bytes: int) -> Process:
    wire = socket.create_server(("127.0.0.1", 0))
    mine, theirs = socket.socketpair()
    bootstrap = Bootstrap("dp", name, "", "", "", SECRET, pool_bytes=pool_bytes)

    def run() -> None:
        mine.close()
        data.run(bootstrap, theirs, wire, Counters())

    pid = fork(run)
    theirs.close()
    port = int(wire.getsockname()[1])
    wire.close()
    return Process(pid, Channel(mine, FromData), port)


def move(reader: Process, count: int, size: int, parts: int, first: int) -> int:
    """Execute ``count`` leases of ``parts`` parts of ``size`` bytes; returns their wire bytes. 64 are out at once."""
    out = wire_bytes = 0
    for number in range(first, first + count):
        leased = tuple(
            PartLease(number * parts + n, 1, "key", "v", (number * parts + n) * size, size, (PartTarget(0, "key"),))
            for n in range(parts)
        )
        reader.channel.send(Execute(Lease(number, "t", 1, ("writer",), leased)))
        out += 1
        if out == 64:
            wire_bytes += result(reader)
            out -= 1
    return wire_bytes + sum(result(reader) for _ in range(out))


def result(reader: Process) -> int:
    message = reader.channel.receive()
    if not isinstance(message, Executed) or message.result.failures:
        raise RuntimeError(f"it failed: {message}")
    return message.result.wire_bytes


class Moved(NamedTuple):
    """What two processes needed."""

    seconds: float
    reader_cpu: float
    writer_cpu: float
    wire_bytes: int


def two_processes(source: Content, options: argparse.Namespace, count: int, size: int, parts: int) -> Moved:
    reader, writer = start("reader", options.pool_mib * MIB), start("writer", options.pool_mib * MIB)
    config = StoreConfig("memory", str(source.descriptor))
    mode = Compression(options.mode)
    keys = TransferKeys(SECRET)
    reader.channel.send(SetPeers((Peer("writer", "127.0.0.1", writer.port, options.connections),)))
    reader.channel.send(OpenTransfer(GatewayTransfer("t", keys, config, {}, mode, options.concurrency)))
    writer.channel.send(OpenTransfer(GatewayTransfer("t", keys, None, {0: config}, mode, options.concurrency)))
    # Imports, connections and the first touch of buffers are paid once in a gateway's life.
    move(reader, 64, size, parts, 0)
    before = cpu_now(reader.pid), cpu_now(writer.pid)
    began = time.perf_counter()
    wire_bytes = move(reader, count, size, parts, 64)
    seconds = time.perf_counter() - began
    after = cpu_now(reader.pid), cpu_now(writer.pid)
    for process in (reader, writer):
        process.channel.send(Stop())
        cpu_of(process.pid)
        process.channel.close()
    return Moved(seconds, after[0] - before[0], after[1] - before[1], wire_bytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=4096)
    parser.add_argument("--part-mib", type=int, default=8)
    parser.add_argument("--data", choices=["random", "text"], default="random")
    parser.add_argument("--mode", choices=[mode.value for mode in Compression], default="auto")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--pool-mib", type=int, default=256)
    parser.add_argument("--small", type=int, default=20_000, help="objects of 4 KiB, in batches of 500; 0: none")
    options = parser.parse_args()
    install_memory_store()
    source = content(options.data)
    print(f"load {os.getloadavg()[0]:.1f}, {options.data}, {options.mode}, parts of {options.part_mib} MiB")
    found = stage_costs(source, Compression(options.mode))
    sums = {side: sum(costs.values()) for side, costs in found.items()}
    for side, costs in found.items():
        print(f"{side}: {sums[side]:.3f} s/GB = " + " + ".join(f"{name} {cost:.3f}" for name, cost in costs.items()))
    count = options.mib // options.part_mib
    moved = two_processes(source, options, count, options.part_mib * MIB, 1)
    gb = count * options.part_mib * MIB / 1e9
    used = {"reader": moved.reader_cpu / gb, "writer": moved.writer_cpu / gb}
    total, stage_total = sum(used.values()), sum(sums.values())
    for side, cost in used.items():
        print(f"{side} process: {cost:.3f} s/GB, {cost / sums[side]:.2f} of its stages")
    print(
        f"both: {total:.3f} s/GB, {total / stage_total:.2f} of the stages; {gb / moved.seconds:.2f} GB/s, "
        f"{moved.wire_bytes / gb / 1e9:.3f} wire bytes a byte, "
        f"ceiling of {os.cpu_count()} cores {(os.cpu_count() or 1) / stage_total:.2f} GB/s"
    )
    if options.small:
        moved = two_processes(source, options, options.small // 500, 4096, 500)
        objects = options.small // 500 * 500
        micro = (moved.reader_cpu + moved.writer_cpu) / objects * 1e6
        print(f"objects of 4 KiB: {objects / moved.seconds:.0f} a second, {micro:.0f} us of CPU each")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"largest resident size of a process {peak:.0f} MiB, pool {options.pool_mib} MiB")


if __name__ == "__main__":
    main()
