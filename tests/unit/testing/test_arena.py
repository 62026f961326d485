"""The object server's memory: bytes survive as long as their blob, and its place is used again afterwards."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from awscrt import checksums as crt
from hypothesis import given, settings
from hypothesis import strategies as st

from skyplane_core.testing.objectserver.arena import LARGEST_CELL, SLAB, SMALLEST_CELL, Arena, Cell, cell_size
from skyplane_core.testing.objectserver.blobs import Blob, BlobWriter, concatenate


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    """An arena that keeps all memory for the next object."""
    made = Arena(str(tmp_path), keep=1 << 40)
    yield made
    made.close()


def written(arena: Arena, data: bytes, expected: int | None = None) -> Blob:
    """``data`` as a blob."""
    writer = BlobWriter(arena, (), expected)
    writer.write(data)
    return writer.finish()


@given(st.integers(0, 4 * SLAB))
def test_a_cell_wastes_at_most_a_quarter(size: int) -> None:
    cell = cell_size(size)
    assert SMALLEST_CELL <= cell <= SLAB
    if SMALLEST_CELL < size <= LARGEST_CELL:
        assert size <= cell <= size * 1.25
    assert cell >= min(size, LARGEST_CELL)


@settings(deadline=None, max_examples=25)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(
                st.just("put"),
                st.integers(0, 7),
                st.one_of(st.integers(0, 5000), st.integers(0, SLAB + SLAB // 2)),
                st.sampled_from(("known", "unknown", "more", "less")),
            ),
            st.tuples(st.just("drop"), st.integers(0, 7), st.just(0), st.just("")),
        ),
        max_size=15,
    ),
    keep=st.sampled_from((0, SLAB, 1 << 40)),
)
def test_live_blobs_keep_their_bytes(
    steps: list[tuple[str, int, int, str]], keep: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    arena = Arena(str(tmp_path_factory.mktemp("arena")), keep)
    live: dict[int, tuple[Blob, bytes]] = {}
    for number, (what, slot, size, announced) in enumerate(steps):
        live.pop(slot, None)
        if what == "put":
            data = bytes([number + 1]) * size
            expected = {"known": size, "unknown": None, "more": size + 70_000, "less": size // 2}[announced]
            live[slot] = (written(arena, data, expected), data)
            assert check(*live[slot])
    assert all(check(*stored) for stored in live.values())
    spans = sorted(
        (piece.cell.path, piece.cell.start, piece.cell.start + piece.cell.size)
        for blob, _ in live.values()
        for piece in blob.pieces
    )
    for one, other in itertools.pairwise(spans):
        assert one[0] != other[0] or one[2] <= other[1]
    live.clear()
    if keep == 0:
        assert arena.claimed == 0
    arena.close()


def check(blob: Blob, data: bytes) -> bool:
    """Whether the blob's bytes and checksums are those of ``data``."""
    return blob.read() == data and (blob.size, blob.crc32c, blob.crc64nvme) == (
        len(data),
        crt.crc32c(data),
        crt.crc64nvme(data),
    )


def test_memory_is_used_again(arena: Arena) -> None:
    for _ in range(20):
        blob = written(arena, b"x" * (4 * SLAB), 4 * SLAB)
        del blob
    assert arena.claimed == 4 * SLAB


def test_a_place_is_used_for_another_size(arena: Arena) -> None:
    for size in (100, 5000, 70_000, LARGEST_CELL, SLAB):
        cell: Cell | None = arena.take(size)
        assert cell is not None
        cell = None
    assert arena.claimed == SLAB


def test_memory_beyond_the_limit_goes_back(tmp_path: Path) -> None:
    arena = Arena(str(tmp_path), keep=SLAB)
    blobs = [written(arena, os.urandom(SLAB), SLAB) for _ in range(8)]
    assert arena.claimed == 8 * SLAB
    blobs.clear()
    assert arena.claimed == SLAB
    file = next(tmp_path.iterdir()).stat()
    assert file.st_blocks * 512 <= 2 * SLAB
    arena.close()


def test_small_objects_share_a_slab(arena: Arena) -> None:
    blobs = [written(arena, number.to_bytes(1024, "big"), 1024) for number in range(2048)]
    assert arena.claimed == SLAB
    assert [int.from_bytes(blob.read(), "big") for blob in blobs] == list(range(2048))


def test_an_unannounced_body_does_not_keep_what_it_does_not_need(arena: Arena) -> None:
    blob = written(arena, b"x" * 100)
    assert sum(piece.cell.size for piece in blob.pieces) <= 128
    blob = written(arena, b"x" * 300, expected=SLAB)
    assert sum(piece.cell.size for piece in blob.pieces) <= 384


def test_parts_of_a_blob_hold_its_memory(arena: Arena) -> None:
    first, second = written(arena, b"a" * SLAB, SLAB), written(arena, b"b" * 1000, 1000)
    whole = concatenate([first, second])
    middle = whole.slice(SLAB - 2, 4)
    del first, second, whole
    others = [written(arena, b"c" * SLAB, SLAB) for _ in range(2)]
    assert middle.read() == b"aabb"
    assert [other.read(0, 1) for other in others] == [b"c", b"c"]


def test_space_is_given_for_one_commit(arena: Arena) -> None:
    writer = BlobWriter(arena, (), 3)
    writer.space()[:3] = b"abc"
    writer.commit(3)
    with pytest.raises(ValueError, match="once"):
        writer.commit(1)
    assert writer.finish().read() == b"abc"


def test_nothing_happens_to_a_cell_after_the_end(tmp_path: Path) -> None:
    arena = Arena(str(tmp_path))
    blob = written(arena, b"abc", 3)
    arena.close()
    arena.close()
    del blob
