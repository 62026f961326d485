"""Two real data processes: real sockets, real files, and everything that goes wrong between them."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway import handshake
from gateway.counters import Counter
from gateway.crypto import Opener, seal_batch
from gateway.framing import Assembly, seal_message
from gateway.manifest import ManifestPart, decode_refusal, encode_manifest
from gateway.messages import CloseTransfer, Execute, LinkAccepted, Peer, SetPeers
from gateway.sockets import receive_into
from gateway.wire import HEADER_SIZE, Codec, FrameType, Header, parse_header, transfer_tag
from skyplane_core.checksum import crc32c
from skyplane_core.model import Compression, Lease, LeaseResult, ObjectAttributes, PartLease, PartTarget, Shrinkage
from skyplane_core.testing.faultproxy import TO_CLIENT, TO_SERVER, FaultProxy, ProxyFault
from tests.integration.data_processes import (
    KEY,
    MIB,
    SECRET,
    DataProcess,
    Files,
    lease,
    ranges,
    transfer,
    whole,
)

Start = Callable[..., DataProcess]
SHARED = 24
"""More connections than a peer gets batches at once: three carry each of them."""
PATIENCE = 60.0
CHALLENGE = 150
"""More bytes than a writer sends before its first answer, and fewer than with it."""
PIECE = 100_000


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[DataProcess] = []

    def begin(name: str, **options: int | bytes) -> DataProcess:
        process = DataProcess(name, **options)  # type: ignore[arg-type]
        running.append(process)
        return process

    yield begin
    for process in running:
        process.close()


@pytest.fixture
def source(tmp_path: Path) -> Files:
    return Files(tmp_path / "source")


@pytest.fixture
def destination(tmp_path: Path) -> Files:
    return Files(tmp_path / "destination")


def pair(
    start: Start, source: Files, destination: Files, connections: int = 4, **options: int | bytes
) -> tuple[DataProcess, DataProcess]:
    reader, writer = start("reader", **options), start("writer", **options)
    reader.know(writer, connections=connections)
    reader.open(transfer("t1", source=source))
    writer.open(transfer("t1", destination=destination))
    return reader, writer


def failed(result: LeaseResult) -> set[str]:
    assert not result.acks
    return {failure.error.kind for failure in result.failures}


def text(size: int) -> bytes:
    return (b"the quick brown fox jumps over the lazy dog; " * (size // 45 + 1))[:size]


@pytest.mark.parametrize("connections", [4, SHARED])
def test_many_parts_of_several_objects(start: Start, source: Files, destination: Files, connections: int) -> None:
    contents = {"random": random.Random(1).randbytes(21 * MIB + 17), "text": text(30 * MIB + 5), "dir/small": b"x"}
    for key, content in contents.items():
        source.write(key, content)
    reader, writer = pair(start, source, destination, connections)
    reader.open(transfer("t1", source=source, compression=Compression.LZ4))
    uploads = {key: destination.store.create_upload(key, ObjectAttributes()) for key in contents}
    parts = [
        part
        for number, key in enumerate(contents, start=1)
        for part in ranges(source, key, 3 * MIB, uploads[key], number)
    ]
    leases = [lease(index, "t1", ("writer",), part) for index, part in enumerate(parts)]
    results = reader.execute(*leases)
    assert not any(result.failures for result in results.values())
    for index, part in enumerate(parts):
        (ack,) = results[index].acks
        expected = contents[part.key][part.offset : part.offset + part.size]
        assert (ack.object, ack.part, ack.size, ack.crc32c) == (part.object, part.part, part.size, crc32c(expected))
        assert ack.stored_part is not None
        assert ack.stored_part.number == part.part
    wire = {key: sum(results[i].wire_bytes for i, part in enumerate(parts) if part.key == key) for key in contents}
    assert wire["text"] < len(contents["text"]) / 10
    assert len(contents["random"]) < wire["random"] < len(contents["random"]) * 1.001
    for key, content in contents.items():
        stored = [r.acks[0].stored_part for i, r in sorted(results.items()) if parts[i].key == key]
        destination.store.complete_upload(
            key,
            uploads[key],
            [part for part in stored if part],
            size=len(content),
            crc32c=crc32c(content),
            precondition=PartTarget(0, key).precondition,
        )
        assert destination.read(key) == content
    total = sum(map(len, contents.values()))
    assert reader.counters[Counter.BYTES_READ] == reader.counters[Counter.BYTES_SENT] == total
    assert writer.counters[Counter.BYTES_RECEIVED] == writer.counters[Counter.BYTES_WRITTEN] == total
    assert reader.counters[Counter.WIRE_BYTES_SENT] == writer.counters[Counter.WIRE_BYTES_RECEIVED]
    assert reader.counters[Counter.WIRE_BYTES_SENT] == sum(result.wire_bytes for result in results.values())
    assert reader.counters[Counter.POOL_BYTES_HELD] == writer.counters[Counter.POOL_BYTES_HELD] == 0


@pytest.mark.parametrize(("host", "leaves"), [("127.0.0.1", False), ("127.1", True)], ids=["here", "elsewhere"])
def test_auto_compresses_what_leaves_the_machine_and_says_what_it_did(
    start: Start, source: Files, destination: Files, host: str, leaves: bool
) -> None:
    """``127.1`` is a name to us, which says nothing about where it leads, and this machine to the resolver."""
    contents = {"random": random.Random(1).randbytes(5 * MIB), "text": text(5 * MIB)}
    for key, content in contents.items():
        source.write(key, content)
    reader, writer = pair(start, source, destination)
    reader.know_address("writer", writer.port, host)
    parts = whole(source, *contents)
    results = reader.execute(*(lease(number, "t1", ("writer",), part) for number, part in enumerate(parts)))
    said = {part.key: results[number].shrinkage for number, part in enumerate(parts)}
    for key, content in contents.items():
        assert destination.read(key) == content
    random_bytes, shrunk = said["random"], said["text"]
    assert random_bytes is not None
    assert shrunk is not None
    if leaves:
        assert (random_bytes.dense_bytes, random_bytes.local_bytes, random_bytes.lz4_bytes) == (5 * MIB, 0, 0)
        assert random_bytes.sample_bytes_after >= random_bytes.sample_bytes > 0
        assert (shrunk.lz4_bytes, shrunk.local_bytes, shrunk.dense_bytes) == (5 * MIB, 0, 0)
        assert shrunk.lz4_bytes_after < results[1].wire_bytes < 5 * MIB / 10
    else:
        assert random_bytes == shrunk == Shrinkage(Compression.AUTO, local_bytes=5 * MIB)
        assert results[1].wire_bytes > 5 * MIB
    assert reader.stop() == writer.stop() == 0


def small_objects(source: Files, count: int) -> dict[str, bytes]:
    draw = random.Random(2)
    contents = {f"small/{n:04}": draw.randbytes(draw.choice([0, 1, 100, 5000])) for n in range(count)}
    contents["small/zz-empty"] = b""
    for key, content in contents.items():
        source.write(key, content)
    return contents


def test_batches_of_small_objects_and_empty_ones(start: Start, source: Files, destination: Files) -> None:
    contents = small_objects(source, 600)
    reader, _writer = pair(start, source, destination)
    keys = list(contents)
    source.write("e1", b"")
    leases = [
        lease(0, "t1", ("writer",), *whole(source, *keys[:400])),
        lease(1, "t1", ("writer",), *whole(source, *keys[400:], first=401)),
        lease(2, "t1", ("writer",), *whole(source, "e1", first=9000)),
    ]
    results = reader.execute(*leases)
    assert not any(result.failures for result in results.values())
    assert sum(len(result.acks) for result in results.values()) == len(contents) + 1
    assert all(ack.stored is not None for result in results.values() for ack in result.acks)
    assert {key: destination.read(key) for key in keys} == contents
    assert destination.read("e1") == b""


def test_a_reader_that_writes_itself_uses_no_wire(start: Start, source: Files, destination: Files) -> None:
    contents = small_objects(source, 50)
    both = start("both")
    both.open(transfer("t1", source=source, destination=destination))
    result = both.execute(lease(0, "t1", (), *whole(source, *contents)))[0]
    assert not result.failures
    assert result.wire_bytes == 0
    assert {key: destination.read(key) for key in contents} == contents
    assert both.stop() == 0


def test_parts_that_cannot_be_read_do_not_stop_the_others(start: Start, source: Files, destination: Files) -> None:
    for key in "abcd":
        source.write(key, key.encode() * 200_000)
    reader, _writer = pair(start, source, destination)
    parts = list(whole(source, "a", "b", "c", "d"))
    source.write("b", b"changed")
    (source.root / "d").unlink()
    parts.append(PartLease(9, 1, "a", parts[0].version, 0, 200_000, (PartTarget(0, "copy"),), crc32c=1))
    result = reader.execute(lease(0, "t1", ("writer",), *parts))[0]
    assert {(failure.object, failure.destination, failure.error.kind) for failure in result.failures} == {
        (2, -1, "SourceChanged"),
        (4, -1, "SourceChanged"),
        (9, -1, "ChecksumMismatch"),
    }
    assert {ack.object for ack in result.acks} == {1, 3}
    assert destination.read("c") == b"c" * 200_000
    nothing = reader.execute(lease(1, "t1", ("writer",), parts[1]))[1]
    assert failed(nothing) == {"SourceChanged"}


def test_parts_across_frames_with_gaps_where_reads_failed(start: Start, source: Files, destination: Files) -> None:
    contents = {f"k{n}": random.Random(n).randbytes(MIB * 3 // 2 + n) for n in range(8)}
    contents["k3"] = b""
    contents["k5"] = text(5 * MIB)
    for key, content in contents.items():
        source.write(key, content)
    reader, _writer = pair(start, source, destination)
    parts = whole(source, *contents)
    for key in ("k0", "k4"):
        source.write(key, b"changed")
    result = reader.execute(lease(0, "t1", ("writer",), *parts))[0]
    assert {failure.object for failure in result.failures} == {1, 5}
    for key in contents.keys() - {"k0", "k4"}:
        assert destination.read(key) == contents[key]


def test_a_part_that_cannot_be_written_does_not_stop_the_others(
    start: Start, source: Files, destination: Files
) -> None:
    source.write("a", b"a" * 1000)
    reader, _writer = pair(start, source, destination)
    (part,) = whole(source, "a")
    bad = PartLease(2, 1, "a", part.version, 0, 1000, (PartTarget(0, "../outside"), PartTarget(5, "a")))
    result = reader.execute(lease(0, "t1", ("writer",), part, bad))[0]
    assert [ack.object for ack in result.acks] == [1]
    assert {(f.object, f.destination) for f in result.failures} == {(2, 0), (2, 5)}
    assert all(failure.crc32c == crc32c(b"a" * 1000) for failure in result.failures)


def test_a_wrong_secret_is_refused(start: Start, source: Files, destination: Files) -> None:
    source.write("a", b"a")
    reader, writer = start("reader"), start("writer", secret=bytes(32))
    reader.know(writer)
    reader.open(transfer("t1", source=source))
    writer.open(transfer("t1", destination=destination))
    assert failed(reader.execute(lease(0, "t1", ("writer",), *whole(source, "a")))[0]) == {"HandshakeFailed"}


def test_unknown_transfers_and_routes_are_refused(start: Start, source: Files, destination: Files) -> None:
    source.write("a", b"a" * 5_000_000)
    reader, writer = pair(start, source, destination)
    parts = whole(source, "a")
    assert failed(reader.execute(lease(0, "t1", ("nobody",), *parts))[0]) == {"GatewayRefused"}
    assert failed(reader.execute(lease(1, "t9", ("writer",), *parts))[1]) == {"TransferNotFound"}
    reader.open(transfer("t2", source=source))
    assert failed(reader.execute(Lease(3, "t2", 1, ("writer",), parts))[3]) == {"TransferNotFound"}
    assert reader.execute(lease(4, "t1", ("writer",), *parts))[4].acks
    writer.channel.send(CloseTransfer("t1"))
    # Nothing orders the two channels, so a batch may still be there before the word that the transfer is closed.
    while (late := reader.execute(lease(5, "t1", ("writer",), *parts))[5]).acks:
        pass
    assert failed(late) == {"TransferNotFound"}
    big = PartLease(1, 1, "a", parts[0].version, 0, 40 * MIB, parts[0].targets)
    assert failed(reader.execute(lease(6, "t1", ("writer",), big))[6]) == {"GatewayRefused"}


@pytest.mark.parametrize("connections", [4, SHARED])
def test_a_killed_peer_fails_what_was_not_acknowledged(
    start: Start, source: Files, destination: Files, connections: int
) -> None:
    source.write("a", os.urandom(8 * MIB))
    reader, writer = pair(start, source, destination, connections)
    (part,) = whole(source, "a")
    assert reader.execute(lease(0, "t1", ("writer",), part))[0].acks
    leases = [lease(number, "t1", ("writer",), part) for number in range(1, 60)]
    for each in leases:
        reader.channel.send(Execute(each))
    writer.kill()
    kinds = [
        {failure.error.kind for failure in result.failures} or {"stored"} for result in reader.results(len(leases))
    ]
    assert {"LinkLost"} in kinds
    assert set().union(*kinds) <= {"LinkLost", "stored"}
    again = start("writer")
    again.open(transfer("t1", destination=destination))
    reader.know(again, connections=connections)
    assert reader.execute(lease(99, "t1", ("writer",), part))[99].acks


def test_a_broken_connection_that_helped_another_costs_its_batch_and_no_more(
    start: Start, source: Files, destination: Files
) -> None:
    """Bytes of a batch that it took with it are nowhere else: the batch fails at once, nobody waits for the rest."""
    contents = {f"k{n}": os.urandom(4 * MIB + n) for n in range(30)}
    for key, content in contents.items():
        source.write(key, content)
    reader, writer = start("reader"), start("writer")
    reader.open(transfer("t1", source=source))
    writer.open(transfer("t1", destination=destination))
    answered: set[int] = set()
    used: set[int] = set()
    with FaultProxy(
        writer.address,
        ProxyFault("call", TO_CLIENT, at=CHALLENGE, callback=answered.add),
        ProxyFault("call", TO_SERVER, at=PIECE, callback=used.add),
        ProxyFault("slow", TO_SERVER, at=PIECE, rate=20e6),
    ) as proxy:
        reader.channel.send(SetPeers((Peer("writer", *proxy.address, SHARED),)))
        leases = [lease(number, "t1", ("writer",), part) for number, part in enumerate(whole(source, *contents))]
        deadline = time.monotonic() + PATIENCE
        while not (helping := used - answered):
            assert all(result.acks for result in reader.execute(*leases).values())
            assert time.monotonic() < deadline
        proxy.strike(ProxyFault("cut", TO_SERVER, at=PIECE, connections=(min(helping),)))
        lost: set[str] = set()
        while not lost:
            lost = set().union(*(failed(result) for result in reader.execute(*leases).values() if not result.acks))
            assert time.monotonic() < deadline
        assert lost == {"LinkLost"}
        again = [result for result in reader.execute(*leases).values() if not result.acks]
        assert not again
        assert {key: destination.read(key) for key in contents} == contents
        while any(process.counters[Counter.POOL_BYTES_HELD] for process in (reader, writer)):
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("connections", [4, SHARED])
def test_a_pool_smaller_than_the_data_and_two_transfers(
    start: Start, source: Files, destination: Files, connections: int
) -> None:
    contents = {f"{name}{n}": random.Random(n).randbytes(2 * MIB + n) for name in "ab" for n in range(20)}
    for key, content in contents.items():
        source.write(key, content)
    reader, writer = pair(start, source, destination, connections, pool_bytes=9 * MIB)
    reader.open(transfer("t2", source=source, compression=Compression.NONE))
    writer.open(transfer("t2", destination=destination))
    parts = whole(source, *contents)
    leases = [lease(n, "t1" if part.key[0] == "a" else "t2", ("writer",), part) for n, part in enumerate(parts)]
    results = reader.execute(*leases)
    assert not any(result.failures for result in results.values())
    assert {key: destination.read(key) for key in contents} == contents


@pytest.mark.parametrize("connections", [4, SHARED])
def test_two_gateways_that_send_to_each_other_through_small_pools(
    start: Start, source: Files, destination: Files, connections: int
) -> None:
    contents = {f"k{n}": random.Random(n).randbytes(2 * MIB) for n in range(30)}
    for key, content in contents.items():
        source.write(key, content)
    one, two = start("one", pool_bytes=8 * MIB), start("two", pool_bytes=8 * MIB)
    one.know(two, connections=connections)
    two.know(one, connections=connections)
    for process in (one, two):
        process.open(transfer("t1", source=source, destination=destination))
    parts = whole(source, *contents)
    for process, other in ((one, "two"), (two, "one")):
        for number, part in enumerate(parts):
            process.channel.send(Execute(lease(number, "t1", (other,), part)))
    for process in (one, two):
        assert not any(result.failures for result in process.results(len(parts)))


def dialled(process: DataProcess, kind: handshake.Kind = "data") -> tuple[socket.socket, handshake.Session]:
    sock = socket.create_connection(process.address)
    return sock, handshake.dial(sock, SECRET, "stranger", process.name, kind)


def batch_frames(content: bytes, corrupt: int = -1) -> bytearray:
    sealer = seal_batch(KEY)
    template = Header(
        FrameType.MANIFEST, Codec.RAW, False, transfer_tag("t1"), 1, 1, 1, 1, bytes(8), 0, 0, 0, 0, sealer.salt
    )
    part = ManifestPart(1, 1, 0, len(content), 0, crc32c(content), (PartTarget(0, "injected"),))
    manifest = seal_message(template, encode_manifest([part]), sealer, last=False)
    body = seal_message(template._replace(type=FrameType.DATA, frame=1), content, sealer, last=True)
    if corrupt >= 0:
        body[corrupt] ^= 1
    return manifest + body


def refusal(sock: socket.socket, session: handshake.Session) -> str:
    clear = memoryview(bytearray(HEADER_SIZE))
    receive_into(sock, clear)
    header = parse_header(clear)
    assert header.type is FrameType.REFUSE
    body = memoryview(bytearray(header.wire_length))
    receive_into(sock, body)
    assembly = Assembly(FrameType.REFUSE)
    assembly.add(header, clear, body, Opener(session.receive_key))
    return decode_refusal(assembly.message).kind


def test_a_corrupted_frame_fails_its_batch_and_nothing_else(start: Start, destination: Files) -> None:
    writer = start("writer")
    writer.open(transfer("t1", destination=destination))
    sock, session = dialled(writer)
    with sock:
        content = os.urandom(100_000)
        sock.sendall(batch_frames(content, corrupt=50_000))
        assert refusal(sock, session) == "FrameCorrupt"
        assert not (destination.root / "injected").exists()
        # The version tag is in the clear header, and under the seal all the same.
        sock.sendall(batch_frames(content, corrupt=48))
        sock.settimeout(10)
        assert sock.recv(1) == b""
    sock, session = dialled(writer)
    with sock:
        sock.sendall(batch_frames(content))
        clear = memoryview(bytearray(HEADER_SIZE))
        receive_into(sock, clear)
        assert parse_header(clear).type is FrameType.ACK
    assert destination.read("injected") == content
    assert writer.stop() == 0


def test_bytes_that_are_no_frames_end_the_connection_only(start: Start, destination: Files) -> None:
    writer = start("writer")
    writer.open(transfer("t1", destination=destination))
    for junk in (b"GET / HTTP/1.1\r\n" * 20, bytes(1000), os.urandom(1000)):
        sock, _session = dialled(writer)
        with sock:
            sock.sendall(junk)
            sock.settimeout(10)
            # Bytes that were not read turn the end of the connection into a reset.
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
    with socket.create_connection(writer.address) as stranger:
        stranger.sendall(os.urandom(4000))
    sock, _session = dialled(writer)
    sock.close()
    assert writer.stop() == 0


def test_a_control_link_goes_to_the_agent(start: Start) -> None:
    process = start("gateway")
    sock, session = dialled(process, "link")
    with sock:
        message = process.channel.receive()
        assert isinstance(message, LinkAccepted)
        assert (message.peer, message.send_key, message.receive_key) == (
            "stranger",
            session.receive_key,
            session.send_key,
        )
        with socket.socket(fileno=process.channel.take_fd()) as link:
            link.sendall(b"hello")
            assert sock.recv(5) == b"hello"
    assert process.stop() == 0


def test_renewed_credentials_take_effect_and_closing_answers_everything(
    start: Start, tmp_path: Path, source: Files
) -> None:
    first, second = Files(tmp_path / "first"), Files(tmp_path / "second")
    source.write("a", b"a" * MIB)
    reader, writer = pair(start, source, first)
    parts = whole(source, "a")
    assert reader.execute(lease(0, "t1", ("writer",), *parts))[0].acks
    writer.open(transfer("t1", destination=second))
    assert reader.execute(lease(1, "t1", ("writer",), *parts))[1].acks
    assert second.read("a") == first.read("a")
    for number in range(2, 40):
        reader.channel.send(Execute(lease(number, "t1", ("writer",), *parts)))
    reader.channel.send(CloseTransfer("t1"))
    kinds = {failure.error.kind for result in reader.results(38) for failure in result.failures}
    assert kinds <= {"TransferNotFound"}


def test_it_ends_when_the_agent_is_gone(start: Start) -> None:
    process = start("gateway")
    process._socket.shutdown(socket.SHUT_RDWR)
    began = time.monotonic()
    assert process.wait() == 0
    assert time.monotonic() - began < 5
