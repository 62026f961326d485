"""Real data processes for tests: forked, with real sockets, and an agent's end to talk to them."""

from __future__ import annotations

import os
import signal
import socket
import traceback
from collections.abc import Iterator
from pathlib import Path

from gateway import data
from gateway.counters import Counters
from gateway.ipc import Channel
from gateway.messages import Execute, Executed, FromData, OpenTransfer, Peer, SetPeers, Stop
from skyplane_core.model import (
    Compression,
    GatewayTransfer,
    Lease,
    LeaseResult,
    PartLease,
    PartTarget,
    StoreConfig,
    TransferKeys,
)
from skyplane_core.provision.bootstrap import Bootstrap
from skyplane_core.stores.registry import open_store

MIB = 1024 * 1024
SECRET = bytes(range(32))
KEY = bytes(range(100, 132))


class DataProcess:
    """A forked data process, and the agent's side of it in this process."""

    def __init__(self, name: str, *, pool_bytes: int = 64 * MIB, secret: bytes = SECRET) -> None:
        self.name = name
        self.counters = Counters()
        wire = socket.create_server(("127.0.0.1", 0))
        self.port = int(wire.getsockname()[1])
        self.address = ("127.0.0.1", self.port)
        mine, theirs = socket.socketpair()
        bootstrap = Bootstrap("dp", name, "", "", "", secret, pool_bytes=pool_bytes)
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                mine.close()
                data.run(bootstrap, theirs, wire, self.counters)
                status = 0
            except BaseException:  # noqa: BLE001 - the boundary of a process
                traceback.print_exc()
            finally:
                os._exit(status)
        theirs.close()
        wire.close()
        mine.settimeout(60)
        self._socket = mine
        self.channel: Channel[FromData] = Channel(mine, FromData)

    def results(self, count: int) -> Iterator[LeaseResult]:
        for _ in range(count):
            message = self.channel.receive()
            assert isinstance(message, Executed), message
            yield message.result

    def execute(self, *leases: Lease) -> dict[int, LeaseResult]:
        for lease in leases:
            self.channel.send(Execute(lease))
        found = {result.lease_id: result for result in self.results(len(leases))}
        assert found.keys() == {lease.lease_id for lease in leases}
        return found

    def open(self, transfer: GatewayTransfer) -> None:
        self.channel.send(OpenTransfer(transfer))

    def know(self, *others: DataProcess, connections: int = 4) -> None:
        peers = tuple(Peer(other.name, "127.0.0.1", other.port, connections) for other in others)
        self.channel.send(SetPeers(peers))

    def know_address(self, name: str, port: int, host: str = "127.0.0.1") -> None:
        self.channel.send(SetPeers((Peer(name, host, port),)))

    def stop(self) -> int:
        """Tell it to stop; returns its exit code."""
        self.channel.send(Stop())
        return self.wait()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        if self.pid:
            _pid, status = os.waitpid(self.pid, 0)
            self.pid = 0
            self.channel.close()
            return os.waitstatus_to_exitcode(status)
        return 0

    def close(self) -> None:
        if self.pid:
            self.kill()


class Files:
    """A directory as source or destination, through the real local store."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.config = StoreConfig("local", str(root))
        self.store = open_store(self.config)

    def write(self, key: str, content: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def read(self, key: str) -> bytes:
        return (self.root / key).read_bytes()


def transfer(
    transfer_id: str,
    *,
    source: Files | None = None,
    destination: Files | None = None,
    compression: Compression = Compression.AUTO,
    concurrency: int = 8,
) -> GatewayTransfer:
    return GatewayTransfer(
        transfer_id,
        TransferKeys(KEY),
        source.config if source else None,
        {0: destination.config} if destination else {},
        compression,
        concurrency,
    )


def whole(source: Files, *keys: str, first: int = 1) -> tuple[PartLease, ...]:
    """A part for each object, to be written by a single put under the same key."""
    parts = []
    for number, key in enumerate(keys, start=first):
        info = source.store.head(key)
        parts.append(PartLease(number, 1, key, info.version, 0, info.size, (PartTarget(0, key),)))
    return tuple(parts)


def ranges(source: Files, key: str, size: int, upload_id: str, number: int = 1) -> list[PartLease]:
    """The parts of one object that is written by a multipart upload."""
    info = source.store.head(key)
    target = (PartTarget(0, key, upload_id),)
    return [
        PartLease(number, part, key, info.version, offset, min(size, info.size - offset), target)
        for part, offset in enumerate(range(0, info.size, size), start=1)
    ]


def lease(lease_id: int, transfer_id: str, route: tuple[str, ...], *parts: PartLease) -> Lease:
    return Lease(lease_id, transfer_id, 1, route, parts)
