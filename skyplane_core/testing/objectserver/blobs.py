"""Immutable runs of bytes in the cells of an arena.

A :class:`Blob` is a list of pieces of cells, so that completing a multipart upload or composing objects moves no byte.
A cell is used again when the last blob that refers to it is gone; a download holds its blob, so it can always finish.
What is sent is copied to the socket, not lent to it by sendfile: the kernel would still read a cell after its reuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from awscrt import checksums as crt

from skyplane_core.testing.objectserver.arena import Arena, Cell
from skyplane_core.testing.objectserver.checksums import Buffer, Hasher, encode, hasher

STRETCH = 512 << 10
"""Bytes that are received at a time, so that their checksums find them in the cache of the core."""

_FIRST_CELL = 64 << 10
"""Bytes that a body of unknown length gets at first; after that, as many as have come."""

_SPILL = 4096


class Piece(NamedTuple):
    """``size`` bytes of ``cell`` from ``offset``."""

    cell: Cell
    offset: int
    size: int

    def view(self) -> memoryview:
        """The bytes themselves. Hold the piece as long as the view."""
        return self.cell.view(self.offset, self.size)


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
            yield Piece(piece.cell, piece.offset + start, take)
            size -= take
            start = 0

    def chunks(self, start: int = 0, size: int | None = None, chunk: int = 1 << 20) -> Iterator[memoryview]:
        """The bytes of a range, at most ``chunk`` at a time; each is valid as long as this blob is held."""
        for piece in self.spans(start, self.size - start if size is None else size):
            view = piece.view()
            for done in range(0, piece.size, chunk):
                yield view[done : done + chunk]

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
    """Takes bytes as they arrive, where they are to stay, and checksums them while they are hot. For one thread.

    Args:
        arena: where the bytes go.
        algorithms: digests to compute besides the two CRCs.
        expected: how many bytes will come, if known; it may prove wrong.
    """

    def __init__(self, arena: Arena, algorithms: Iterable[str] = (), expected: int | None = None) -> None:
        self._arena = arena
        self._expected = expected
        self._hashers: dict[str, Hasher] = {
            name: hasher(name) for name in algorithms if name not in ("CRC32C", "CRC64NVME")
        }
        self._crc32c = 0
        self._crc64 = 0
        self._pieces: list[Piece] = []
        self._cell: Cell | None = None
        self._used = 0
        self._space: memoryview | None = None
        self._spill = False
        self.size = 0

    def space(self) -> memoryview:
        """Memory to put the next bytes into, never empty; :meth:`commit` says how many there were."""
        self._spill = self.size == self._expected
        if self._spill:
            # Only to learn that the body has ended, most likely: no memory is taken for that.
            self._space = memoryview(bytearray(_SPILL))
            return self._space
        cell = self._cell
        if cell is None or self._used == cell.size:
            self._seal()
            if self._expected is not None and self._expected > self.size:
                wanted = self._expected - self.size
            else:
                wanted = max(_FIRST_CELL, self.size)
            self._cell = cell = self._arena.take(wanted)
        self._space = cell.view(self._used, min(STRETCH, cell.size - self._used))
        return self._space

    def commit(self, count: int) -> None:
        """The first ``count`` bytes of the last :meth:`space` are the next bytes of the blob."""
        if self._space is None or count > len(self._space):
            raise ValueError("only what space() gave can be committed, once")
        data, self._space = self._space[:count], None
        if self._spill:
            self._expected = None
            self.write(data)
            return
        self._crc32c = crt.crc32c(data, self._crc32c)
        self._crc64 = crt.crc64nvme(data, self._crc64)
        for running in self._hashers.values():
            running.update(data)
        self._used += count
        self.size += count

    def write(self, data: Buffer) -> None:
        """Append a copy of ``data``."""
        view = memoryview(data)
        while view:
            space = self.space()
            count = min(len(space), len(view))
            space[:count] = view[:count]
            self.commit(count)
            view = view[count:]

    def finish(self) -> Blob:
        """What was written."""
        cell, used = self._cell, self._used
        if cell is not None and self.size != self._expected and 0 < used < cell.size // 2:
            # The body was shorter than its announcement, or had none.
            self._cell = self._arena.take(used)
            self._cell.view(0, used)[:] = cell.view(0, used)
        self._seal()
        digests = {name: running.digest() for name, running in self._hashers.items()}
        return Blob(tuple(self._pieces), self.size, self._crc32c, self._crc64, digests)

    def _seal(self) -> None:
        if self._cell is not None and self._used:
            self._pieces.append(Piece(self._cell, 0, self._used))
        self._cell, self._used = None, 0
