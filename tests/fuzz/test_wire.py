"""Bytes of a hostile peer: decoders raise errors of the tree and nothing else, and allocate within their bounds."""

from __future__ import annotations

import contextlib
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import manifest, wire
from gateway.crypto import Opener, Sealer, open_batch, seal_batch
from gateway.framing import Assembly, open_frame
from gateway.handshake import accept, dial
from gateway.ipc import Channel
from gateway.link import Asked, Caller, Link, RenewExpiry, Request
from gateway.messages import ToData
from gateway.wire import HEADER_SIZE, MAX_RAW, Codec, FrameOrder, FrameType, Header, parse_header
from skyplane_core.errors import FrameCorrupt, LinkLost, ProtocolError, SkyplaneError, WireError
from tests.fuzz.mutation import corpus, effort, mutated

SECRET = bytes(range(32))
KIB, MIB = 1024, 1024 * 1024
WAIT = 20.0


@contextlib.contextmanager
def at_most(limit: int) -> Iterator[None]:
    """No more than ``limit`` bytes are allocated at any moment within."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= limit
    finally:
        tracemalloc.stop()


# --- frames -----------------------------------------------------------------------------------------------------------


@effort(400)
@given(mutated(corpus("frames")))
def test_a_header_is_refused_or_has_every_length_in_its_bounds(data: bytes) -> None:
    with at_most(64 * KIB):
        try:
            header = parse_header(data)
        except ProtocolError:
            return
    assert 0 < header.raw_length <= MAX_RAW
    assert wire.TAG_SIZE < header.wire_length <= wire.MAX_BODY
    assert header.offset + header.raw_length <= wire.SIZE_LIMIT


@effort(200)
@given(st.lists(mutated(corpus("frames"), 2), max_size=8))
def test_a_sequence_of_frames_is_a_batch_or_an_error(frames: list[bytes]) -> None:
    order, covered, count = FrameOrder(FrameType.MANIFEST), 0, 0
    try:
        for data in frames:
            header = parse_header(data)
            order.check(header)
            assert header.frame == count
            count += 1
            covered += header.raw_length
    except ProtocolError:
        return
    assert covered <= count * MAX_RAW


@effort(200)
@given(mutated([seed for seed in corpus("frames") if parse_header(seed).type is not FrameType.ACK]))
def test_a_frame_that_nobody_sealed_does_not_open(data: bytes) -> None:
    try:
        header = parse_header(data)
    except ProtocolError:
        return
    body = bytearray(data[HEADER_SIZE : HEADER_SIZE + header.wire_length].ljust(header.wire_length, b"\0"))
    with at_most(2 * MAX_RAW + 256 * KIB), pytest.raises(FrameCorrupt):
        Assembly(header.type).add(header, memoryview(data[:HEADER_SIZE]), memoryview(body), open_batch(b"k" * 32, b""))


def compressed(content: bytes, raw_length: int) -> tuple[Header, bytearray, Opener]:
    """A frame that is sealed rightly, by a hostile holder of the key, over what is no block of ``raw_length`` bytes."""
    sealer = seal_batch(SECRET)
    template = Header(FrameType.DATA, Codec.LZ4, True, bytes(16), 1, 1, 1, 1, bytes(8), 0, 0, 0, 0, sealer.salt)
    header = template._replace(raw_length=raw_length, wire_length=len(content) + wire.TAG_SIZE)
    frame = bytearray(HEADER_SIZE + header.wire_length)
    wire.pack_header(memoryview(frame), header)
    view = memoryview(frame)
    sealer.seal_into(0, memoryview(content), view[:HEADER_SIZE], view[HEADER_SIZE:])
    return header, frame, open_batch(SECRET, sealer.salt)


@effort(300)
@given(
    mutated([b"\x1fa\x01\x00\xff\xff\xff\x10bbbbb", b"\xf0" + b"\xff" * 30 + b"\x00" + b"x" * 64]),
    st.integers(1, MAX_RAW),
)
def test_a_block_that_decompresses_to_another_length_is_corrupt(block: bytes, raw_length: int) -> None:
    if not block or len(block) >= raw_length:
        return
    header, frame, opener = compressed(block, raw_length)
    out = memoryview(bytearray(raw_length + 16))
    view = memoryview(frame)
    with at_most(raw_length + 256 * KIB), contextlib.suppress(FrameCorrupt):
        open_frame(header, view[:HEADER_SIZE], view[HEADER_SIZE:], opener, out[:raw_length])
    assert bytes(out[raw_length:]) == bytes(16), "bytes beyond the frame's own were written"


@pytest.mark.parametrize(
    ("decode", "folder"),
    [
        (manifest.decode_manifest, "manifest"),
        (manifest.decode_answer, "answer"),
        (manifest.decode_refusal, "refusal"),
    ],
)
def test_messages_within_frames(decode: Callable[[bytes], object], folder: str) -> None:
    @effort(500)
    @given(mutated(corpus(folder)))
    def run(data: bytes) -> None:
        with at_most(64 * len(data) + 64 * KIB):
            try:
                decode(data)
            except ProtocolError:
                return

    for seed in corpus(folder):
        decode(seed)
    run()


@pytest.mark.parametrize("count", [2**16 - 1, 2**32 - 1])
def test_a_promised_count_of_parts_is_not_allocated(count: int) -> None:
    prefix = b"\xdd" + count.to_bytes(4, "big")
    with at_most(64 * KIB), pytest.raises(ProtocolError):
        manifest.decode_manifest(prefix + b"\x97")


# --- the handshake ----------------------------------------------------------------------------------------------------


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


@pytest.fixture(scope="module")
def warm() -> None:
    """What the first handshake of a process imports and caches is not counted."""
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(LinkLost):
        theirs.shutdown(socket.SHUT_WR)
        dial(ours, SECRET, "b", "a", "data", WAIT)


@effort(150)
@pytest.mark.usefixtures("warm")
@given(st.lists(mutated([framed(seed) for seed in corpus("handshake")], 3), max_size=3), st.booleans())
def test_a_stranger_gets_through_no_handshake(messages: list[bytes], dialling: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"".join(messages))
        theirs.shutdown(socket.SHUT_WR)
        with at_most(256 * KIB), pytest.raises(WireError):
            if dialling:
                dial(ours, SECRET, "b", "a", "data", WAIT)
            else:
                accept(ours, SECRET, "b", WAIT)


# --- links ------------------------------------------------------------------------------------------------------------


class Serving:
    """A real link on a socket pair, and what it was made to do."""

    def __init__(self) -> None:
        self.served: list[Request] = []
        self.lost = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.peer = socket.create_connection(listener.getsockname())
            sock, _address = listener.accept()
        self.peer.settimeout(WAIT)
        self.workers = ThreadPoolExecutor(1)
        self.link = Link(
            sock, "peer", SECRET, SECRET, serve=self.serve, workers=self.workers, lost=lambda _link: self.lost.set()
        )

    def say(self, *messages: bytes) -> None:
        """Send them, and that nothing follows. A link that has ended meanwhile resets the connection."""
        with contextlib.suppress(OSError):
            for message in messages:
                self.peer.sendall(message)
            self.peer.shutdown(socket.SHUT_WR)

    def serve(self, _caller: Caller, request: Request) -> bytes:
        self.served.append(request)
        return b""

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.link.close()
        assert self.lost.wait(WAIT)
        self.workers.shutdown()
        self.peer.close()


def sealed(number: int, message: bytes) -> bytes:
    body = bytearray(len(message) + wire.TAG_SIZE)
    Sealer(SECRET).seal_into(number, memoryview(message), memoryview(b""), memoryview(body))
    return len(body).to_bytes(4, "big") + body


@effort(60)
@given(mutated([sealed(0, seed) for seed in corpus("link")]))
def test_what_nobody_sealed_ends_a_link_and_does_nothing(data: bytes) -> None:
    seeds = {sealed(0, seed) for seed in corpus("link")}
    with Serving() as serving:
        serving.say(data)
        assert serving.lost.wait(WAIT)
        with pytest.raises(LinkLost):
            serving.link.call(RenewExpiry(), WAIT)
    if not any(data.startswith(seed) for seed in seeds):
        assert serving.served == []


@effort(150)
@given(mutated(corpus("link")))
def test_a_hostile_peer_s_message_is_served_or_ends_the_link(message: bytes) -> None:
    """Whatever comes, a call that waits for this peer ends at once and not after its time limit."""
    renew = msgspec.msgpack.encode(Asked(9, msgspec.msgpack.encode(RenewExpiry())))
    with Serving() as serving:
        serving.say(sealed(0, message), sealed(1, renew))
        assert serving.lost.wait(WAIT)
        with pytest.raises(LinkLost):
            serving.link.call(RenewExpiry(), WAIT)


@pytest.mark.parametrize("size", [64 * MIB + 1, 2**31, 2**32 - 1])
def test_a_link_s_message_is_bounded_before_it_is_allocated(size: int) -> None:
    with Serving() as serving, at_most(MIB):
        serving.peer.sendall(size.to_bytes(4, "big"))
        assert serving.lost.wait(WAIT)


# --- between the processes of a gateway -----------------------------------------------------------------------------


@effort(200)
@given(mutated([framed4 for seed in corpus("processes") for framed4 in (len(seed).to_bytes(4, "big") + seed,)]))
def test_a_channel_between_processes(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel: Channel[ToData] = Channel(ours, ToData)
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        try:
            with at_most(4 * MIB):
                while channel.receive() is not None:
                    pass
        except SkyplaneError:
            return
