"""CRC32C over buffers, and its combination over parts that were summed in any order.

awscrt computes it at 0.015 CPU seconds a GB, accepts memoryviews and can combine; it is imported on first use, because
only gateways move bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast


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
