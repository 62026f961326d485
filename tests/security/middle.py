"""A man in the middle of the wire: a TCP proxy that knows the format, records all, and changes what a test says."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from gateway.wire import HEADER_SIZE, FrameType, Header, parse_header


class Unit(NamedTuple):
    """What went past: one handshake message, one frame, or one message of a control link.

    ``forward`` is from the dialler to the listener; ``header`` is that of a frame; ``number`` counts the units of one
    connection and direction.
    """

    connection: int
    forward: bool
    number: int
    kind: str
    header: Header | None
    data: bytes


CUT = b"cut"
"""Stands for the end of the connection."""
Tamper = Callable[[Unit], list[bytes]]
"""What to send on instead; :data:`CUT` ends the connection."""


def honest(unit: Unit) -> list[bytes]:
    return [unit.data]


class Middle:
    """Listens on a port of its own and passes on to ``target``; ``seen`` has every unit, in the order of arrival."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.tamper: Tamper = honest
        self.seen: list[Unit] = []
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join()
        for sock in (self._listener, *self._sockets):
            sock.close()

    def cut(self) -> None:
        """End all connections."""
        with self._lock:
            for sock in self._sockets:
                _shut(sock)

    def frames(self, *kinds: FrameType) -> list[Unit]:
        with self._lock:
            return [unit for unit in self.seen if unit.header is not None and unit.header.type in kinds]

    def stream(self, connection: int, *, forward: bool) -> bytes:
        """All that one side of one connection sent."""
        with self._lock:
            return b"".join(u.data for u in self.seen if (u.connection, u.forward) == (connection, forward))

    def kinds(self) -> dict[int, str]:
        """The kind of each connection, by number."""
        with self._lock:
            return {unit.connection: unit.kind for unit in self.seen}

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                left, _address = self._listener.accept()
            except OSError:
                return
            right = socket.create_connection(self._target)
            with self._lock:
                self._sockets += [left, right]
            kind: list[str] = []
            ready = threading.Event()
            for forward, source, sink in ((True, left, right), (False, right, left)):
                pump = threading.Thread(target=self._pump, args=(number, forward, source, sink, kind, ready))
                self._threads.append(pump)
                pump.start()
            number += 1

    def _pump(
        self, number: int, forward: bool, source: socket.socket, sink: socket.socket, kind: list[str],
        ready: threading.Event,
    ) -> None:  # fmt: skip
        with contextlib.suppress(OSError, EOFError, IndexError):
            for count, (header, data) in enumerate(_units(source, forward, kind, ready)):
                unit = Unit(number, forward, count, kind[0], header, data)
                with self._lock:
                    self.seen.append(unit)
                for piece in self.tamper(unit):
                    if piece is CUT:
                        raise EOFError
                    sink.sendall(piece)
        ready.set()
        _shut(source)
        _shut(sink)


# The other side may end before it has said what kind of connection this is: then there is no kind (IndexError).
def _units(
    source: socket.socket, forward: bool, kind: list[str], ready: threading.Event
) -> Iterator[tuple[Header | None, bytes]]:
    for index in range(2 if forward else 1):
        prefix = _exactly(source, 2)
        body = _exactly(source, int.from_bytes(prefix, "big"))
        if forward and not index:
            kind.append(msgspec.msgpack.decode(body)[1])
            ready.set()
        ready.wait()
        yield None, prefix + body
    while True:
        if kind[0] == "link":
            prefix = _exactly(source, 4)
            yield None, prefix + _exactly(source, int.from_bytes(prefix, "big"))
        else:
            clear = _exactly(source, HEADER_SIZE)
            header = parse_header(clear)
            yield header, clear + _exactly(source, header.wire_length)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
