"""CRC32C and CRC64NVME over buffers, and their combination over parts that were summed in any order.

awscrt computes either at 0.015 CPU seconds a GB, accepts memoryviews and can combine; it is imported on first use,
because only gateways move bytes.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import cast

_STRETCH = 512 * 1024
"""Bytes that are summed by one algorithm and then by the other: the second finds them in the core's cache."""


def preload() -> None:
    """Import what sums, which takes 30 ms, for a process that will move bytes and has time now."""
    importlib.import_module("awscrt.checksums")


def crc32c(data: bytes | memoryview, previous: int = 0) -> int:
    """CRC32C (Castagnoli, RFC 3720 appendix B.4) of ``data``, continuing from ``previous``."""
    from awscrt import checksums

    return cast(int, checksums.crc32c(data, previous))


def combined_crc32c(parts: Iterable[tuple[int, int]]) -> int:
    """The CRC32C of a concatenation, from ``(crc32c, size)`` of its pieces in order."""
    from awscrt import checksums

    total = 0
    for crc, size in parts:
        total = cast(int, checksums.combine_crc32c(total, crc, size))
    return total


def crc64nvme(data: bytes | memoryview, previous: int = 0) -> int:
    """CRC64NVME (NVM Express NVM Command Set Specification, 64b CRC) of ``data``, continuing from ``previous``."""
    from awscrt import checksums

    return cast(int, checksums.crc64nvme(data, previous))


def crc32c_and_crc64nvme(data: memoryview, previous: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Both checksums of ``data``, in one pass over memory, continuing from ``previous``."""
    from awscrt import checksums

    small, wide = previous
    for start in range(0, len(data), _STRETCH):
        stretch = data[start : start + _STRETCH]
        small = cast(int, checksums.crc32c(stretch, small))
        wide = cast(int, checksums.crc64nvme(stretch, wide))
    return small, wide


def combined_crc64nvme(parts: Iterable[tuple[int, int]]) -> int:
    """The CRC64NVME of a concatenation, from ``(crc64nvme, size)`` of its pieces in order."""
    from awscrt import checksums

    total = 0
    for crc, size in parts:
        total = cast(int, checksums.combine_crc64nvme(total, crc, size))
    return total
