"""One onward connection of a relay: batches out, one at a time, and answers back to wherever each batch came from."""

from __future__ import annotations

import logging
import socket
import threading
from typing import Final, NamedTuple, Protocol

from gateway.counters import Counter, Counters
from gateway.handshake import Session
from gateway.pump import OnwardBrokenError, Pump
from gateway.refusals import Refusals
from gateway.sockets import receive_into, shut
from gateway.wire import HEADER_SIZE, FrameOrder, FrameType, Header, parse_header
from skyplane_core.errors import ErrorRecord, LinkLost, ProtocolError, SkyplaneError, from_record

_log = logging.getLogger(__name__)

MOST_UNANSWERED: Final = 4096
"""Batches without an answer on one connection; readers stay far below it (their leases are bounded)."""


class Origin(Protocol):
    """Where a batch came from; both calls do nothing once that connection is gone."""

    def forward(self, frames: bytearray) -> None:
        """Send a whole answer back."""

    def refuse(self, header: Header, error: ErrorRecord) -> None:
        """Say that the batch, whose first header this is, failed as a whole."""


class _Passed(NamedTuple):
    origin: Origin
    header: Header


class Onward:
    """A live connection to the next gateway. One thread passes batches on, another one reads answers.

    The socket is closed when both have left it, never under the feet of one of them: it is used by its number.
    """

    def __init__(self, sock: socket.socket, session: Session, counters: Counters) -> None:
        self.peer = session.peer
        self._sock = sock
        self._refusals = Refusals(session.receive_key)
        self._counters = counters
        self._lock = threading.Lock()
        self._unanswered: dict[bytes, _Passed] = {}
        self._error: SkyplaneError | None = None
        self._users = 1

    @property
    def lost(self) -> bool:
        return self._error is not None

    def enter(self) -> bool:
        """Take the connection for a batch; False if it is lost."""
        with self._lock:
            if self._error is not None:
                return False
            self._users += 1
            return True

    def leave(self) -> None:
        """Whoever entered leaves."""
        with self._lock:
            self._users -= 1
            last = not self._users
        if last:
            self._sock.close()

    def expect(self, origin: Origin, header: Header) -> None:
        """A batch with this first header is about to be passed on: its answer goes to ``origin``."""
        with self._lock:
            if self._error is not None:
                raise from_record(self._error.record())
            if len(self._unanswered) >= MOST_UNANSWERED or header.salt in self._unanswered:
                raise ProtocolError("a batch that is on its way already, or one too many", where=self.peer)
            self._unanswered[header.salt] = _Passed(origin, header)

    def drop(self, salt: bytes) -> bool:
        """Expect no answer to that batch any more; False if it was answered or refused meanwhile."""
        with self._lock:
            return self._unanswered.pop(salt, None) is not None

    def pass_frame(self, clear: memoryview, source: socket.socket, size: int, pump: Pump) -> None:
        """Send a header and the ``size`` bytes that follow it on ``source``.

        Raises:
            LinkLost: ``source`` ended before that.
            OnwardBrokenError: this connection broke.
        """
        try:
            self._sock.sendall(clear, socket.MSG_MORE)
        except OSError as error:
            raise OnwardBrokenError(0, error) from error
        pump.move(source, self._sock, size)
        self._counters.add(Counter.WIRE_BYTES_RELAYED, HEADER_SIZE + size)

    def read_answers(self) -> None:
        """Until the connection ends, send each answer back to where its batch came from."""
        try:
            while True:
                self._answer()
        except SkyplaneError as error:
            self.lose(LinkLost("the connection to the next gateway was lost", where=self.peer, why=error.what))
        finally:
            self.leave()

    def lose(self, error: SkyplaneError) -> None:
        """End the connection; what is not answered is refused."""
        with self._lock:
            first = self._error is None
            if first:
                self._error = error
            waiting, self._unanswered = list(self._unanswered.values()), {}
        if first:
            _log.info("onward connection lost", extra={"peer": self.peer, "batches": len(waiting), "reason": error.why})
        shut(self._sock)
        for passed in waiting:
            passed.origin.refuse(passed.header, error.record())

    def _answer(self) -> None:
        frames = bytearray()
        header = self._frame(frames)
        if header.type is FrameType.REFUSE:
            self._refusal(header, frames)
            return
        # Whole before any of it goes back: two answers must not mix on a connection that several onward ones feed.
        order = FrameOrder(FrameType.ACK)
        order.check(header)
        while not order.complete:
            order.check(self._frame(frames))
        passed = self._settled(header)
        if passed is not None:
            passed.origin.forward(frames)

    def _refusal(self, header: Header, frames: bytearray) -> None:
        view = memoryview(frames)
        record = self._refusals.read(header, view[:HEADER_SIZE], view[HEADER_SIZE:])
        passed = self._settled(header)
        if passed is not None:
            passed.origin.refuse(passed.header, record)

    def _settled(self, header: Header) -> _Passed | None:
        with self._lock:
            return self._unanswered.pop(header.salt, None)

    def _frame(self, frames: bytearray) -> Header:
        """Append the next frame to ``frames``, which FrameOrder keeps within the bounds of an answer."""
        clear = memoryview(bytearray(HEADER_SIZE))
        receive_into(self._sock, clear)
        header = parse_header(clear)
        if header.type not in (FrameType.ACK, FrameType.REFUSE):
            raise ProtocolError(f"a frame of type {header.type.name} came from a writer")
        body = memoryview(bytearray(header.wire_length))
        receive_into(self._sock, body)
        frames += clear
        frames += body
        return header
