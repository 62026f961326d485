"""Reading HTTP answers from a connection: heads through a small buffer, bodies past it into the caller's."""

from __future__ import annotations

import re
import socket

from skyplane_core.stores.base import LANDING, Landed
from skyplane_core.stores.http_head import HEAD_LIMIT, BadAnswerError, Head, parse

_BUFFER = 16 * 1024
"""Holds a head with what came in the same segments: an object of some KiB takes one call of the kernel."""
_PIECE = 64 * 1024
_MOST_INTERIM = 16
_TRAILERS_LIMIT = 64 * 1024
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?\r?\n")


class Incoming:
    """What comes on one connection. Answers are to be read one after the other, each to its end."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = memoryview(bytearray(_BUFFER))
        self._start = self._end = 0

    @property
    def leftover(self) -> bool:
        """Whether bytes are here that nobody has read: after an answer, such as nobody asked for."""
        return self._start < self._end

    def head(self, method: str) -> Head:
        """The head of the next answer, past interim ones.

        Raises:
            ConnectionError: the connection ended before the first byte.
            BadAnswerError: it broke off, is too large, or is no head.
            OSError: nothing came in time.
        """
        for _ in range(_MOST_INTERIM):
            head = parse(self._block(), method)
            # 101 is final, though nobody here asks for another protocol.
            if head.status >= 200 or head.status == 101:
                return head
        raise BadAnswerError("interim answers without end")

    def fill(self, head: Head, buffer: memoryview, landed: Landed | None = None) -> None:
        """Read a body that must fill ``buffer`` exactly.

        Args:
            landed: see :meth:`skyplane_core.stores.base.DataPath.read_into`.

        Raises:
            BadAnswerError: it is shorter or longer.
        """
        wanted = len(buffer)
        if head.length is not None and head.length != wanted:
            raise BadAnswerError(f"{head.length} bytes announced, {wanted} asked for")
        read = self.some if head.length is not None else _Unmeasured(self, chunked=head.chunked).some
        got = told = 0
        while got < wanted:
            count = read(buffer[got : told + LANDING] if landed else buffer[got:])
            if not count:
                raise BadAnswerError(f"the body ended after {got} of {wanted} bytes")
            got += count
            if landed and got - told >= LANDING:
                landed(got)
                told = got
        # Among lines that are no headers may have been the length; then waiting for the end could take for ever.
        if head.length is None and not head.headers.defects and read(memoryview(bytearray(1))):
            raise BadAnswerError(f"more than the {wanted} bytes asked for")

    def body(self, head: Head, limit: int) -> bytes:
        """A body, or its first ``limit`` bytes, after which the connection is of no more use.

        Raises:
            BadAnswerError: it is shorter than announced.
        """
        if head.length is None:
            read, pieces, left = _Unmeasured(self, chunked=head.chunked).some, bytearray(), limit
            scratch = memoryview(bytearray(_PIECE))
            while left and (count := read(scratch[:left])):
                pieces += scratch[:count]
                left -= count
            return bytes(pieces)
        wanted = min(head.length, limit)
        if not wanted:
            return b""
        kept = bytearray(wanted)
        view, got = memoryview(kept), 0
        while got < wanted:
            count = self.some(view[got:])
            if not count:
                raise BadAnswerError(f"the body ended after {got} of {head.length} bytes")
            got += count
        return bytes(kept)

    def some(self, view: memoryview) -> int:
        """Up to ``len(view)`` of the bytes that come next; 0 at their end."""
        start = self._start
        count = min(self._end - start, len(view))
        if not count:
            return self._connection.recv_into(view)
        self._start = start + count
        view[:count] = self._buffer[start : self._start]
        return count

    def line(self, limit: int) -> bytes:
        """The next line, with its end."""
        line = bytearray()
        while len(line) < limit:
            if not self.leftover and not self._receive():
                break
            came = bytes(self._buffer[self._start : self._end])
            end = came.find(b"\n") + 1
            line += came[:end] if end else came
            self._start += end or len(came)
            if end:
                return bytes(line)
        raise BadAnswerError("a line of the body's framing broke off, or is too long")

    def _block(self) -> bytes:
        """Bytes up to the empty line that ends a head."""
        taken = b""
        while True:
            if not self.leftover and not self._receive():
                if not taken:
                    raise ConnectionResetError("the server closed the connection without an answer")
                raise BadAnswerError("the answer's head broke off")
            seen = len(taken)
            taken += bytes(self._buffer[self._start : self._end])
            end = _HEAD_END.search(taken, max(0, seen - 3))
            if end is not None:
                self._start += end.end() - seen
                return taken[: end.start()]
            self._start = self._end
            if len(taken) > HEAD_LIMIT:
                raise BadAnswerError(f"the answer's head has more than {HEAD_LIMIT} bytes")

    def _receive(self) -> int:
        self._start = 0
        self._end = 0
        self._end = self._connection.recv_into(self._buffer)
        return self._end


class _Unmeasured:
    """A body without a length: in chunks, or up to the end of the connection."""

    def __init__(self, incoming: Incoming, *, chunked: bool) -> None:
        self._incoming = incoming
        self._chunked = chunked
        self._left = 0
        self._began = False
        self._ended = False

    def some(self, view: memoryview) -> int:
        """As :meth:`Incoming.some`, of the body's own bytes."""
        if not self._chunked:
            return self._incoming.some(view)
        if not self._left and not self._ended:
            self._next()
        if self._ended:
            return 0
        count = self._incoming.some(view[: self._left])
        if not count:
            raise BadAnswerError("the body ended within a chunk")
        self._left -= count
        return count

    def _next(self) -> None:
        if self._began and self._incoming.line(2) not in (b"\r\n", b"\n"):
            raise BadAnswerError("a chunk is longer than announced")
        self._began = True
        size = _CHUNK_SIZE.fullmatch(self._incoming.line(_PIECE))
        if size is None:
            raise BadAnswerError("no size of a chunk")
        self._left = int(size[1], 16)
        if self._left:
            return
        self._ended = True
        trailers = 0
        while (line := self._incoming.line(_PIECE)) not in (b"\r\n", b"\n"):
            trailers += len(line)
            if trailers > _TRAILERS_LIMIT:
                raise BadAnswerError("trailers without end")
