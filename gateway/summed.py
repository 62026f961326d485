"""A part's checksums, taken as its bytes arrive, and whether they are what the source vouches for. Pure."""

from __future__ import annotations

from typing import NamedTuple

from skyplane_core.checksum import crc32c, crc32c_and_crc64nvme, crc64nvme
from skyplane_core.errors import ChecksumMismatch
from skyplane_core.model import PartLease
from skyplane_core.stores.base import ReadResult


class Summed(NamedTuple):
    """Our checksums of a part; of a part that is the whole object also the source's, which are equal to them."""

    crc32c: int
    crc64nvme: int | None = None
    source_crc32c: int | None = None
    source_crc64nvme: int | None = None


class Sums:
    """Sums one part, piece by piece. For one thread.

    Args:
        data: where the part's bytes are going to be.
        compare: with the source's own checksums; if not, they are of no interest.
    """

    def __init__(self, part: PartLease, data: memoryview, *, compare: bool) -> None:
        self._part = part
        self._data = data
        self._compare = compare
        self._wide = compare and part.crc64nvme is not None
        self._sums = (0, 0)
        self._end = 0

    def landed(self, end: int) -> None:
        """The bytes up to ``end`` are there, and the last of them still in a cache: sum them now.

        A read that begins again begins from the first byte.
        """
        if end < self._end:
            self._sums, self._end = (0, 0), 0
        piece = self._data[self._end : end]
        if self._wide:
            self._sums = crc32c_and_crc64nvme(piece, self._sums)
        else:
            self._sums = crc32c(piece, self._sums[0]), 0
        self._end = end

    def judged(self, result: ReadResult, *, where: str) -> Summed:
        """All bytes are there: their checksums, compared with what the source said if they are the whole object.

        Raises:
            ChecksumMismatch: other bytes came than the source vouches for.
        """
        self.landed(len(self._data))
        ours, ours_wide = self._sums[0], self._sums[1] if self._wide else None
        part = self._part
        if not self._compare or not part.whole:
            # A read's answer carries the whole object's checksums, which say nothing about a part of one.
            return Summed(ours, ours_wide)
        theirs = part.crc32c if part.crc32c is not None else result.crc32c
        theirs_wide = part.crc64nvme if part.crc64nvme is not None else result.crc64nvme
        if theirs_wide is not None and ours_wide is None:
            ours_wide = crc64nvme(self._data)
        if theirs not in (None, ours):
            raise _differs(f"CRC32C {theirs:08x}", f"{ours:08x}", where)
        if theirs_wide != ours_wide:
            raise _differs(f"CRC64NVME {theirs_wide:016x}", f"{ours_wide:016x}", where)
        return Summed(ours, ours_wide, theirs, theirs_wide)


def _differs(theirs: str, ours: str, where: str) -> ChecksumMismatch:
    return ChecksumMismatch(f"the source vouches for {theirs}, what was read has {ours}", where=where)
