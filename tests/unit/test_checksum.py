"""Checksums of parts make up the checksum of the whole, however it was cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.checksum import combined_crc32c, combined_crc64nvme, crc32c, crc32c_and_crc64nvme

CHECK = b"123456789"


def both(data: bytes) -> tuple[int, int]:
    return crc32c_and_crc64nvme(memoryview(data))


def test_the_algorithms_are_the_published_ones() -> None:
    # The check values of the CRC catalogue: CRC-32/ISCSI and CRC-64/NVME.
    assert both(CHECK) == (0xE3069283, 0xAE8B14860A799888)
    assert both(b"") == (0, 0)


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_parts_combine_to_the_whole(pieces: list[bytes]) -> None:
    whole = both(b"".join(pieces))
    sums = [(*both(piece), len(piece)) for piece in pieces]
    assert combined_crc32c((small, size) for small, _, size in sums) == whole[0] == crc32c(b"".join(pieces))
    assert combined_crc64nvme((wide, size) for _, wide, size in sums) == whole[1]


@given(st.binary(min_size=1, max_size=100), st.integers(0, 2**20), st.integers(0, 7))
def test_long_buffers_are_summed_in_stretches_and_no_flipped_bit_is_missed(seed: bytes, where: int, bit: int) -> None:
    data = bytearray((seed * (1_300_000 // len(seed) + 1))[:1_300_000])
    before = both(data)
    half = len(data) // 2
    assert before[1] == combined_crc64nvme([(both(data[:half])[1], half), (both(data[half:])[1], len(data) - half)])
    data[where] ^= 1 << bit
    after = both(data)
    assert before[0] != after[0]
    assert before[1] != after[1]
