"""Who may use the relay to a NameNode, and how its connections end. What passes is in test_hdfs_rpc.py."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest

from skyplane_core.stores.hdfs_relay import NameNodeRelay

PREAMBLE = b"hrpc\x09\x00\x00"


@pytest.fixture
def namenode() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


@pytest.fixture
def relay(namenode: socket.socket) -> Iterator[NameNodeRelay]:
    opened = NameNodeRelay(namenode.getsockname(), "", {})
    yield opened
    opened.close()


def connect(relay: NameNodeRelay) -> socket.socket:
    host, port = relay.address.split(":")
    return socket.create_connection((host, int(port)), 10)


def frame(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def test_frames_go_both_ways_and_either_end_ends_both(namenode: socket.socket, relay: NameNodeRelay) -> None:
    # A header without a field, and nothing that it is about.
    said = frame(b"\x00\x00")
    for first in (0, 1):
        near = connect(relay)
        near.sendall(PREAMBLE + said)
        far, _ = namenode.accept()
        far.settimeout(10)
        with near, far:
            assert far.makefile("rb").read(13) == PREAMBLE + said
            far.sendall(said)
            assert near.makefile("rb").read(6) == said
            (near, far)[first].shutdown(socket.SHUT_WR)
            assert (far, near)[first].recv(1) == b""


def test_a_frame_that_is_too_large_ends_the_connection(namenode: socket.socket, relay: NameNodeRelay) -> None:
    with connect(relay) as near:
        near.sendall(PREAMBLE + b"\xff\xff\xff\xff")
        far, _ = namenode.accept()
        with far:
            assert near.recv(1) == b""


def test_nobody_behind_it(namenode: socket.socket, relay: NameNodeRelay) -> None:
    namenode.close()
    with connect(relay) as near:
        assert near.recv(1) == b""
    assert "refused" in relay.trouble


def test_closing_ends_what_is_open(namenode: socket.socket) -> None:
    relay = NameNodeRelay(namenode.getsockname(), "", {})
    with connect(relay) as near:
        near.sendall(PREAMBLE)
        far, _ = namenode.accept()
        with far:
            assert far.makefile("rb").read(7) == PREAMBLE
            relay.close()
            assert near.recv(1) == b""


def test_another_user_of_the_machine_is_not_let_in(namenode: socket.socket, relay: NameNodeRelay) -> None:
    assert os.getuid() == 0, "only root can be somebody else"
    host, port = relay.address.split(":")
    program = (
        "import encodings.idna, os, socket; os.setuid(65534); "
        f"print(socket.create_connection(({host!r}, {port})).recv(1))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, timeout=20, check=False)
    assert done.stdout == b"b''\n", done.stderr
    namenode.setblocking(False)
    with pytest.raises(BlockingIOError):
        namenode.accept()
