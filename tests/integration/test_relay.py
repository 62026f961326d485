"""Data processes with a relay between them: what passes, what does not, and what happens when the next one is gone."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway import handshake
from gateway.counters import Counter
from gateway.messages import Execute
from gateway.pump import CopyPump, OnwardBrokenError, Pump, SplicePump
from gateway.sockets import receive_into
from gateway.wire import HEADER_SIZE, FrameType, parse_header
from skyplane_core.errors import LinkLost
from skyplane_core.model import Compression, GatewayTransfer, Lease, PartLease
from tests.integration.data_processes import MIB, SECRET, DataProcess, Files, transfer, whole

Start = Callable[..., DataProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[DataProcess] = []

    def begin(name: str, **options: int) -> DataProcess:
        process = DataProcess(name, **options)
        running.append(process)
        return process

    yield begin
    for process in running:
        process.close()


def over(lease_id: int, way: int, route: tuple[str, ...], *parts: PartLease) -> Lease:
    return Lease(lease_id, "t1", 1, route, parts, way)


def chain(
    start: Start, tmp_path: Path, compression: Compression = Compression.AUTO
) -> tuple[DataProcess, DataProcess, DataProcess, Files, Files]:
    source, destination = Files(tmp_path / "source"), Files(tmp_path / "destination")
    reader, relay, writer = start("reader"), start("relay"), start("writer")
    reader.know(relay)
    relay.know(writer)
    reader.open(transfer("t1", source=source, compression=compression))
    relay.open(GatewayTransfer("t1", onward={1: "writer"}))
    writer.open(transfer("t1", destination=destination))
    return reader, relay, writer, source, destination


PATH = ("relay", "writer")


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.LZ4])
def test_batches_pass_a_relay_unread_and_arrive_byte_exact(
    start: Start, tmp_path: Path, compression: Compression
) -> None:
    reader, relay, writer, source, destination = chain(start, tmp_path, compression)
    draw = random.Random(1)
    contents = {f"k{n:03}": draw.randbytes(draw.choice([0, 1, 5000, 5 * MIB + n])) for n in range(40)}
    contents["text"] = b"all work and no play " * 400_000
    for key, content in contents.items():
        source.write(key, content)
    parts = whole(source, *contents)
    leases = [over(number, 1, PATH, part) for number, part in enumerate(parts)]
    leases.append(over(99, 1, PATH, *[part for part in parts if part.size <= 5000]))
    results = reader.execute(*leases)
    assert not any(result.failures for result in results.values())
    assert {key: destination.read(key) for key in contents} == contents
    sent = reader.counters[Counter.WIRE_BYTES_SENT]
    assert relay.counters[Counter.WIRE_BYTES_RELAYED] == relay.counters[Counter.WIRE_BYTES_RECEIVED] == sent
    assert writer.counters[Counter.WIRE_BYTES_RECEIVED] == sent
    assert relay.counters[Counter.BYTES_RECEIVED] == relay.counters[Counter.POOL_BYTES_HELD] == 0
    assert reader.stop() == relay.stop() == writer.stop() == 0


def test_a_part_that_cannot_be_written_fails_alone_behind_a_relay(start: Start, tmp_path: Path) -> None:
    reader, _relay, _writer, source, _destination = chain(start, tmp_path)
    source.write("a", b"a" * 1000)
    (part,) = whole(source, "a")
    bad = PartLease(2, 1, "a", part.version, 0, 1000, (part.targets[0].__class__(0, "../outside"),))
    result = reader.execute(over(0, 1, PATH, part, bad))[0]
    assert [ack.object for ack in result.acks] == [1]
    assert [failure.object for failure in result.failures] == [2]


def test_a_relay_refuses_what_it_cannot_pass_on_and_takes_the_next_batch(start: Start, tmp_path: Path) -> None:
    reader, relay, writer, source, destination = chain(start, tmp_path)
    content = os.urandom(5 * MIB)
    source.write("a", content)
    parts = whole(source, "a")
    # A way that it was not told of would end at the relay, which has no key.
    unknown = reader.execute(over(0, 2, PATH, *parts))[0]
    assert {failure.error.kind for failure in unknown.failures} == {"GatewayRefused"}
    relay.open(GatewayTransfer("t1", onward={1: "writer", 3: "nobody"}))
    stray = reader.execute(over(1, 3, ("relay", "nobody"), *parts))[1]
    assert {failure.error.kind for failure in stray.failures} == {"GatewayRefused"}
    writer.kill()
    gone = reader.execute(over(2, 1, PATH, *parts))[2]
    assert {failure.error.kind for failure in gone.failures} == {"LinkLost"}
    assert "writer" in gone.failures[0].error.where
    again = start("writer")
    again.open(transfer("t1", destination=destination))
    relay.know(again)
    # The relay is told of the new one by its agent, and of the batch by the reader: either may come first.
    for number in range(3, 100):
        last = reader.execute(over(number, 1, PATH, *parts))[number]
        if last.acks:
            break
        assert {failure.error.kind for failure in last.failures} == {"LinkLost"}
        time.sleep(0.05)
    assert last.acks
    assert destination.read("a") == content


@pytest.mark.parametrize("victim", ["relay", "writer"])
def test_a_kill_in_the_middle_fails_what_was_not_acknowledged(start: Start, tmp_path: Path, victim: str) -> None:
    reader, relay, writer, source, _destination = chain(start, tmp_path)
    source.write("a", os.urandom(8 * MIB))
    (part,) = whole(source, "a")
    assert reader.execute(over(0, 1, PATH, part))[0].acks
    for number in range(1, 60):
        reader.channel.send(Execute(over(number, 1, PATH, part)))
    (relay if victim == "relay" else writer).kill()
    kinds = [{failure.error.kind for failure in result.failures} or {"stored"} for result in reader.results(59)]
    assert {"LinkLost"} in kinds
    assert set().union(*kinds) <= {"LinkLost", "stored"}


def test_two_readers_share_a_relay_and_one_that_breaks_off_costs_the_other_nothing_for_good(
    start: Start, tmp_path: Path
) -> None:
    reader, relay, _writer, source, destination = chain(start, tmp_path)
    other = start("other")
    other.know(relay)
    other.open(transfer("t1", source=source))
    contents = {f"k{n}": os.urandom(3 * MIB) for n in range(30)}
    for key, content in contents.items():
        source.write(key, content)
    parts = whole(source, *contents)
    for number, part in enumerate(parts):
        reader.channel.send(Execute(over(number, 1, PATH, part)))
        other.channel.send(Execute(over(number, 1, PATH, part)))
    other.kill()
    failed = [result for result in reader.results(len(parts)) if result.failures]
    # Each connection of the other one may have left half a batch on an onward connection, which ends with it.
    for _ in range(4 * 4):
        assert {failure.error.kind for result in failed for failure in result.failures} <= {"LinkLost"}
        again = [over(result.lease_id, 1, PATH, parts[result.lease_id]) for result in failed]
        failed = [result for result in reader.execute(*again).values() if result.failures]
    assert not failed, [os.waitpid(process.pid, os.WNOHANG) for process in (reader, relay, _writer)]
    assert {key: destination.read(key) for key in contents} == contents


def test_a_slow_next_gateway_holds_up_only_its_own_batches_and_fills_no_memory(start: Start, tmp_path: Path) -> None:
    reader, relay, writer, source, destination = chain(start, tmp_path, Compression.NONE)
    slow = start("slow")
    slow.open(transfer("t1", destination=destination))
    relay.know(writer, slow)
    relay.open(GatewayTransfer("t1", onward={1: "writer", 2: "slow"}))
    contents = {f"k{n}": os.urandom(8 * MIB) for n in range(5)}
    for key, content in contents.items():
        source.write(key, content)
    parts = whole(source, *contents)
    assert all(result.acks for result in reader.execute(over(0, 2, ("relay", "slow"), parts[0])).values())
    before = peak_memory(relay.pid)
    os.kill(slow.pid, signal.SIGSTOP)
    try:
        for number in range(1, 5):
            reader.channel.send(Execute(over(number, 2, ("relay", "slow"), parts[number])))
        for number in range(100, 130):
            reader.channel.send(Execute(over(number, 1, PATH, parts[0])))
        passed = list(reader.results(30))
        assert all(result.acks and result.lease_id >= 100 for result in passed)
        assert peak_memory(relay.pid) - before < 16 * MIB
    finally:
        os.kill(slow.pid, signal.SIGCONT)
    assert {result.lease_id for result in reader.results(4) if result.acks} == {1, 2, 3, 4}
    assert {key: destination.read(key) for key in contents} == contents


def peak_memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def test_a_stranger_s_nonsense_ends_its_connection_and_leaves_no_half_batch(start: Start, tmp_path: Path) -> None:
    reader, relay, _writer, source, _destination = chain(start, tmp_path)
    source.write("a", os.urandom(MIB))
    (part,) = whole(source, "a")
    with socket.create_connection(relay.address) as sock:
        handshake.dial(sock, SECRET, "stranger", "relay", "data")
        sock.sendall(b"x" * HEADER_SIZE)
        sock.settimeout(20)
        assert sock.recv(1) == b""
    assert reader.execute(over(0, 1, PATH, part))[0].acks


# --- pumps ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[CopyPump, SplicePump])
def pump(request: pytest.FixtureRequest) -> Iterator[Pump]:
    made = request.param()
    yield made
    made.close()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        return one, listener.accept()[0]


def test_a_pump_moves_exactly_what_it_is_told_to(pump: Pump) -> None:
    (sender, source), (target, receiver) = tcp_pair(), tcp_pair()
    with sender, source, target, receiver:
        data = os.urandom(300_000)
        sender.sendall(data)
        for size in (1, 70_000, 130_000):
            pump.move(source, target, size)
        got = memoryview(bytearray(200_001))
        receive_into(receiver, got)
        assert got == data[:200_001]
        assert source.recv(10) == data[200_001:200_011]


def test_a_pump_tells_which_side_broke(pump: Pump) -> None:
    (sender, source), (target, receiver) = tcp_pair(), tcp_pair()
    with sender, source, target, receiver:
        sender.sendall(b"x" * 1000)
        sender.close()
        with pytest.raises(LinkLost):
            pump.move(source, target, 2000)
    (sender, source), (target, receiver) = tcp_pair(), tcp_pair()
    with sender, source, target:
        sender.sendall(b"x" * 100_000)
        target.shutdown(socket.SHUT_WR)
        with receiver, pytest.raises(OnwardBrokenError) as broken:
            pump.move(source, target, 100_000)
        left = memoryview(bytearray(100_000 - broken.value.taken))
        receive_into(source, left)
    # What was stuck in the middle does not come before what is moved next.
    (sender, source), (target, receiver) = tcp_pair(), tcp_pair()
    with sender, source, target, receiver:
        sender.sendall(b"fresh")
        pump.move(source, target, 5)
        assert receiver.recv(100) == b"fresh"


def test_headers_name_the_way(start: Start, tmp_path: Path) -> None:
    source = Files(tmp_path / "source")
    source.write("a", b"a")
    reader = start("reader")
    reader.open(transfer("t1", source=source))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reader.know_address("relay", listener.getsockname()[1])
        reader.channel.send(Execute(over(0, 7, PATH, *whole(source, "a"))))
        sock, _address = listener.accept()
        with sock:
            handshake.accept(sock, SECRET, "relay")
            clear = memoryview(bytearray(HEADER_SIZE))
            receive_into(sock, clear)
            header = parse_header(clear)
            assert (header.type, header.way) == (FrameType.MANIFEST, 7)
