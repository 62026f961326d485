"""Immutable runs of bytes in files below one directory.

A :class:`Blob` is a list of pieces of files, so that completing a multipart upload or composing objects moves no byte.
A file is unlinked when the last blob that refers to it is gone; a download holds its blob, so it can always finish.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from awscrt import checksums as crt

from skyplane_core.testing.objectserver.checksums import Buffer, Hasher, encode, hasher

_numbers = itertools.count(1)


class StoredFile:
    """One file that is unlinked when the last reference to it goes."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def __del__(self) -> None:
        # The whole directory may be gone already when the server was stopped first.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)  # noqa: PTH108 - a path object for each of a million files is not for free


class Piece(NamedTuple):
    """``size`` bytes of ``file`` from ``offset``."""

    file: StoredFile
    offset: int
    size: int


class Blob:
    """Bytes at rest, with the checksums that were computed when they landed.

    ``digests`` holds those of other algorithms than the two CRCs, by name, as far as somebody asked for them.
    """

    __slots__ = ("crc32c", "crc64nvme", "digests", "pieces", "size")

    def __init__(
        self, pieces: tuple[Piece, ...], size: int, crc32c: int, crc64nvme: int, digests: dict[str, bytes] | None = None
    ) -> None:
        self.pieces = pieces
        self.size = size
        self.crc32c = crc32c
        self.crc64nvme = crc64nvme
        self.digests = digests or {}

    def digest(self, algorithm: str) -> bytes:
        """The digest by ``algorithm``; the bytes are read again if it was not computed before."""
        if algorithm == "CRC32C":
            return self.crc32c.to_bytes(4, "big")
        if algorithm == "CRC64NVME":
            return self.crc64nvme.to_bytes(8, "big")
        if algorithm not in self.digests:
            running = hasher(algorithm)
            for chunk in self.chunks():
                running.update(chunk)
            self.digests[algorithm] = running.digest()
        return self.digests[algorithm]

    def encoded(self, algorithm: str) -> str:
        """:meth:`digest` in base64."""
        return encode(self.digest(algorithm))

    def spans(self, start: int, size: int) -> Iterator[Piece]:
        """The pieces that hold ``size`` bytes from ``start``, in order."""
        for piece in self.pieces:
            if size <= 0:
                return
            if start >= piece.size:
                start -= piece.size
                continue
            take = min(size, piece.size - start)
            yield Piece(piece.file, piece.offset + start, take)
            size -= take
            start = 0

    def chunks(self, start: int = 0, size: int | None = None, chunk: int = 1 << 20) -> Iterator[bytes]:
        """The bytes of a range, at most ``chunk`` at a time."""
        for piece in self.spans(start, self.size - start if size is None else size):
            fd = os.open(piece.file.path, os.O_RDONLY)
            try:
                done = 0
                while done < piece.size:
                    data = os.pread(fd, min(chunk, piece.size - done), piece.offset + done)
                    if not data:
                        raise OSError(f"{piece.file.path} is shorter than the object that it holds")
                    done += len(data)
                    yield data
            finally:
                os.close(fd)

    def read(self, start: int = 0, size: int | None = None) -> bytes:
        """The bytes of a range, in memory."""
        return b"".join(self.chunks(start, size))

    def slice(self, start: int, size: int) -> Blob:
        """``size`` bytes from ``start`` as a blob of their own; they are read again for their checksums."""
        crc32c = crc64 = 0
        for chunk in self.chunks(start, size):
            crc32c = crt.crc32c(chunk, crc32c)
            crc64 = crt.crc64nvme(chunk, crc64)
        return Blob(tuple(self.spans(start, size)), size, crc32c, crc64)


def concatenate(blobs: Iterable[Blob]) -> Blob:
    """One blob after the other, as one; neither copied nor read."""
    pieces: list[Piece] = []
    size = crc32c = crc64 = 0
    for blob in blobs:
        pieces.extend(blob.pieces)
        crc32c = crt.combine_crc32c(crc32c, blob.crc32c, blob.size)
        crc64 = crt.combine_crc64nvme(crc64, blob.crc64nvme, blob.size)
        size += blob.size
    return Blob(tuple(pieces), size, crc32c, crc64)


class BlobWriter:
    """Takes bytes as they arrive, writes them to a new file and checksums them on the way. For one thread."""

    def __init__(self, directory: str, algorithms: Iterable[str] = ()) -> None:
        self._file = StoredFile(f"{directory}/{next(_numbers):x}")
        self._fd = os.open(self._file.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._hashers: dict[str, Hasher] = {
            name: hasher(name) for name in algorithms if name not in ("CRC32C", "CRC64NVME")
        }
        self._crc32c = 0
        self._crc64 = 0
        self.size = 0

    def write(self, data: Buffer) -> None:
        """Append ``data``, which may be overwritten by the caller afterwards."""
        self._crc32c = crt.crc32c(data, self._crc32c)
        self._crc64 = crt.crc64nvme(data, self._crc64)
        for running in self._hashers.values():
            running.update(data)
        done, view = 0, memoryview(data)
        while done < len(view):
            done += os.write(self._fd, view[done:] if done else view)
        self.size += len(view)

    def finish(self) -> Blob:
        """Close the file and return what was written."""
        os.close(self._fd)
        digests = {name: running.digest() for name, running in self._hashers.items()}
        pieces = (Piece(self._file, 0, self.size),) if self.size else ()
        return Blob(pieces, self.size, self._crc32c, self._crc64, digests)

    def discard(self) -> None:
        """Close the file; it goes with this writer."""
        os.close(self._fd)
