"""What a sender makes of answers that it cannot place: half of a real connection, over a socket pair."""

from __future__ import annotations

import socket
import threading

from gateway.counters import Counters
from gateway.handshake import Session
from gateway.sending import Connection
from gateway.wire import HEADER_SIZE, Codec, FrameType, Header, pack_header


def answer(salt: bytes) -> bytes:
    """A whole ACK frame for a batch of that salt."""
    clear = bytearray(HEADER_SIZE)
    header = Header(
        FrameType.ACK, Codec.RAW, True, bytes(16), 1, 1, 1, 1, bytes(8), 0, 0, raw_length=4, wire_length=52, salt=salt
    )
    pack_header(memoryview(clear), header)
    return bytes(clear) + bytes(52)


def test_an_answer_to_nothing_that_was_sent_ends_the_connection() -> None:
    """Its salt was damaged on the way: whoever waits for the true one would wait for as long as a lease lasts."""
    ours, theirs = socket.socketpair()
    with theirs:
        connection = Connection(ours, Session("peer", "data", bytes(32), bytes(32)), Counters())
        thread = threading.Thread(target=connection.read_answers)
        thread.start()
        theirs.sendall(answer(b"?" * 32))
        theirs.settimeout(10)
        assert theirs.recv(1) == b""
        thread.join(10)
        assert not thread.is_alive()
    assert connection.lost
