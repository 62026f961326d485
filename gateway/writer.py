"""An inbound data connection: batches in, puts started, answers out."""

from __future__ import annotations

import logging
import socket
import threading

from gateway.arrival import Arrival
from gateway.counters import Counter, Counters
from gateway.crypto import Sealer, seal_answer
from gateway.framing import seal_message
from gateway.handshake import Session
from gateway.manifest import Answer, encode_answer, encode_refusal
from gateway.opened import Transfers
from gateway.pool import Pool
from gateway.puts import Puts
from gateway.sockets import receive_into, shut
from gateway.threads import as_record
from gateway.wire import HEADER_SIZE, MAX_BODY, FrameOrder, FrameType, Header, empty, parse_header
from skyplane_core.errors import ErrorRecord, LinkLost, ProtocolError, SkyplaneError

_log = logging.getLogger(__name__)


class Writer:
    """What all inbound connections share."""

    def __init__(self, transfers: Transfers, pool: Pool, puts: Puts, counters: Counters) -> None:
        self.transfers = transfers
        self.pool = pool
        self.puts = puts
        self.counters = counters


class Inbound:
    """One authenticated inbound data connection."""

    def __init__(self, sock: socket.socket, session: Session, writer: Writer) -> None:
        self._sock = sock
        self._writer = writer
        self._refuser = Sealer(session.send_key)
        self._refusals = 0
        self._send_lock = threading.Lock()
        self._peer = session.peer
        self._alive = True
        self._clear = memoryview(bytearray(HEADER_SIZE))
        self._scratch = memoryview(bytearray(MAX_BODY))

    def serve(self) -> None:
        """Receive batches until the connection ends.

        Raises:
            LinkLost: it ended.
            ProtocolError: the peer sent something that is no batch; the connection is of no more use.
        """
        try:
            while True:
                self._batch()
        finally:
            self._alive = False

    def shut(self) -> None:
        """End the connection from another thread."""
        shut(self._sock)

    def _batch(self) -> None:
        """Receive one batch whole, whatever is wrong with it, so that the next one starts where it should."""
        order = FrameOrder(FrameType.MANIFEST)
        arrival: Arrival | None = None
        refusal: ErrorRecord | None = None
        first: Header | None = None
        replayed = False
        try:
            while not order.complete:
                header, body = self._frame()
                order.check(header)
                first = first or header
                if refusal is not None or replayed:
                    continue
                try:
                    if arrival is None:
                        transfer = self._writer.transfers.by_tag(header.transfer)
                        arrival = Arrival(transfer, header, self._writer.pool, self._writer.counters)
                    arrival.take(header, self._clear, body)
                    # Only now: before its tag was checked, anybody could have made a genuine batch look old.
                    if not header.frame and not arrival.transfer.is_new(header.salt):
                        replayed = True
                        _log.warning("a batch came a second time and was dropped", extra={"peer": self._peer})
                except Exception as error:  # noqa: BLE001 - becomes the result of the part that it happened to
                    refusal = as_record(error)
            if refusal is None and not replayed and arrival is not None and first is not None:
                whole, arrival = arrival, None
                self._store(whole, first)
        finally:
            if arrival is not None:
                arrival.release()
        if refusal is not None and first is not None:
            self._refuse(first, refusal)

    def _store(self, arrival: Arrival, header: Header) -> None:
        good, bad = arrival.verified()

        def done(answer: Answer) -> None:
            arrival.release()
            self._answer(arrival, header, Answer(answer.acks, (*bad, *answer.failures)))

        self._writer.puts.write(arrival.transfer, good, arrival.payload, lambda: self._alive, done)

    def _answer(self, arrival: Arrival, header: Header, answer: Answer) -> None:
        template = empty(header, FrameType.ACK)
        sealer = seal_answer(arrival.key, header.salt)
        try:
            frames = seal_message(template, encode_answer(answer), sealer, last=True, prefix=sealer.salt)
        except SkyplaneError as error:
            self._refuse(header, error.record())
            return
        with self._send_lock:
            self._send(frames)

    def _refuse(self, header: Header, error: ErrorRecord) -> None:
        """Say that a batch failed as a whole, sealed for the neighbour, since there may be no transfer key here."""
        with self._send_lock:
            template = empty(header, FrameType.REFUSE, self._refusals)
            self._refusals += 1
            self._send(seal_message(template, encode_refusal(error), self._refuser, last=True))

    def _send(self, frames: bytearray) -> None:
        try:
            self._sock.sendall(frames)
        except OSError:
            # The reader learns of the loss at its own end; here the next receive ends the connection.
            self._alive = False
            shut(self._sock)

    def _frame(self) -> tuple[Header, memoryview]:
        receive_into(self._sock, self._clear)
        header = parse_header(self._clear)
        if header.type not in (FrameType.MANIFEST, FrameType.DATA):
            raise ProtocolError(f"a frame of type {header.type.name} came from a reader")
        body = self._scratch[: header.wire_length]
        try:
            receive_into(self._sock, body)
        except LinkLost as error:
            raise LinkLost("the connection ended in the middle of a frame", why=error.why) from error
        self._writer.counters.add(Counter.WIRE_BYTES_RECEIVED, HEADER_SIZE + header.wire_length)
        return header, body
