"""A control link between the agents of two gateways: sealed messages both ways over one authenticated connection.

Each message is a 4-byte big-endian length and an AES-256-GCM unit; the nonce is the message's counter in its direction
and each direction has its own key, fresh for each connection, so no (key, nonce) pair repeats. Either side may have
dialled.

All gateways of a dataplane know the secret that opens a link, relays too. What only readers and writers may ask and
answer therefore carries a proof under the transfer's key, which no relay has, bound to this very connection.
"""

from __future__ import annotations

import hashlib
import hmac
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

from gateway.sockets import DEFAULT, prepare, receive_into
from gateway.store_calls import StoreCall
from gateway.threads import log_unexpected
from skyplane_core.errors import ErrorRecord, GatewayRefused, LinkLost, SkyplaneError, from_record
from skyplane_core.model import Lease, LeaseResult

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


class Pulse(msgspec.Struct, frozen=True, tag=True):
    """The head asks whether this gateway is there. The answer is a number that changes when bytes move on it."""


class ExecuteLeases(msgspec.Struct, frozen=True, tag=True):
    """The head hands leases to this reader; results go back in :class:`LeasesDone`. Repeated, it is done twice."""

    transfer_id: str
    leases: tuple[Lease, ...]


class LeasesDone(msgspec.Struct, frozen=True, tag=True):
    """A reader tells the head what became of leases."""

    transfer_id: str
    results: tuple[LeaseResult, ...]


class Ping(msgspec.Struct, frozen=True, tag=True):
    """Are you there? Answered at once, however busy the peer is."""


Request = StoreRequest | RenewExpiry | Pulse | ExecuteLeases | LeasesDone | Ping


class Asked(msgspec.Struct, frozen=True, tag=True):
    """A request on its way, encoded. ``proof``: see :meth:`Link.call`."""

    call_id: int
    body: bytes
    proof: bytes = b""


class Answered(msgspec.Struct, frozen=True, tag=True):
    """The encoded result, or what the peer raised."""

    call_id: int
    body: bytes = b""
    error: ErrorRecord | None = None
    proof: bytes = b""


class Caller:
    """Who sent a request.

    Args:
        proves: whether the request carries a proof under a key.
    """

    def __init__(self, peer: str, proves: Callable[[bytes], bool]) -> None:
        self.peer = peer
        self.key = b""
        self._proves = proves

    def check(self, key: bytes) -> None:
        """Go on only if the peer has this transfer's key; the answer will show that we have it, too.

        Raises:
            GatewayRefused: it has not.
        """
        if not key or not self._proves(key):
            raise GatewayRefused("a peer asked for what takes a transfer's key, without having it", where=self.peer)
        self.key = key


_request_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_encoder = msgspec.msgpack.Encoder()
_PING = _encoder.encode(Ping())
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
        serve: Callable[[Caller, Request], bytes],
        workers: ThreadPoolExecutor,
        lost: Callable[[Link], None],
    ) -> None:
        self.peer = peer
        self._sock = sock
        self._mine = hashlib.sha256(send_key + receive_key).digest()
        self._theirs = hashlib.sha256(receive_key + send_key).digest()
        self._seal = AESGCM(send_key)
        self._open = AESGCM(receive_key)
        self._sent = itertools.count()
        self._received = itertools.count()
        self._send_lock = threading.Lock()
        self._calls: dict[int, Future[Answered]] = {}
        self._calls_lock = threading.Lock()
        self._ids = itertools.count(1)
        self._serve = serve
        self._workers = workers
        self._lost = lost
        self._closed = False
        self._heard = self._asked = time.monotonic()
        sock.settimeout(None)
        prepare(sock, DEFAULT)
        threading.Thread(target=self._run, name=f"link-{peer}", daemon=True).start()

    def call(self, request: Request, timeout: float = CALL_SECONDS, key: bytes = b"") -> bytes:
        """The peer's encoded result.

        Args:
            key: the transfer's, where the peer is to see that we have it, and has to show that it has it.

        Raises:
            SkyplaneError: what the peer raised.
            LinkLost: the connection broke, the peer fell silent, no answer came in ``timeout`` seconds, or it was of
                somebody without the key.
        """
        call_id = next(self._ids)
        future: Future[Answered] = Future()
        body = _encoder.encode(request)
        proof = _proof(key, self._mine, call_id, b"asked", body)
        with self._calls_lock:
            if self._closed:
                raise self._gone()
            self._calls[call_id] = future
        try:
            try:
                self._send(Asked(call_id, body, proof))
            except OSError as error:
                raise self._gone(str(error)) from error
            # Apart from the sending: this timeout is an OSError, too, since Python 3.11, and means something else.
            return self._result(self._wait(future, timeout), key)
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
            log.debug("link was already down", extra={"peer": self.peer, "why": str(error)})

    def _wait(self, future: Future[Answered], timeout: float) -> Answered:
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
            log.warning("a peer has fallen silent", extra={"peer": self.peer})
            self.close()
        elif quiet:
            try:
                self._send(Asked(next(self._ids), _PING))
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
                if isinstance(message, Asked) and message.body == _PING:
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
        log.info("link closed", extra={"peer": self.peer, "why": why})
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
        if future is not None:
            future.set_result(answer)

    def _result(self, answer: Answered, key: bytes) -> bytes:
        said = from_record(answer.error) if answer.error is not None else None
        if key and not hmac.compare_digest(answer.proof, _answer_proof(answer, key, self._theirs)):
            raise LinkLost("a gateway without the transfer's key answered", where=self.peer, why=str(said or ""))
        if said is not None:
            raise said
        return answer.body

    def _answer(self, asked: Asked) -> None:
        def proves(key: bytes) -> bool:
            return hmac.compare_digest(asked.proof, _proof(key, self._theirs, asked.call_id, b"asked", asked.body))

        caller = Caller(self.peer, proves)
        answer = self._perform(asked, caller)
        answer = msgspec.structs.replace(answer, proof=_answer_proof(answer, caller.key, self._mine))
        self._reply(answer)

    def _reply(self, answer: Answered) -> None:
        try:
            self._send(answer)
        except OSError as error:
            log.info("an answer could not be sent", extra={"peer": self.peer, "why": str(error)})

    def _perform(self, asked: Asked, caller: Caller) -> Answered:
        try:
            return Answered(asked.call_id, self._serve(caller, _request_decoder.decode(asked.body)))
        except SkyplaneError as error:
            return Answered(asked.call_id, error=error.record())
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            # Its text may quote what was sent.
            why = type(error).__name__
            return Answered(asked.call_id, error=ErrorRecord("GatewayRefused", "no such request", self.peer, why))
        except Exception as error:  # noqa: BLE001 - a bug of ours must reach the head as an error, not as silence
            log_unexpected(error)
            why = type(error).__name__
            return Answered(asked.call_id, error=ErrorRecord("GatewayRefused", "internal error", self.peer, why))


def _proof(key: bytes, binding: bytes, call_id: int, label: bytes, body: bytes) -> bytes:
    """Shows that the sender has ``key``, for this message of this connection and direction; empty without a key."""
    if not key:
        return b""
    return hmac.digest(key, b"skyplane link 2 " + label + b"\0" + binding + call_id.to_bytes(8, "big") + body, "sha256")


def _answer_proof(answer: Answered, key: bytes, binding: bytes) -> bytes:
    return _proof(key, binding, answer.call_id, b"answered", _encoder.encode((answer.body, answer.error)))
