"""A server on loopback that gives the answers it was told to, one for each request, whatever is asked."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping


def answer(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> bytes:
    """The bytes of an answer after which the connection is closed."""
    lines = [f"HTTP/1.1 {status} whatever", f"Content-Length: {len(body)}", "Connection: close"]
    lines.extend(f"{name}: {value}" for name, value in (headers or {}).items())
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Answers:
    """Each answer on a connection of its own. ``heads`` holds what was asked, ``bodies`` what came with it."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = answers
        self.heads: list[str] = []
        self.bodies: list[bytes] = []

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Its URL, for as long as the context lasts, by the end of which each answer must have been fetched."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(30)
            thread = threading.Thread(target=self._run, args=(listener,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                thread.join(60)
                assert not thread.is_alive()
        assert len(self.heads) == len(self._answers)

    def _run(self, listener: socket.socket) -> None:
        for data in self._answers:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                return
            with connection:
                connection.settimeout(30)
                received = b""
                while b"\r\n\r\n" not in received and (piece := connection.recv(65536)):
                    received += piece
                head, _, body = received.partition(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
                )
                while len(body) < length and (piece := connection.recv(65536)):
                    body += piece
                self.heads.append(head.decode())
                self.bodies.append(body)
                connection.sendall(data)
