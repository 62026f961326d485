"""An inbound data connection: batches in, to be put here or passed on to another gateway; answers out."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Callable
from typing import Final

from gateway.arrival import Arrival
from gateway.counters import Counter, Counters
from gateway.course import SMALL_FRAME
from gateway.crypto import Sealer, seal_answer
from gateway.framing import seal_message
from gateway.handshake import Session
from gateway.manifest import Answer, encode_answer, encode_refusal
from gateway.onward import Onward
from gateway.opened import Transfer, Transfers
from gateway.pool import Pool
from gateway.pump import OnwardBrokenError, Pump, new_pump
from gateway.puts import Puts
from gateway.relay import Relay
from gateway.scattered import Gathering, Scattered
from gateway.sockets import hung_up, receive_into, shut
from gateway.threads import as_record
from gateway.wire import HEADER_SIZE, MAX_BODY, TAG_SIZE, FrameOrder, FrameType, Header, empty, parse_header
from skyplane_core.errors import ErrorRecord, LinkLost, ProtocolError, SkyplaneError

_log = logging.getLogger(__name__)

STALL_SECONDS: Final = 30
"""How long a sender may be silent in the middle of a batch that is passed on: it holds an onward connection so long."""
ANSWER_SECONDS: Final = 60
"""How long a connection that has to end stays open for the answers that its puts still owe."""

_SMALL_BODY: Final = SMALL_FRAME + TAG_SIZE
"""Where connections are many, none has larger frames; one that has gets the memory for them when the first comes."""


class _SeenBeforeError(Exception):
    """A batch came a second time."""


class Writer:
    """What all inbound connections share."""

    def __init__(self, transfers: Transfers, pool: Pool, puts: Puts, relay: Relay, counters: Counters) -> None:
        self.transfers = transfers
        self.pool = pool
        self.puts = puts
        self.relay = relay
        self.counters = counters
        self.gathering = Gathering()


class Inbound:
    """One authenticated inbound data connection, whoever opened it. ``began`` is told of each batch that begins."""

    def __init__(
        self,
        sock: socket.socket,
        session: Session,
        writer: Writer,
        began: Callable[[Inbound], None] = lambda _inbound: None,
    ) -> None:
        self._sock = sock
        self._began = began
        self._writer = writer
        self._refuser = Sealer(session.send_key)
        self._refusals = 0
        self._send_lock = threading.Lock()
        self._peer = session.peer
        self._alive = True
        self._answered = threading.Condition()
        self._to_answer = 0
        self._clear = memoryview(bytearray(HEADER_SIZE))
        self._scratch = memoryview(bytearray(_SMALL_BODY))
        self._pump: Pump | None = None

    def serve(self) -> None:
        """Receive batches until the connection ends.

        Raises:
            LinkLost: it ended.
            ProtocolError: the peer sent something that is no batch, or one again; the connection is of no more use.
        """
        try:
            while True:
                self._batch()
        except _SeenBeforeError as again:
            # Another batch may have been taken away for it, whose reader has to learn that it is lost. What came before
            # is answered first: whoever repeats every batch slows a transfer down, and does not bring it to a halt.
            self._writer.gathering.wait_for(self, ANSWER_SECONDS)
            self._await_answers()
            raise ProtocolError("a batch came a second time", where=self._peer) from again
        finally:
            self._alive = False
            self._writer.gathering.abandon(self)
            if self._pump is not None:
                self._pump.close()

    def shut(self) -> None:
        """End the connection from another thread."""
        shut(self._sock)

    def close(self) -> None:
        """Close the socket, once :meth:`serve` is over."""
        self._sock.close()

    # --- what an onward connection asks of where a batch came from ---------------------------------------------------

    def forward(self, frames: bytearray) -> None:
        """Send a whole answer of the next gateway back, unread."""
        with self._send_lock:
            self._send(frames)

    def refuse(self, header: Header, error: ErrorRecord) -> None:
        """Say that a batch failed as a whole, sealed for the neighbour, since there may be no transfer key here."""
        with self._send_lock:
            template = empty(header, FrameType.REFUSE, self._refusals)
            self._refusals += 1
            self._send(seal_message(template, encode_refusal(error), self._refuser, last=True))

    # --- batches -----------------------------------------------------------------------------------------------------

    def _batch(self) -> None:
        first = self._header()
        self._began(self)
        if first.scattered:
            self._gather(first)
            return
        try:
            transfer = self._writer.transfers.by_tag(first.transfer)
            hop = transfer.onward(first.way)
            if hop and self._pump is None:
                self._pump = new_pump()
            onward = self._writer.relay.take(hop) if hop else None
            if onward is not None:
                self._expect(onward, first)
        except SkyplaneError as error:
            self._receive(first, None, error.record())
            return
        if onward is None:
            self._receive(first, transfer, None)
        else:
            self._pass_on(first, onward)

    def _receive(self, first: Header, transfer: Transfer | None, refusal: ErrorRecord | None) -> None:
        """Receive one batch whole, whatever is wrong with it, so that the next one starts where it should."""
        order = FrameOrder(FrameType.MANIFEST)
        arrival: Arrival | None = None
        header = first
        try:
            while True:
                body = self._body(header.wire_length)
                order.check(header)
                if refusal is None and transfer is not None:
                    try:
                        if arrival is None:
                            arrival = Arrival(transfer, header, self._writer.pool, self._writer.counters)
                        arrival.take(header, self._clear, body)
                    except Exception as error:  # noqa: BLE001 - becomes the result of the part that it happened to
                        refusal = as_record(error)
                    else:
                        # Only now: before its tag was checked, anybody could have made a genuine batch look old.
                        if not header.frame and not transfer.is_new(header.salt):
                            raise _SeenBeforeError
                if order.complete:
                    break
                header = self._header()
            if refusal is None and arrival is not None:
                whole, arrival = arrival, None
                self.store(whole, first)
        finally:
            if arrival is not None:
                arrival.release()
        if refusal is not None:
            self.refuse(first, refusal)

    def _gather(self, header: Header) -> None:
        """Receive the beginning of a scattered batch, or one more of its frames, perhaps on the way of another."""
        gathering = self._writer.gathering
        if header.type is FrameType.MANIFEST:
            self._begin(header)
            return
        body = self._body(header.wire_length)
        batch = gathering.find(header.salt, lambda: hung_up(self._sock))
        if batch is not None and batch.take(header, self._clear, body):
            gathering.over(header.salt)

    def _begin(self, first: Header) -> None:
        """Receive the manifest of a scattered batch and its first frame of data, whatever is wrong with them."""
        order = FrameOrder(FrameType.MANIFEST)
        arrival: Arrival | None = None
        refusal: ErrorRecord | None = None
        header = first
        try:
            while True:
                body = self._body(header.wire_length)
                order.check(header)
                if order.complete:
                    raise ProtocolError("a scattered batch has no more than one connection needs")
                if refusal is None:
                    try:
                        if arrival is None:
                            transfer = self._writer.transfers.by_tag(first.transfer)
                            arrival = Arrival(transfer, header, self._writer.pool, self._writer.counters)
                        arrival.take(header, self._clear, body)
                    except Exception as error:  # noqa: BLE001 - becomes the result of the part that it happened to
                        refusal = as_record(error)
                    else:
                        if not header.frame and not arrival.transfer.is_new(header.salt):
                            raise _SeenBeforeError
                if header.type is FrameType.DATA:
                    break
                header = self._header()
            if refusal is None and arrival is not None:
                self._writer.gathering.begin(first.salt, Scattered(arrival, first, header, self))
                arrival = None
        finally:
            if arrival is not None:
                arrival.release()
        if refusal is not None:
            self._writer.gathering.over(first.salt)
            self.refuse(first, refusal)

    def _expect(self, onward: Onward, first: Header) -> None:
        try:
            onward.expect(self, first)
        except SkyplaneError:
            self._writer.relay.give_back(onward)
            raise

    def _pass_on(self, first: Header, onward: Onward) -> None:
        """Move one batch on, frame by frame. Its answer comes back through :meth:`forward` or :meth:`refuse`."""
        pump = self._pump
        if pump is None:
            raise RuntimeError("a batch is passed on without a pump")
        order = FrameOrder(FrameType.MANIFEST)
        header = first
        try:
            _limit_silence(self._sock, STALL_SECONDS)
            while True:
                order.check(header)
                onward.pass_frame(self._clear, self._sock, header.wire_length, pump)
                self._writer.counters.add(Counter.WIRE_BYTES_RECEIVED, HEADER_SIZE + header.wire_length)
                if order.complete:
                    return
                header = self._header()
        except OnwardBrokenError as error:
            lost = LinkLost("the connection to the next gateway broke", where=onward.peer, why=str(error))
            if onward.drop(first.salt):
                self.refuse(first, lost.record())
            onward.lose(lost)
            self._drain(header, header.wire_length - error.taken, order)
        except SkyplaneError as error:
            # Half a batch is on the onward connection, which is of no more use.
            onward.drop(first.salt)
            onward.lose(LinkLost("a batch broke off on its way", where=onward.peer, why=error.why or error.what))
            raise
        finally:
            self._writer.relay.give_back(onward)
            _limit_silence(self._sock, 0)

    def _drain(self, header: Header, left: int, order: FrameOrder) -> None:
        """Take the rest of a batch off the connection, from the last ``left`` bytes of the frame ``header`` on."""
        self._body(left)
        while not order.complete:
            header = self._header()
            order.check(header)
            self._body(header.wire_length)

    def store(self, arrival: Arrival, header: Header) -> None:
        """Put a whole batch, answer it and release its buffer."""
        good, bad = arrival.verified()

        def done(answer: Answer) -> None:
            arrival.release()
            try:
                self._answer(arrival, header, Answer(answer.acks, (*bad, *answer.failures)))
            finally:
                with self._answered:
                    self._to_answer -= 1
                    self._answered.notify_all()

        with self._answered:
            self._to_answer += 1
        self._writer.puts.write(arrival.transfer, good, arrival.payload, lambda: self._alive, done)

    def _await_answers(self) -> None:
        with self._answered:
            self._answered.wait_for(lambda: not self._to_answer, timeout=ANSWER_SECONDS)

    def _answer(self, arrival: Arrival, header: Header, answer: Answer) -> None:
        template = empty(header, FrameType.ACK)
        sealer = seal_answer(arrival.key, header.salt)
        try:
            frames = seal_message(template, encode_answer(answer), sealer, last=True, prefix=sealer.salt)
        except SkyplaneError as error:
            self.refuse(header, error.record())
            return
        with self._send_lock:
            self._send(frames)

    def _send(self, frames: bytearray) -> None:
        try:
            self._sock.sendall(frames)
        except OSError:
            # The reader learns of the loss at its own end; here the next receive ends the connection.
            self._alive = False
            shut(self._sock)

    def _header(self) -> Header:
        receive_into(self._sock, self._clear)
        header = parse_header(self._clear)
        if header.type not in (FrameType.MANIFEST, FrameType.DATA):
            raise ProtocolError(f"a frame of type {header.type.name} came from a reader")
        return header

    def _body(self, size: int) -> memoryview:
        if size > len(self._scratch):
            self._scratch = memoryview(bytearray(MAX_BODY))
        body = self._scratch[:size]
        try:
            receive_into(self._sock, body)
        except LinkLost as error:
            raise LinkLost("the connection ended in the middle of a frame", why=error.why) from error
        self._writer.counters.add(Counter.WIRE_BYTES_RECEIVED, HEADER_SIZE + size)
        return body


def _limit_silence(sock: socket.socket, seconds: int) -> None:
    """Have calls that wait for ``sock`` fail after so long; 0: never. Python's own timeouts know nothing of splice."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", seconds, 0))
