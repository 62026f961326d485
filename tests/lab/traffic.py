"""Bytes from one host of a lab to another."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator

from skyplane_core.testing.lab import Wan

PORT = 7001
PATIENCE = 60.0
"""Seconds that anything may take on a busy machine."""


@contextlib.contextmanager
def connection(wan: Wan, source: str = "a", target: str = "b") -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of one: who dialled, and who was dialled."""
    with wan.inside(target):
        listener = socket.create_server(("", PORT))
    with listener, wan.inside(source):
        listener.settimeout(PATIENCE)
        dialled = socket.create_connection((wan.topology.host(target).ip, PORT), timeout=PATIENCE)
        with dialled:
            accepted, _address = listener.accept()
            with accepted:
                accepted.settimeout(PATIENCE)
                yield dialled, accepted


def transfer(dialled: socket.socket, accepted: socket.socket, data: bytes) -> float:
    """Send all of it and compare what arrives. Returns the seconds that it took."""

    def send() -> None:
        dialled.sendall(data)
        dialled.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    began = time.monotonic()
    sender.start()
    digest, buffer = hashlib.sha256(), bytearray(1 << 18)
    while count := accepted.recv_into(buffer):
        digest.update(memoryview(buffer)[:count])
    sender.join()
    assert digest.digest() == hashlib.sha256(data).digest()
    return time.monotonic() - began


def dial(wan: Wan, source: str, target: str, port: int, timeout: float) -> None:
    """Open a connection and close it; TimeoutError if nothing answers."""
    with wan.inside(source), socket.create_connection((wan.topology.host(target).ip, port), timeout=timeout):
        return
