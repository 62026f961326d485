"""What each stage of the data path costs alone: CPU seconds a GB of original bytes, measured now and on this machine.

A store's stages are its own calls (:class:`~skyplane_core.stores.base.DataPath`) against the servers of the run; the
rest is the gateway's own code over frames that do not fit a cache.
"""

from __future__ import annotations

import dataclasses
import os
import queue
import resource
import socket
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from gateway.codec import COMPRESS_BOUND, SCRATCH_SIZE, Encoder, decode_into
from gateway.crypto import open_batch, seal_batch
from gateway.sockets import LOOPBACK, prepare, receive_into
from gateway.wire import MAX_RAW, TAG_SIZE, Codec
from skyplane_core.checksum import crc32c, crc64nvme
from skyplane_core.model import Compression, ObjectAttributes, Precondition, StoreConfig
from skyplane_core.stores.registry import open_store

MIB = 1024 * 1024
SECRET = bytes(range(32))
BLOCK_BYTES = 64 * MIB
"""Twice the L3 cache of the machine that the budget was made on."""
STAGE_BYTES = 512 * MIB
ROUNDS = 3
CONNECTIONS = 4


def content(kind: str, size: int = BLOCK_BYTES) -> bytes:
    """``random`` bytes, or ``text``: the interpreter's own library, which LZ4 shrinks 2.5 to 3 times."""
    if kind == "random":
        return os.urandom(size)
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")) + sorted(Path(__file__).parent.glob("*.py"))
    one = b"".join(path.read_bytes() for path in files)
    return (one * (size // len(one) + 1))[:size]


def per_gb(work: Callable[[memoryview], object], block: memoryview) -> float:
    """CPU seconds a GB of ``work`` over frames of ``block``; the best of three."""
    best = float("inf")
    frames = [block[start : start + MAX_RAW] for start in range(0, len(block), MAX_RAW)]
    for _ in range(ROUNDS):
        began = time.thread_time()
        for number in range(STAGE_BYTES // MAX_RAW):
            work(frames[number % len(frames)])
        best = min(best, (time.thread_time() - began) / (STAGE_BYTES / 1e9))
    return best


@dataclasses.dataclass(frozen=True)
class Wire:
    """What happens between two gateways, a GB of original bytes. ``shrunk`` is the wire's share of the original.

    ``crc64nvme_hot`` is summed of what comes from an S3 store, which vouches by it.
    """

    crc32c: float
    crc64nvme_hot: float
    compress: float
    encrypt: float
    send: float
    receive: float
    decrypt: float
    decompress: float
    crc32c_hot: float
    shrunk: float

    @property
    def total(self) -> float:
        """All stages together."""
        costs = dataclasses.asdict(self)
        return sum(cost for name, cost in costs.items() if name != "shrunk")


def wire(data: bytes, mode: Compression) -> Wire:
    """The stages between the source's bytes and the destination's, without the stores."""
    block = memoryview(data)
    out = memoryview(bytearray(COMPRESS_BOUND + TAG_SIZE))
    landing = memoryview(bytearray(MAX_RAW))
    header = memoryview(bytes(108))
    sealer = seal_batch(SECRET)
    counter = iter(range(1 << 30))
    encoder = Encoder(mode, memoryview(bytearray(SCRATCH_SIZE)))
    lengths = [encoder.encode_into(block[n : n + MAX_RAW], out) for n in range(0, len(block), MAX_RAW)]
    shrunk = sum(MAX_RAW if length is None else length for length in lengths) / len(block)
    on_wire = int(MAX_RAW * shrunk)
    sealed = bytearray(on_wire + TAG_SIZE)
    sealed_by = seal_batch(SECRET)
    sealed_by.seal_into(0, block[:on_wire], header, memoryview(sealed))
    opener = open_batch(SECRET, sealed_by.salt)
    opened = memoryview(bytearray(MAX_RAW))
    send, receive = sockets()
    decompress = 0.0
    if shrunk < 1:
        length = Encoder(Compression.LZ4, memoryview(bytearray(SCRATCH_SIZE))).encode_into(block[:MAX_RAW], out) or 0
        packed = memoryview(bytes(out[:length]))
        decompress = per_gb(lambda _frame: decode_into(Codec.LZ4, packed, landing), block)
    return Wire(
        crc32c=per_gb(crc32c, block),
        crc64nvme_hot=per_gb(lambda _frame: crc64nvme(landing), block),
        compress=per_gb(lambda frame: encoder.encode_into(frame, out), block),
        encrypt=per_gb(lambda frame: sealer.seal_into(next(counter), frame[:on_wire], header, out), block),
        send=send * shrunk,
        receive=receive * shrunk,
        decrypt=per_gb(lambda _frame: opener.open_into(0, memoryview(sealed), header, opened), block),
        decompress=decompress,
        crc32c_hot=per_gb(lambda _frame: crc32c(landing), block),
        shrunk=shrunk,
    )


def get(config: StoreConfig, key: str, size: int, part_bytes: int) -> float:
    """Reading an object in ranges by the store's data path on four connections."""
    store = open_store(config)
    version = store.head(key).version
    store.close()

    def work(number: int, buffer: memoryview, path: object) -> None:
        path.read_into(key, version, number * part_bytes, buffer)  # type: ignore[attr-defined]

    return _store_stage(config, work, size // part_bytes, part_bytes)


def put(config: StoreConfig, prefix: str, data: bytes, size: int, part_bytes: int) -> float:
    """Writing objects of one part each by the store's data path on four connections; with the checksum given."""
    block = memoryview(data)[:part_bytes]
    checksum = crc32c(block)

    def work(number: int, _buffer: memoryview, path: object) -> None:
        key = f"{prefix}{number}"
        path.put_object(  # type: ignore[attr-defined]
            key, block, crc32c=checksum, attributes=ObjectAttributes(), precondition=Precondition()
        )

    return _store_stage(config, work, size // part_bytes, part_bytes)


def _store_stage(
    config: StoreConfig, work: Callable[[int, memoryview, object], None], count: int, part_bytes: int
) -> float:
    """In a process of its own, with nothing else in its CPU time. The first part of each thread is not counted."""

    def child() -> float:
        store = open_store(config)
        todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(count):
            todo.put(number)
        ready = threading.Barrier(CONNECTIONS + 1)

        def one() -> None:
            path, buffer = store.data(), memoryview(bytearray(part_bytes))
            work(0, buffer, path)
            ready.wait()
            ready.wait()
            while True:
                try:
                    number = todo.get_nowait()
                except queue.Empty:
                    return
                work(number, buffer, path)

        threads = [threading.Thread(target=one) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        ready.wait()
        before = cpu_seconds()
        ready.wait()
        for thread in threads:
            thread.join()
        return (cpu_seconds() - before) / (count * part_bytes / 1e9)

    return min(Child(child).result() for _ in range(ROUNDS))


def cpu_seconds() -> float:
    """User and system seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Child:
    """``work`` in a forked process."""

    def __init__(self, work: Callable[[], float]) -> None:
        read_end, write_end = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            status = 1
            try:
                os.write(write_end, repr(work()).encode())
                status = 0
            except BaseException:  # noqa: BLE001 - the boundary of a process
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(write_end)
        self._answer = read_end

    def result(self) -> float:
        """Wait for it.

        Raises:
            RuntimeError: it failed, and has printed why.
        """
        _pid, status = os.waitpid(self._pid, 0)
        with os.fdopen(self._answer) as answer:
            if status:
                raise RuntimeError("a stage failed; its traceback is above")
            return float(answer.read())


def sockets(connections: int = CONNECTIONS, size: int = 2048 * MIB) -> tuple[float, float]:
    """CPU seconds a GB of bare sendall and of recv_into of whole frames, between two processes."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    count = size // connections // MAX_RAW

    def send() -> float:
        def one() -> None:
            frame = bytes(MAX_RAW)
            with socket.socket() as sock:
                prepare(sock, LOOPBACK)
                sock.connect(address)
                for _ in range(count):
                    sock.sendall(frame)

        return _timed(one, connections, size)

    def receive() -> float:
        def one() -> None:
            sock, _address = listener.accept()
            view = memoryview(bytearray(MAX_RAW))
            with sock:
                prepare(sock, LOOPBACK)
                for _ in range(count):
                    receive_into(sock, view)

        return _timed(one, connections, size)

    best = (float("inf"), float("inf"))
    for _ in range(ROUNDS):
        sender, receiver = Child(send), Child(receive)
        best = min(best, (sender.result(), receiver.result()), key=sum)
    listener.close()
    return best


def _timed(one: Callable[[], None], count: int, size: int) -> float:
    before = cpu_seconds()
    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (cpu_seconds() - before) / (size / 1e9)
