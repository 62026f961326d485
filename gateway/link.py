"""A control link between the agents of two gateways: sealed messages both ways over one authenticated connection.

Each message is a 4-byte big-endian length and an AES-256-GCM unit; the nonce is the message's counter in its direction
and each direction has its own key, fresh for each connection, so no (key, nonce) pair repeats. Either side may have
dialled.
"""

from __future__ import annotations

import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.sockets import NETWORK, prepare, receive_into
from gateway.store_calls import StoreCall
from gateway.threads import log_unexpected
from skyplane_core.errors import ErrorRecord, LinkLost, SkyplaneError, from_record

MAX_MESSAGE = 64 * 1024 * 1024
CALL_SECONDS = 300.0
"""Bound on one call. Completing an object of 10,000 parts may take a store minutes."""
QUIET_SECONDS = 10.0
"""While a call waits, a peer that said nothing for so long is asked whether it is there, and given up as much later.
TCP alone does not tell: it goes on acknowledging for a process that is stopped, and a middlebox for a dead path."""

log = logging.getLogger(__name__)


class StoreRequest(msgspec.Struct, frozen=True, tag=True):
    """Perform a store call with the credentials that this gateway holds for that destination."""

    transfer_id: str
    destination: int
    call: StoreCall


class RenewExpiry(msgspec.Struct, frozen=True, tag=True):
    """The head says that a transfer is progressing."""


class Ping(msgspec.Struct, frozen=True, tag=True):
    """Are you there? Answered at once, however busy the peer is."""


Request = StoreRequest | RenewExpiry | Ping


class Asked(msgspec.Struct, frozen=True, tag=True):
    """A request on its way."""

    call_id: int
    request: Request


class Answered(msgspec.Struct, frozen=True, tag=True):
    """The encoded result, or what the peer raised."""

    call_id: int
    body: bytes = b""
    error: ErrorRecord | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Asked | Answered] = msgspec.msgpack.Decoder(Asked | Answered)


