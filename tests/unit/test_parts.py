import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.errors import StoreRejected, UsageError
from skyplane_core.model import Attestation
from skyplane_core.planner.parts import DEFAULT_PART_SIZE, PARTS_IN_POOL, Piece, cut, part_size
from skyplane_core.stores.base import MIB, Capabilities

S3 = Capabilities(Attestation.WHOLE)
POOL = 2048 * MIB
GIB = 1024 * MIB


@pytest.mark.parametrize(
    ("size", "option", "pool", "threshold", "result"),
    [
        (0, 0, POOL, 0, 0),
        (1, 0, POOL, 0, 1),
        (32 * MIB - 1, 0, POOL, 0, 32 * MIB - 1),
        (32 * MIB, 0, POOL, 0, DEFAULT_PART_SIZE),
        (20 * MIB, 0, POOL, 20 * MIB, DEFAULT_PART_SIZE),
        (16 * MIB, 0, POOL, 1, DEFAULT_PART_SIZE),
        (100 * MIB, 0, POOL, 200 * MIB, 100 * MIB),
        (100 * MIB, 0, 180 * MIB, 200 * MIB, DEFAULT_PART_SIZE),
        (100 * MIB, 8 * MIB, POOL, 0, 8 * MIB),
        (100 * MIB, 1, POOL, 0, 5 * MIB),
        (100 * MIB, 0, 64 * MIB, 0, 8 * MIB),
        (100 * MIB, 64 * MIB, 64 * MIB, 0, 32 * MIB),
        (5 * 1024 * GIB, 0, POOL, 0, 525 * MIB),
    ],
)
def test_part_sizes(size: int, option: int, pool: int, threshold: int, result: int) -> None:
    assert part_size(size, option, [S3], pool, threshold=threshold) == result


def test_the_strictest_destination_decides() -> None:
    strict = Capabilities(Attestation.WHOLE, max_part_size=6 * MIB)
    assert part_size(100 * MIB, 0, [S3, strict], POOL) == 6 * MIB


@pytest.mark.parametrize(
    ("size", "pool", "store", "said"),
    [
        (5 * 1024 * GIB + 1, POOL, S3, "at most 5497558138880"),
        (1024 * GIB, 128 * MIB, S3, "pool of at least 219902326 bytes"),
        (
            100,
            POOL,
            Capabilities(Attestation.WHOLE, min_part_size=1, max_part_size=4, max_parts=5, max_single_put=9),
            "most 4",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_next_step(size: int, pool: int, store: Capabilities, said: str) -> None:
    with pytest.raises(StoreRejected, match=said):
        part_size(size, 0, [store], pool)


@pytest.mark.parametrize(("size", "option", "pool"), [(-1, 0, 1), (1, -1, 1), (1, 0, 0)])
def test_nonsense_is_refused(size: int, option: int, pool: int) -> None:
    with pytest.raises(UsageError):
        part_size(size, option, [S3], pool)


STORE = st.builds(
    lambda low, more, parts, single, extra: Capabilities(
        Attestation.WHOLE,
        min_part_size=low,
        max_part_size=low + more,
        max_parts=parts,
        max_single_put=single,
        max_object_size=max(single, (low + more) * parts) + extra,
    ),
    st.integers(0, 50),
    st.integers(1, 200),
    st.integers(1, 40),
    st.integers(0, 500),
    st.integers(0, 10),
)


@given(
    st.integers(0, 10_000),
    st.integers(0, 300),
    st.lists(STORE, min_size=1, max_size=3),
    st.integers(2, 1000),
    st.integers(0, 600),
)
def test_every_limit_holds_for_every_size(
    size: int, option: int, stores: list[Capabilities], pool: int, threshold: int
) -> None:
    try:
        part = part_size(size, option, stores, pool, threshold=threshold)
    except StoreRejected:
        low = max(-(-size // min(store.max_parts for store in stores)), *(store.min_part_size for store in stores), 1)
        high = min(pool // PARTS_IN_POOL, *(store.max_part_size for store in stores))
        assert size > min(store.max_object_size for store in stores) or low > high
        return
    pieces = list(cut(size, part))
    assert max(piece.length for piece in pieces) <= pool // PARTS_IN_POOL
    for store in stores:
        assert size <= store.max_object_size
        if len(pieces) == 1:
            assert size <= max(store.max_single_put, store.max_part_size)
        else:
            assert len(pieces) <= store.max_parts
            assert all(store.min_part_size <= piece.length <= store.max_part_size for piece in pieces[:-1])
            assert pieces[-1].length <= store.max_part_size


@given(st.integers(0, 5 * 1024 * GIB), st.sampled_from([0, 1, 5 * MIB, 100 * MIB, 10 * GIB]))
def test_s3_takes_every_size_up_to_its_largest(size: int, option: int) -> None:
    part = part_size(size, option, [S3], POOL)
    assert size == part or (5 * MIB <= part <= POOL // PARTS_IN_POOL and -(-size // part) <= 10_000)


@given(st.integers(0, 1000), st.integers(1, 100))
def test_parts_cover_an_object_exactly(size: int, part: int) -> None:
    pieces = list(cut(size, part))
    assert [piece.number for piece in pieces] == list(range(1, len(pieces) + 1))
    assert [piece.offset for piece in pieces] == [sum(p.length for p in pieces[:n]) for n in range(len(pieces))]
    assert sum(piece.length for piece in pieces) == size
    assert size == 0 or all(0 < piece.length <= part for piece in pieces)


def test_an_empty_object_is_one_empty_part() -> None:
    assert list(cut(0, 0)) == [Piece(1, 0, 0)]
