"""A batch as it arrives at a writer: frames opened straight into its pool buffer, summed while the bytes are hot."""

from __future__ import annotations

from gateway.arena import Kind
from gateway.counters import Counter, Counters
from gateway.crypto import open_batch
from gateway.framing import Assembly, open_frame
from gateway.manifest import ManifestPart, decode_manifest
from gateway.opened import Transfer
from gateway.pool import Buffer, Pool
from gateway.wire import FrameType, Header
from skyplane_core.checksum import crc32c
from skyplane_core.errors import ChecksumMismatch, ProtocolError
from skyplane_core.model import PartFailure


class Arrival:
    """One batch; :meth:`take` and :meth:`verified` are for one thread at a time, :meth:`place` for any number.

    The caller checks the order of frames, or that a scattered batch has each of them once; this class opens them.
    """

    def __init__(self, transfer: Transfer, first: Header, pool: Pool, counters: Counters) -> None:
        self.transfer = transfer
        self.key = transfer.key()
        self._opener = open_batch(self.key, first.salt)
        self._pool = pool
        self._counters = counters
        self._manifest = Assembly(FrameType.MANIFEST)
        self._parts: list[ManifestPart] | None = None
        self._buffer: Buffer | None = None
        self._size = 0
        self._received = 0
        self._crcs: list[int] = []
        self._crc = 0

    @property
    def payload(self) -> memoryview:
        """The batch's bytes, once the manifest is whole."""
        return self._buffer.view if self._buffer is not None else memoryview(b"")

    def take(self, header: Header, clear: memoryview, body: memoryview) -> None:
        """Open one frame; ``body`` is overwritten. The first DATA frame waits for a pool buffer.

        Raises:
            FrameCorrupt: it is not what the reader sealed.
            ProtocolError: frames and manifest do not fit each other.
            SkyplaneError: no buffer (see Pool.acquire).
        """
        if header.type is FrameType.MANIFEST:
            self._manifest.add(header, clear, body, self._opener)
        else:
            self._begin()
            self._checksum(self.place(header, clear, body))
        if header.last:
            self._begin()
            if self._received != self._size:
                raise ProtocolError(f"a batch of {self._size} bytes ended after {self._received}")
            self._checksum(self._size)

    def place(self, header: Header, clear: memoryview, body: memoryview) -> int:
        """Open a DATA frame to where it belongs and return where it ends. The buffer must have been taken.

        Raises:
            FrameCorrupt: it is not what the reader sealed.
            ProtocolError: it belongs nowhere.
        """
        end = header.offset + header.raw_length
        if end > self._size:
            raise ProtocolError(f"a batch of {self._size} bytes has a frame that reaches byte {end}")
        open_frame(header, clear, body, self._opener, self.payload[header.offset : end])
        self._counters.add(Counter.BYTES_RECEIVED, header.raw_length)
        return end

    def placed(self, count: int) -> None:
        """All of ``count`` bytes have been placed: sum what :meth:`take` has not. Raises ProtocolError: too few."""
        if count != self._size:
            raise ProtocolError(f"a batch of {self._size} bytes has frames of {count}")
        self._checksum(self._size)

    def verified(self) -> tuple[list[ManifestPart], list[PartFailure]]:
        """The parts whose bytes are those that left the source, and failures for the others."""
        good: list[ManifestPart] = []
        bad: list[PartFailure] = []
        for part, crc in zip(self._parts or (), self._crcs, strict=True):
            if crc == part.crc32c:
                good.append(part)
                continue
            error = ChecksumMismatch(
                f"crc32c is {crc:08x}, was {part.crc32c:08x} at the source",
                where=f"object {part.object}, part {part.part} of transfer {self.transfer.config.transfer_id}",
            ).record()
            bad += [PartFailure(part.object, part.part, target.destination, error) for target in part.targets]
        return good, bad

    def release(self) -> None:
        """Give the pool buffer back. May be repeated."""
        if self._buffer is not None:
            self._buffer.release()

    def _begin(self) -> None:
        """The manifest is whole: take room for what it announces."""
        if self._parts is not None:
            return
        self._parts = decode_manifest(self._manifest.message)
        self._manifest.message.clear()
        self._size = sum(part.size for part in self._parts)
        self._buffer = self._pool.acquire(self._size, self.transfer.config.transfer_id, Kind.STORE)

    def _checksum(self, end: int) -> None:
        """Carry the parts' checksums on to byte ``end`` of the payload."""
        parts = self._parts or []
        while len(self._crcs) < len(parts):
            part = parts[len(self._crcs)]
            stop = part.payload_offset + part.size
            piece = min(stop, end)
            self._crc = crc32c(self.payload[self._received : piece], self._crc)
            self._received = piece
            if piece < stop:
                return
            self._crcs.append(self._crc)
            self._crc = 0
