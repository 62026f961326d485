"""The receiving side of a connection: lines, bodies of fixed length, chunked bodies; all into the caller's memory."""

# ruff: noqa: D102 - the docstrings of the interfaces that these classes have hold.
from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable

from skyplane_core.testing.objectserver.messages import ConnectionLost

LINE_LIMIT = 64 << 10
"""Bytes of a request head, or of a line within a body, at most."""


class Pacer:
    """Holds one direction of a connection to ``rate`` bytes per second (0: no limit)."""

    def __init__(self, rate: float, sleep: Callable[[float], None]) -> None:
        self.rate = rate
        self._sleep = sleep
        self._due = 0.0

    @property
    def slice(self) -> int:
        """Bytes to move at a time, so that the rate is even within some 20 ms."""
        return max(4096, int(self.rate * 0.02)) if self.rate else 1 << 30

    def moved(self, count: int) -> None:
        """Wait until ``count`` more bytes are allowed to have been moved."""
        if not self.rate:
            return
        now = time.monotonic()
        self._due = max(self._due, now) + count / self.rate
        if self._due > now:
            self._sleep(self._due - now)


class Stream:
    """Buffered reads from a blocking socket. Large reads go straight into the caller's memory."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._flags = 0 if isinstance(sock, ssl.SSLSocket) else socket.MSG_WAITALL
        self._buffer = bytearray(LINE_LIMIT)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self.received = 0

    def _receive(self, view: memoryview, flags: int = 0) -> int:
        count = self._sock.recv_into(view, len(view), flags) if flags else self._sock.recv_into(view)
        self.received += count
        return count

    def read_until(self, marker: bytes) -> bytes | None:
        """Everything up to ``marker``, which is consumed too. None if the peer closed before sending a byte.

        Raises:
            ConnectionLost: it closed in the middle, or the limit was passed.
        """
        searched = self._start
        while True:
            found = self._buffer.find(marker, searched, self._end)
            if found >= 0:
                data = bytes(self._view[self._start : found])
                self._start = found + len(marker)
                return data
            searched = max(self._start, self._end - len(marker) + 1)
            if self._start and self._end == len(self._buffer):
                pending = bytes(self._view[self._start : self._end])
                self._view[: len(pending)] = pending
                searched -= self._start
                self._start, self._end = 0, len(pending)
            if self._end == len(self._buffer):
                raise ConnectionLost("a line is longer than this server accepts")
            got = self._receive(self._view[self._end :])
            if not got:
                if self._start == self._end:
                    return None
                raise ConnectionLost("the client closed in the middle of a line")
            self._end += got

    def readinto(self, view: memoryview) -> int:
        """Between 1 and ``len(view)`` bytes, nearly always all of them; 0 only when the peer has closed."""
        ready = self._end - self._start
        if ready:
            count = min(ready, len(view))
            view[:count] = self._view[self._start : self._start + count]
            self._start += count
            if self._start == self._end:
                self._start = self._end = 0
            return count
        if len(view) < LINE_LIMIT // 4 and not self._flags:
            return self._receive(view)
        return self._receive(view, self._flags)


class FixedBody:
    """A body of ``length`` bytes. ``begin`` is called before the first byte is read (100 Continue)."""

    def __init__(self, stream: Stream, length: int, pacer: Pacer, begin: Callable[[], None]) -> None:
        self._stream = stream
        self._left = length
        self._pacer = pacer
        self._begin: Callable[[], None] | None = begin

    @property
    def finished(self) -> bool:
        return self._left == 0

    def limit(self, rate: float) -> None:
        """From now on at most ``rate`` bytes per second."""
        self._pacer.rate = rate

    def readinto(self, view: memoryview) -> int:
        if not self._left:
            return 0
        if self._begin is not None:
            self._begin()
            self._begin = None
        got = self._stream.readinto(view[: min(self._left, len(view), self._pacer.slice)])
        if not got:
            raise ConnectionLost(f"the body ended {self._left} bytes early")
        self._left -= got
        self._pacer.moved(got)
        return got


class ChunkedBody:
    """A body in HTTP's chunked transfer coding; trailers are read and dropped."""

    def __init__(self, stream: Stream, pacer: Pacer, begin: Callable[[], None]) -> None:
        self._stream = stream
        self._pacer = pacer
        self._begin: Callable[[], None] | None = begin
        self._left = 0
        self.finished = False

    def limit(self, rate: float) -> None:
        """From now on at most ``rate`` bytes per second."""
        self._pacer.rate = rate

    def _line(self) -> bytes:
        line = self._stream.read_until(b"\r\n")
        if line is None:
            raise ConnectionLost("the chunked body ended early")
        return line

    def readinto(self, view: memoryview) -> int:
        if self.finished:
            return 0
        if self._begin is not None:
            self._begin()
            self._begin = None
        if not self._left:
            try:
                self._left = int(self._line().partition(b";")[0], 16)
            except ValueError:
                raise ConnectionLost("the chunked body is malformed") from None
            if not self._left:
                while self._line():
                    pass
                self.finished = True
                return 0
        got = self._stream.readinto(view[: min(self._left, len(view), self._pacer.slice)])
        if not got:
            raise ConnectionLost("the chunked body ended early")
        self._left -= got
        self._pacer.moved(got)
        if not self._left:
            self._line()
        return got
