"""Receives the body of an upload into a blob, and holds it against the checksums that the client announced."""

# ruff: noqa: D102 - the docstrings of the interfaces that these classes have hold.
from __future__ import annotations

import hashlib
from collections.abc import Iterable

from skyplane_core.testing.objectserver.arena import Arena
from skyplane_core.testing.objectserver.blobs import Blob, BlobWriter
from skyplane_core.testing.objectserver.checksums import decode
from skyplane_core.testing.objectserver.messages import ApiError, BodySource, Request


def receive(request: Request, arena: Arena, algorithms: Iterable[str] = (), body: BodySource | None = None) -> Blob:
    """The whole body (or ``body`` in its place) as a blob, checksummed by ``algorithms`` on the way."""
    source = body or request.body
    writer = BlobWriter(arena, algorithms, request.body_length)
    while got := source.readinto(writer.space()):
        writer.commit(got)
    return writer.finish()


def check_digest(blob: Blob, algorithm: str, claimed: str, name: str) -> None:
    """Raise unless ``claimed`` (base64, from the header ``name``) is the blob's digest."""
    wanted = decode(claimed, algorithm)
    if wanted is None:
        code = "InvalidDigest" if algorithm == "MD5" else "InvalidRequest"
        raise ApiError(400, code, f"Value for {name} header is invalid.")
    if wanted != blob.digest(algorithm):
        what = "Content-MD5" if algorithm == "MD5" else algorithm
        raise ApiError(400, "BadDigest", f"The {what} you specified did not match the calculated checksum.")


class HashedBody:
    """A body whose SHA-256 is held against the signed one when it ends."""

    def __init__(self, inner: BodySource, expected: str) -> None:
        self._inner = inner
        self._expected = expected.lower()
        self._hash = hashlib.sha256()
        self._checked = False

    def readinto(self, view: memoryview) -> int:
        got = self._inner.readinto(view)
        if got:
            self._hash.update(view[:got])
        elif not self._checked:
            self._checked = True
            if self._hash.hexdigest() != self._expected:
                raise ApiError(
                    400,
                    "XAmzContentSHA256Mismatch",
                    "The provided 'x-amz-content-sha256' header does not match what was computed.",
                )
        return got
