"""A writer's side of batches that come on several connections, each frame sent by hand to a real data process."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway import handshake
from gateway.counters import Counter
from gateway.crypto import Opener, seal_batch
from gateway.framing import Assembly, seal_message
from gateway.manifest import ManifestPart, decode_refusal, encode_manifest
from gateway.sockets import receive_into
from gateway.wire import HEADER_SIZE, Codec, FrameType, Header, pack_header, parse_header, transfer_tag
from skyplane_core.checksum import crc32c
from skyplane_core.model import PartTarget
from tests.integration.data_processes import KEY, SECRET, DataProcess, Files, transfer

PATIENCE = 30.0
PIECE = 100_000


class Wire(NamedTuple):
    """A connection to the writer."""

    sock: socket.socket
    session: handshake.Session

    def send(self, *frames: bytes) -> None:
        self.sock.sendall(b"".join(frames))

    def answer(self) -> str:
        """The type of the next one, or the kind of error that it refuses a batch with."""
        clear = memoryview(bytearray(HEADER_SIZE))
        receive_into(self.sock, clear)
        header = parse_header(clear)
        body = memoryview(bytearray(header.wire_length))
        receive_into(self.sock, body)
        if header.type is not FrameType.REFUSE:
            return header.type.name
        assembly = Assembly(FrameType.REFUSE)
        assembly.add(header, clear, body, Opener(self.session.receive_key))
        return decode_refusal(assembly.message).kind

    def ended(self) -> bool:
        """Whether nothing more comes than the end."""
        with contextlib.suppress(ConnectionResetError):
            return self.sock.recv(1) == b""
        return True


class Sent(NamedTuple):
    """A batch as frames: its manifest, and its pieces."""

    manifest: bytes
    data: list[bytes]


def batch(content: bytes, key: str, *, size: int | None = None, scattered: bool = True) -> Sent:
    """``size``: what the manifest claims, if that is not the truth."""
    sealer = seal_batch(KEY)
    template = Header(
        FrameType.MANIFEST, Codec.RAW, False, transfer_tag("t1"), 1, 1, 1, 1, bytes(8), 0, 0, 0, 0, sealer.salt,
        scattered=scattered,
    )  # fmt: skip
    part = ManifestPart(1, 1, 0, size or len(content), 0, crc32c(content), (PartTarget(0, key),))
    manifest = seal_message(template, encode_manifest([part]), sealer, last=False)
    pieces = [content[start : start + PIECE] for start in range(0, len(content), PIECE)]
    frames = []
    for number, piece in enumerate(pieces, start=1):
        clear = template._replace(
            type=FrameType.DATA, frame=number, offset=(number - 1) * PIECE, raw_length=len(piece),
            wire_length=len(piece) + 16, last=number == len(pieces),
        )  # fmt: skip
        frame = memoryview(bytearray(HEADER_SIZE + len(piece) + 16))
        pack_header(frame, clear)
        sealer.seal_into(number, memoryview(piece), frame[:HEADER_SIZE], frame[HEADER_SIZE:])
        frames.append(bytes(frame))
    return Sent(bytes(manifest), frames)


def flipped(frame: bytes) -> bytes:
    return frame[:-1] + bytes([frame[-1] ^ 1])


class Rig:
    """A writer, and connections to it."""

    def __init__(self, root: Path, stack: contextlib.ExitStack) -> None:
        self.files = Files(root)
        self.writer = DataProcess("writer")
        stack.callback(self.writer.close)
        self.writer.open(transfer("t1", destination=self.files))
        self._stack = stack

    def connect(self) -> Wire:
        sock = self._stack.enter_context(socket.create_connection(self.writer.address))
        sock.settimeout(PATIENCE)
        return Wire(sock, handshake.dial(sock, SECRET, "stranger", "writer", "data"))

    def wait_until_nothing_is_held(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.writer.counters[Counter.POOL_BYTES_HELD]:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def wait_until_received(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.writer.counters[Counter.BYTES_RECEIVED] < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with contextlib.ExitStack() as stack:
        yield Rig(tmp_path / "destination", stack)


CONTENT = os.urandom(5 * PIECE + 17)


def test_frames_on_three_connections_in_any_order_are_one_batch(rig: Rig) -> None:
    home, other, third = rig.connect(), rig.connect(), rig.connect()
    sent = batch(CONTENT, "a")
    # They wait for their batch, which nobody has heard of yet.
    other.send(sent.data[5], sent.data[2])
    third.send(sent.data[4])
    home.send(sent.manifest, sent.data[0], sent.data[3])
    rig.wait_until_received(len(CONTENT) - PIECE)
    assert not (rig.files.root / "a").exists()
    third.send(sent.data[1])
    assert home.answer() == "ACK"
    assert rig.files.read("a") == CONTENT
    rig.wait_until_nothing_is_held()
    assert rig.writer.stop() == 0


def test_a_home_goes_on_with_its_next_batch_while_others_end_the_last_one(rig: Rig) -> None:
    home, other = rig.connect(), rig.connect()
    first, second, whole = batch(CONTENT, "a"), batch(CONTENT[::-1], "b"), batch(CONTENT[:PIECE], "c", scattered=False)
    home.send(first.manifest, *first.data[:5], second.manifest, *second.data)
    assert home.answer() == "ACK"
    home.send(whole.manifest, *whole.data)
    assert home.answer() == "ACK"
    other.send(first.data[5])
    assert home.answer() == "ACK"
    assert [rig.files.read(key) for key in "abc"] == [CONTENT, CONTENT[::-1], CONTENT[:PIECE]]


@pytest.mark.parametrize("damaged", [0, 3])
def test_a_damaged_frame_fails_its_batch_on_its_home_and_nothing_else(rig: Rig, damaged: int) -> None:
    home, other = rig.connect(), rig.connect()
    sent = batch(CONTENT, "a")
    sent.data[damaged] = flipped(sent.data[damaged])
    home.send(sent.manifest, sent.data[0])
    other.send(*sent.data[1:])
    assert home.answer() == "FrameCorrupt"
    rig.wait_until_nothing_is_held()
    again = batch(CONTENT, "a")
    home.send(again.manifest, again.data[0])
    other.send(*again.data[1:])
    assert home.answer() == "ACK"
    assert rig.files.read("a") == CONTENT


def test_a_batch_of_a_transfer_that_is_not_open_is_refused_and_its_frames_dropped(rig: Rig) -> None:
    home, other = rig.connect(), rig.connect()
    sent, good = batch(CONTENT, "a"), batch(CONTENT, "b")
    strange = [frame.replace(transfer_tag("t1"), transfer_tag("other"), 1) for frame in (sent.manifest, *sent.data)]
    home.send(strange[0], strange[1])
    other.send(*strange[2:])
    assert home.answer() == "TransferNotFound"
    home.send(good.manifest, good.data[0])
    other.send(*good.data[1:])
    assert home.answer() == "ACK"


def test_a_batch_with_too_few_bytes_is_refused(rig: Rig) -> None:
    home, other = rig.connect(), rig.connect()
    sent = batch(CONTENT, "a", size=len(CONTENT) + 1)
    home.send(sent.manifest, sent.data[0])
    other.send(*sent.data[1:])
    assert home.answer() == "ProtocolError"
    rig.wait_until_nothing_is_held()
    assert not (rig.files.root / "a").exists()


def test_the_end_of_its_home_is_the_end_of_a_batch(rig: Rig) -> None:
    home, other, next_home = rig.connect(), rig.connect(), rig.connect()
    sent, good = batch(CONTENT, "a"), batch(CONTENT, "b")
    home.send(sent.manifest, sent.data[0])
    other.send(sent.data[1])
    rig.wait_until_received(2 * PIECE)
    assert rig.writer.counters[Counter.POOL_BYTES_HELD] >= len(CONTENT)
    home.sock.close()
    rig.wait_until_nothing_is_held()
    # What still comes of it is dropped, and its connection of use for others.
    other.send(*sent.data[2:], *good.data[1:])
    next_home.send(good.manifest, good.data[0])
    assert next_home.answer() == "ACK"
    assert not (rig.files.root / "a").exists()


def test_a_frame_that_comes_twice_ends_its_connection(rig: Rig) -> None:
    home, other = rig.connect(), rig.connect()
    sent = batch(CONTENT, "a")
    home.send(sent.manifest, sent.data[0])
    other.send(sent.data[1], sent.data[1])
    assert other.ended()
    assert rig.writer.counters[Counter.BYTES_RECEIVED] == 2 * PIECE


def test_a_batch_that_is_replayed_is_not_put_again_and_what_came_before_is_answered(rig: Rig) -> None:
    home, other = rig.connect(), rig.connect()
    first, second = batch(CONTENT, "a"), batch(CONTENT, "b")
    home.send(first.manifest, *first.data)
    assert home.answer() == "ACK"
    home.send(second.manifest, *second.data[:5], first.manifest, first.data[0])
    other.send(second.data[5])
    assert home.answer() == "ACK"
    assert home.ended()
    assert rig.writer.counters[Counter.PARTS_WRITTEN] == 2


def test_a_frame_of_a_batch_that_nobody_begins_waits_no_longer_than_its_connection(rig: Rig) -> None:
    other = rig.connect()
    other.send(batch(CONTENT, "a").data[1])
    other.sock.shutdown(socket.SHUT_WR)
    assert other.ended()


def test_a_scattered_batch_that_fits_one_connection_is_none(rig: Rig) -> None:
    home = rig.connect()
    sent = batch(CONTENT[:PIECE], "a")
    home.send(sent.manifest, *sent.data)
    assert home.ended()
    rig.wait_until_nothing_is_held()
