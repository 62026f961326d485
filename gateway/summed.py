"""A part's checksums, and whether they are what the source vouches for. Pure."""

from __future__ import annotations

from typing import NamedTuple

from skyplane_core.checksum import crc32c, crc32c_and_crc64nvme
from skyplane_core.errors import ChecksumMismatch
from skyplane_core.model import PartLease
from skyplane_core.stores.base import ReadResult


class Summed(NamedTuple):
    """Our checksums of a part; of a part that is the whole object also the source's, which are equal to them."""

    crc32c: int
    crc64nvme: int | None = None
    source_crc32c: int | None = None
    source_crc64nvme: int | None = None


def summed(part: PartLease, data: memoryview, result: ReadResult, *, compare: bool, where: str) -> Summed:
    """Sum what was read, and compare it with the source's own checksums if it is the whole object.

    Args:
        compare: if not, the source's checksums are of no interest.

    Raises:
        ChecksumMismatch: other bytes came than the source vouches for.
    """
    if not compare:
        return Summed(crc32c(data))
    # A read's answer carries the whole object's checksums, so they say nothing about a part of one.
    answer = result if part.whole else ReadResult(result.attributes)
    theirs = part.crc32c if part.crc32c is not None else answer.crc32c
    theirs_wide = part.crc64nvme if part.crc64nvme is not None else answer.crc64nvme
    ours, ours_wide = (crc32c(data), None) if theirs_wide is None else crc32c_and_crc64nvme(data)
    if not part.whole:
        return Summed(ours, ours_wide)
    if theirs not in (None, ours):
        raise _differs(f"CRC32C {theirs:08x}", f"{ours:08x}", where)
    if theirs_wide != ours_wide:
        raise _differs(f"CRC64NVME {theirs_wide:016x}", f"{ours_wide:016x}", where)
    return Summed(ours, ours_wide, theirs, theirs_wide)


def _differs(theirs: str, ours: str, where: str) -> ChecksumMismatch:
    return ChecksumMismatch(f"the source vouches for {theirs}, what was read has {ours}", where=where)
