"""What a reader makes of a part's bytes and of what the source says about them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.summed import Summed, Sums
from skyplane_core.checksum import crc32c_and_crc64nvme
from skyplane_core.errors import ChecksumMismatch, Retry
from skyplane_core.model import ObjectAttributes, PartLease, PartTarget
from skyplane_core.stores.base import ReadResult

DATA = b"the bytes that came"
OURS, WIDE = crc32c_and_crc64nvme(memoryview(DATA))


def part(*, striped: bool = False, crc32c: int | None = None, crc64nvme: int | None = None) -> PartLease:
    target = PartTarget(0, "to", "upload" if striped else "")
    return PartLease(1, 1, "k", "v", 0, len(DATA), (target,), crc32c, crc64nvme)


def judge(
    of: PartLease, *, crc32c: int | None = None, crc64nvme: int | None = None, compare: bool = True, data: bytes = DATA
) -> Summed:
    result = ReadResult(ObjectAttributes(), crc32c, crc64nvme)
    return Sums(of, memoryview(data), compare=compare).judged(result, where="s3://b/k")


def test_a_whole_object_is_held_against_whatever_the_source_vouches_for() -> None:
    assert judge(part()) == Summed(OURS)
    assert judge(part(), crc32c=OURS) == Summed(OURS, None, OURS)
    assert judge(part(crc32c=OURS)) == Summed(OURS, None, OURS)
    assert judge(part(), crc64nvme=WIDE) == Summed(OURS, WIDE, None, WIDE)
    assert judge(part(crc32c=OURS, crc64nvme=WIDE)) == Summed(OURS, WIDE, OURS, WIDE)


@pytest.mark.parametrize(
    ("of", "answer"),
    [
        (part(crc32c=OURS ^ 1), {}),
        (part(crc64nvme=WIDE ^ 1), {}),
        (part(), {"crc32c": OURS ^ 1}),
        (part(), {"crc64nvme": WIDE ^ 1}),
        (part(crc32c=OURS), {"crc64nvme": WIDE ^ 1}),
    ],
)
def test_other_bytes_are_a_mismatch_that_names_both_and_is_tried_again(of: PartLease, answer: dict[str, int]) -> None:
    with pytest.raises(ChecksumMismatch, match=r"the source vouches for CRC.*, what was read has") as caught:
        judge(of, **answer)
    assert caught.value.where == "s3://b/k"
    assert caught.value.retry is Retry.CORRUPT
    assert judge(of, **answer, compare=False) == Summed(OURS)


def test_a_part_of_an_object_is_summed_for_the_combination_and_held_against_nothing() -> None:
    assert judge(part(striped=True), crc32c=OURS ^ 1, crc64nvme=WIDE ^ 1) == Summed(OURS)
    assert judge(part(striped=True, crc64nvme=WIDE ^ 1)) == Summed(OURS, WIDE)
    assert judge(part(striped=True, crc64nvme=WIDE), compare=False) == Summed(OURS)


@given(st.binary(min_size=1), st.data())
def test_no_flipped_bit_passes(data: bytes, draw: st.DataObject) -> None:
    small, wide = crc32c_and_crc64nvme(memoryview(data))
    came = bytearray(data)
    came[draw.draw(st.integers(0, len(data) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    for answer in ({"crc32c": small}, {"crc64nvme": wide}):
        with pytest.raises(ChecksumMismatch):
            judge(part(), data=bytes(came), **answer)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)), st.booleans())
def test_it_makes_no_difference_in_which_pieces_the_bytes_land(data: bytes, ends: list[int], wide: bool) -> None:
    """Also when a read begins again: then less is there than before, and other bytes may come."""
    small, large = crc32c_and_crc64nvme(memoryview(data))
    lease = PartLease(1, 1, "k", "v", 0, len(data), (PartTarget(0, "to"),), None, large if wide else None)
    arriving = bytearray(len(data))
    sums = Sums(lease, memoryview(arriving), compare=True)
    for end in (min(end, len(data)) for end in ends):
        arriving[:end] = data[:end]
        sums.landed(end)
    arriving[:] = data
    judged = sums.judged(ReadResult(ObjectAttributes()), where="")
    assert judged == Summed(small, large if wide else None, None, large if wide else None)
