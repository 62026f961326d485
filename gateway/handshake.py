"""Mutual authentication of a new connection between two gateways, before its first frame.

Both know the dataplane's secret and prove it over fresh nonces; keys for the connection come out of it. Three messages,
each a 2-byte big-endian length and a msgpack body of at most :data:`MAX_MESSAGE` bytes::

    dialer   -> listener   Hello(version, kind, dialer, listener, nonce, share)
    listener -> dialer     Challenge(nonce, share, proof_L)
    dialer   -> listener   Confirm(proof_D)

    transcript = SHA-256 of the bytes of Hello and of Challenge without its proof
    root       = HKDF-SHA256(secret || X25519(shares), salt = transcript, info = "skyplane handshake 1")
    proof_X    = HMAC-SHA256(root, role of X || transcript)
    key D->L   = HKDF-SHA256(root, transcript, "skyplane session 1 dialer"), and L->D likewise

The transcript has the version, the kind and both ids in it, and the proofs differ by role: a message can be neither
replayed (nonces), nor reflected (roles and ids), nor moved to another kind or gateway. The ephemeral X25519 shares keep
recorded links closed if the secret leaks later. Sides that disagree about anything learn only that proofs differ.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import time
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from gateway.crypto import derive
from skyplane_core.errors import HandshakeFailed, LinkLost, WireError

VERSION: Final = 3
MAX_MESSAGE: Final = 1024
MIN_SECRET: Final = 32
DEADLINE_SECONDS: Final = 10.0
"""For all three messages together; two round trips and a little arithmetic."""

Kind = Literal["data", "link", "reverse"]
"""On ``data`` the dialer sends batches; on ``reverse`` the listener does, to a dialer that nobody can dial."""
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Nonce = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
T = TypeVar("T", bound=msgspec.Struct)


class _Hello(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: Literal[3]
    kind: Kind
    dialer: _Id
    listener: _Id
    nonce: _Nonce
    share: _Nonce


class _Challenge(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    nonce: _Nonce
    share: _Nonce
    proof: _Nonce


class _Confirm(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    proof: _Nonce


# Made once and here: msgspec works out a type on its first use, and crashes if two threads do so at once.
_HELLO = msgspec.msgpack.Decoder(_Hello)
_CHALLENGE = msgspec.msgpack.Decoder(_Challenge)
_CONFIRM = msgspec.msgpack.Decoder(_Confirm)


class Session(NamedTuple):
    """An authenticated connection: who is there, for what, and 32 bytes of key for each direction."""

    peer: str
    kind: Kind
    send_key: bytes
    receive_key: bytes

    def __repr__(self) -> str:
        return f"Session({self.peer!r}, {self.kind!r}, redacted)"


def dial(
    sock: socket.socket,
    wire_secret: bytes,
    me: str,
    peer: str,
    kind: Kind,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> Session:
    """Authenticate a connection that this side opened to ``peer``. The socket's timeout is None afterwards.

    Raises:
        HandshakeFailed: the other side is not ``peer``, does not know the secret, or was not done in time.
        LinkLost: the connection ended before either side had proved anything; dialling again may help.
    """
    _check_secret(wire_secret)
    lines = _Lines(sock, deadline_seconds, peer)
    secret = X25519PrivateKey.generate()
    hello = _encode(_Hello(VERSION, kind, me, peer, os.urandom(32), secret.public_key().public_bytes_raw()))
    lines.send(hello)
    challenge = lines.receive(_CHALLENGE)
    keys = _Keys(wire_secret, secret, challenge.share, hello, challenge.nonce + challenge.share, peer)
    if not hmac.compare_digest(challenge.proof, keys.proof(b"listener")):
        raise _stranger(peer)
    lines.send(_encode(_Confirm(keys.proof(b"dialer"))))
    sock.settimeout(None)
    return Session(peer, kind, keys.session(b"dialer"), keys.session(b"listener"))


def accept(sock: socket.socket, wire_secret: bytes, me: str, deadline_seconds: float = DEADLINE_SECONDS) -> Session:
    """Authenticate a connection that was opened to this side. The socket's timeout is None afterwards.

    Raises:
        HandshakeFailed: as for :func:`dial`.
    """
    _check_secret(wire_secret)
    lines = _Lines(sock, deadline_seconds, "an inbound connection")
    hello_bytes = lines.receive_bytes()
    hello = _decode(hello_bytes, _HELLO, "an inbound connection")
    if hello.listener != me or hello.dialer == me:
        raise HandshakeFailed("the peer wanted another gateway", where=hello.dialer)
    secret = X25519PrivateKey.generate()
    nonce, share = os.urandom(32), secret.public_key().public_bytes_raw()
    keys = _Keys(wire_secret, secret, hello.share, hello_bytes, nonce + share, hello.dialer)
    lines.send(_encode(_Challenge(nonce, share, keys.proof(b"listener"))))
    confirm = lines.receive(_CONFIRM)
    if not hmac.compare_digest(confirm.proof, keys.proof(b"dialer")):
        raise _stranger(hello.dialer)
    sock.settimeout(None)
    return Session(hello.dialer, hello.kind, keys.session(b"listener"), keys.session(b"dialer"))


class _Keys:
    """Everything that both sides compute from the secret and the transcript."""

    def __init__(
        self, wire_secret: bytes, mine: X25519PrivateKey, theirs: bytes, hello: bytes, challenge: bytes, where: str
    ) -> None:
        try:
            shared = mine.exchange(X25519PublicKey.from_public_bytes(theirs))
        except ValueError as error:
            raise HandshakeFailed("the peer's share is not a point", where=where, why=str(error)) from error
        self._transcript = hashlib.sha256(len(hello).to_bytes(2, "big") + hello + challenge).digest()
        self._root = derive(wire_secret + shared, self._transcript, b"skyplane handshake 1")

    def proof(self, role: bytes) -> bytes:
        return hmac.digest(self._root, role + b"\0" + self._transcript, "sha256")

    def session(self, sender: bytes) -> bytes:
        return derive(self._root, self._transcript, b"skyplane session 1 " + sender)


class _Lines:
    """The messages of one handshake, within one deadline."""

    def __init__(self, sock: socket.socket, seconds: float, where: str) -> None:
        self._sock = sock
        self._end = time.monotonic() + seconds
        self._where = where

    def send(self, body: bytes) -> None:
        self._limit()
        try:
            self._sock.sendall(len(body).to_bytes(2, "big") + body)
        except OSError as error:
            raise self._broken(error) from error

    def receive(self, decoder: msgspec.msgpack.Decoder[T]) -> T:
        return _decode(self.receive_bytes(), decoder, self._where)

    def receive_bytes(self) -> bytes:
        size = int.from_bytes(self._exactly(2), "big")
        if size > MAX_MESSAGE:
            raise HandshakeFailed(f"the peer's message has {size} bytes", where=self._where)
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            self._limit()
            try:
                piece = self._sock.recv(size - len(data))
            except OSError as error:
                raise self._broken(error) from error
            if not piece:
                raise LinkLost(
                    "the peer closed the connection", where=self._where, next_step="Its log says whether it refused."
                )
            data += piece
        return data

    def _limit(self) -> None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise HandshakeFailed("the handshake took too long", where=self._where)
        self._sock.settimeout(left)

    def _broken(self, error: OSError) -> WireError:
        if isinstance(error, TimeoutError):
            return HandshakeFailed("the handshake took too long", where=self._where)
        return LinkLost("the connection broke", where=self._where, why=str(error) or type(error).__name__)


def _check_secret(wire_secret: bytes) -> None:
    if len(wire_secret) < MIN_SECRET:
        raise HandshakeFailed(f"the dataplane's secret has fewer than {MIN_SECRET} bytes")


def _stranger(peer: str) -> HandshakeFailed:
    return HandshakeFailed(
        "the peer does not know this dataplane's secret",
        where=peer,
        next_step="Check that both gateways belong to the same dataplane.",
    )


def _encode(message: Any) -> bytes:
    return msgspec.msgpack.encode(message)


def _decode(data: bytes, decoder: msgspec.msgpack.Decoder[T], where: str) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise HandshakeFailed("the peer's message is not of this protocol", where=where, why=str(error)) from error
