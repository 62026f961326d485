"""Bodies in ``aws-chunked`` coding: signed or unsigned chunks, with or without trailers."""

# ruff: noqa: D102 - the docstrings of the interfaces that these classes have hold.
from __future__ import annotations

import hashlib
import hmac

from skyplane_core.testing.objectserver.messages import ApiError, BodySource
from skyplane_core.testing.objectserver.sigv4 import Signature

_LOOKAHEAD = 64 << 10
_EMPTY_HASH = hashlib.sha256().hexdigest()


class AwsChunkedBody:
    """Decodes a chunked body; ``trailers`` (lower-case names) are there once it has ended.

    Args:
        inner: the coded body.
        decoded_length: what X-Amz-Decoded-Content-Length says, in bytes.
        signature: of the request, if the chunks are signed and are to be checked; else None.
    """

    def __init__(self, inner: BodySource, decoded_length: int, signature: Signature | None) -> None:
        self.trailers: dict[str, str] = {}
        self._inner = inner
        self._left_total = decoded_length
        self._chain = None if signature is None else _SignatureChain(signature)
        self._buffer = memoryview(bytearray(_LOOKAHEAD))
        self._start = self._end = 0
        self._left = 0
        self._ended = False

    def readinto(self, view: memoryview) -> int:
        if self._ended:
            return 0
        if not self._left:
            self._next_chunk()
            if self._ended:
                return 0
        view = view[: self._left]
        if self._start == self._end and len(view) < _LOOKAHEAD // 2:
            self._fill()
        ready = min(self._end - self._start, len(view))
        if ready:
            view[:ready] = self._buffer[self._start : self._start + ready]
            self._start += ready
            got = ready
        else:
            got = self._inner.readinto(view)
            if not got:
                raise _incomplete()
        if self._chain is not None:
            self._chain.update(view[:got])
        self._left -= got
        if not self._left:
            if self._line():
                raise ApiError(400, "InvalidRequest", "a chunk of the body is longer than it says")
            if self._chain is not None:
                self._chain.end_chunk()
        return got

    def _fill(self) -> None:
        self._start, self._end = 0, self._inner.readinto(self._buffer)
        if not self._end:
            raise _incomplete()

    def _line(self) -> bytes:
        line = bytearray()
        while True:
            if self._start == self._end:
                self._fill()
            ready = bytes(self._buffer[self._start : self._end])
            at = ready.find(b"\n")
            if at >= 0:
                line += ready[:at]
                self._start += at + 1
                return bytes(line.removesuffix(b"\r"))
            line += ready
            self._start = self._end
            if len(line) > _LOOKAHEAD:
                raise ApiError(400, "InvalidRequest", "a line of the chunked body is too long")

    def _next_chunk(self) -> None:
        size, _, extension = self._line().partition(b";")
        try:
            self._left = int(size, 16)
        except ValueError:
            raise ApiError(400, "InvalidRequest", "a chunk of the body is malformed") from None
        if self._chain is not None:
            self._chain.begin_chunk(extension.decode("latin-1").strip().removeprefix("chunk-signature="))
        if self._left:
            self._left_total -= self._left
            if self._left_total < 0:
                raise _incomplete()
            return
        if self._chain is not None:
            self._chain.end_chunk()
        if self._left_total:
            raise _incomplete()
        self._read_trailers()
        self._ended = True

    def _read_trailers(self) -> None:
        canonical = ""
        while line := self._line().decode("latin-1"):
            name, _, value = line.partition(":")
            self.trailers[name.strip().lower()] = value.strip()
            if name.strip().lower() != "x-amz-trailer-signature":
                canonical += f"{name.strip().lower()}:{value.strip()}\n"
        if self._chain is not None and canonical:
            self._chain.check_trailer(canonical, self.trailers.get("x-amz-trailer-signature", ""))


class _SignatureChain:
    """Each chunk's signature covers the one before it."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._previous = signature.signature
        self._claimed = ""
        self._hash = hashlib.sha256()

    def begin_chunk(self, claimed: str) -> None:
        self._claimed = claimed
        self._hash = hashlib.sha256()

    def update(self, data: memoryview) -> None:
        self._hash.update(data)

    def end_chunk(self) -> None:
        self._check("AWS4-HMAC-SHA256-PAYLOAD", self._claimed, _EMPTY_HASH, self._hash.hexdigest())

    def check_trailer(self, canonical: str, claimed: str) -> None:
        self._check("AWS4-HMAC-SHA256-TRAILER", claimed, hashlib.sha256(canonical.encode("latin-1")).hexdigest())

    def _check(self, kind: str, claimed: str, *hashes: str) -> None:
        of = self._signature
        text = "\n".join((kind, of.timestamp, of.scope, self._previous, *hashes))
        expected = hmac.new(of.key, text.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, claimed):
            raise ApiError(403, "SignatureDoesNotMatch", "The signature of a chunk does not match.")
        self._previous = expected


def _incomplete() -> ApiError:
    return ApiError(400, "IncompleteBody", "The body does not have the length that its headers announce")
