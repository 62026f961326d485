"""A store that answers whatever a test says, over a real socket."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import threading
from collections.abc import Callable, Iterable

MOST_REQUESTS = 5000
_NO_MORE = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def answer(body: bytes, status: str = "200 OK", headers: Iterable[str] = ()) -> bytes:
    """A well-formed HTTP answer around any body."""
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers))
    return head.encode() + b"\r\n" + body


class HostileServer:
    """``next`` makes the bytes that answer a request, from its head's first line.

    After :data:`MOST_REQUESTS` requests since the last :meth:`say` it refuses, so that a client without an end is seen.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests = 0
        self.next: Callable[[str], bytes] = lambda _request: _NO_MORE
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def say(self, answers: list[bytes]) -> None:
        """Give these answers in turn, the last one for ever."""
        script = itertools.chain(answers, itertools.repeat(answers[-1]))
        self.requests, self.next = 0, lambda _request: next(script)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        threads = []
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                break
            with self._lock:
                self._connections.add(connection)
            threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while (head := self._request(connection)) is not None:
                self.requests += 1
                reply = _NO_MORE if self.requests > MOST_REQUESTS else self.next(head)
                connection.sendall(reply)
                length = re.search(rb"(?s)\r\nContent-Length: (\d+)\r\n(?:.*\r\n)?\r\n(.*)", reply)
                if head.startswith("HEAD") or length is None or int(length[1]) != len(length[2]):
                    # Whatever the client still waits for does not come.
                    break
        with self._lock:
            self._connections.discard(connection)

    @staticmethod
    def _request(connection: socket.socket) -> str | None:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                return None
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        left = int(length[1]) - len(body) if length else 0
        if b"100-continue" in head and left > 0:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while left > 0:
            left -= len(connection.recv(65536))
        return head.partition(b"\r\n")[0].decode("latin-1")