class Link:
    """One connection. ``call`` may be used from any thread; requests of the peer run on ``workers``.

    Args:
        peer: the other gateway's id, for messages.
        serve: performs a request of the peer and returns its encoded result; its SkyplaneErrors travel back.
        lost: told once, when the connection is gone.
    """

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        send_key: bytes,
        receive_key: bytes,
        *,
        serve: Callable[[Request], bytes],
        workers: ThreadPoolExecutor,
        lost: Callable[[Link], None],
    ) -> None:
        self.peer = peer
        self._sock = sock
        self._seal = AESGCM(send_key)
        self._open = AESGCM(receive_key)
        self._sent = itertools.count()
        self._received = itertools.count()
        self._send_lock = threading.Lock()
        self._calls: dict[int, Future[bytes]] = {}
        self._calls_lock = threading.Lock()
        self._ids = itertools.count(1)
        self._serve = serve
        self._workers = workers
        self._lost = lost
        self._closed = False
        self._heard = self._asked = time.monotonic()
        sock.settimeout(None)
        prepare(sock, NETWORK)
        threading.Thread(target=self._run, name=f"link-{peer}", daemon=True).start()

    def call(self, request: Request, timeout: float = CALL_SECONDS) -> bytes:
        """The peer's encoded result.

        Raises:
            SkyplaneError: what the peer raised.
            LinkLost: the connection broke, the peer fell silent, or no answer came in ``timeout`` seconds.
        """
        call_id = next(self._ids)
        future: Future[bytes] = Future()
        with self._calls_lock:
            if self._closed:
                raise self._gone()
            self._calls[call_id] = future
        try:
            try:
                self._send(Asked(call_id, request))
            except OSError as error:
                raise self._gone(str(error)) from error
            # Apart from the sending: this timeout is an OSError, too, since Python 3.11, and means something else.
            return self._wait(future, timeout)
        except FutureTimeout as error:
            raise LinkLost("a gateway does not answer", where=self.peer, why=f"no answer in {timeout:.0f} s") from error
        finally:
            with self._calls_lock:
                self._calls.pop(call_id, None)

    def close(self) -> None:
        """Shut the connection; pending calls fail with LinkLost."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            log.debug("link was already down", extra={"fields": {"peer": self.peer, "why": str(error)}})

    def _wait(self, future: Future[bytes], timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        while True:
            remaining = deadline - time.monotonic()
            try:
                return future.result(max(0.0, min(remaining, QUIET_SECONDS / 2)))
            except FutureTimeout:
                if remaining <= QUIET_SECONDS / 2:
                    raise
            self._probe(time.monotonic())

    def _probe(self, now: float) -> None:
        """Ask a silent peer whether it is there; end the link to one that did not answer the last time."""
        with self._calls_lock:
            quiet = now - max(self._heard, self._asked) >= QUIET_SECONDS
            silent = quiet and self._asked > self._heard
            if quiet:
                self._asked = now
        if silent:
            log.warning("a peer has fallen silent", extra={"fields": {"peer": self.peer}})
            self.close()
        elif quiet:
            try:
                self._send(Asked(next(self._ids), Ping()))
            except OSError as error:
                raise self._gone(str(error)) from error

    def _gone(self, why: str = "the connection is closed") -> LinkLost:
        return LinkLost("the control link to a gateway is down", where=self.peer, why=why)

    def _send(self, message: Asked | Answered) -> None:
        plain = _encoder.encode(message)
        with self._send_lock:
            nonce = next(self._sent).to_bytes(12, "big")
            sealed = self._seal.encrypt(nonce, plain, None)
            self._sock.sendall(len(sealed).to_bytes(4, "big") + sealed)

    def _run(self) -> None:
        why = ""
        try:
            while True:
                message = self._receive()
                self._heard = time.monotonic()
                if isinstance(message, Asked) and isinstance(message.request, Ping):
                    self._reply(Answered(message.call_id))
                elif isinstance(message, Asked):
                    self._workers.submit(self._answer, message)
                else:
                    self._resolve(message)
        except LinkLost as error:
            why = error.why or error.what
        except (InvalidTag, msgspec.MsgspecError, UnicodeDecodeError, RuntimeError) as error:
            # Text that is no UTF-8 and nesting without end have exceptions of their own (UnicodeDecodeError,
            # RecursionError); whoever waits for an answer must hear of each. Its text may quote what was sent.
            why = type(error).__name__
        log.info("link closed", extra={"fields": {"peer": self.peer, "why": why}})
        self._sock.close()
        with self._calls_lock:
            self._closed = True
            pending = list(self._calls.values())
        for future in pending:
            future.set_exception(self._gone(why))
        self._lost(self)

    def _receive(self) -> Asked | Answered:
        size = int.from_bytes(self._exactly(4), "big")
        if size > MAX_MESSAGE:
            raise LinkLost("a message is too long", where=self.peer, why=f"{size} bytes")
        nonce = next(self._received).to_bytes(12, "big")
        return _decoder.decode(self._open.decrypt(nonce, self._exactly(size), None))

    def _exactly(self, size: int) -> bytearray:
        buffer = bytearray(size)
        receive_into(self._sock, memoryview(buffer))
        return buffer

    def _resolve(self, answer: Answered) -> None:
        with self._calls_lock:
            future = self._calls.pop(answer.call_id, None)
        if future is None:
            return
        if answer.error is not None:
            future.set_exception(from_record(answer.error))
        else:
            future.set_result(answer.body)

    def _answer(self, asked: Asked) -> None:
        try:
            answer = Answered(asked.call_id, self._serve(asked.request))
        except SkyplaneError as error:
            answer = Answered(asked.call_id, error=error.record())
        except Exception as error:  # noqa: BLE001 - a bug of ours must reach the head as an error, not as silence
            log_unexpected(error)
            why = type(error).__name__
            answer = Answered(asked.call_id, error=ErrorRecord("GatewayRefused", "internal error", self.peer, why))
        self._reply(answer)

    def _reply(self, answer: Answered) -> None:
        try:
            self._send(answer)
        except OSError as error:
            log.info("an answer could not be sent", extra={"fields": {"peer": self.peer, "why": str(error)}})
