"""How an object is cut into parts. Pure; every destination's limits hold for every size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from skyplane_core.errors import StoreRejected, UsageError
from skyplane_core.stores.base import MIB, Capabilities

DEFAULT_PART_SIZE = 16 * MIB
POOL_SHARE = 8
"""By default a part takes at most one in so many of the buffer pool, so that several are in flight at once."""
PARTS_IN_POOL = 2
"""So many of the largest parts have to fit into the buffer pool: one is read or received while another is sent."""


class Piece(NamedTuple):
    """One part of an object: ``number`` starts at 1."""

    number: int
    offset: int
    length: int


def part_size(
    object_size: int,
    option: int,
    destinations: Sequence[Capabilities],
    pool_bytes: int,
    *,
    threshold: int = 0,
) -> int:
    """Bytes a part for an object of ``object_size``; the object's own size where a single put takes it whole.

    Args:
        option: the part size that the user asked for, 0 for the default. It gives way to a store's limits and to what
            the pool can hold; what is known to be impossible is refused before (skyplane_core.settings).
        destinations: the same parts go to all of them.
        pool_bytes: the smallest buffer pool on the way, in which a part is held whole.
        threshold: objects of at least so many bytes are striped; 0 means twice the part size.

    Raises:
        StoreRejected: no part size satisfies all limits.
        UsageError: a size is negative.
    """
    if min(object_size, option, threshold) < 0 or pool_bytes < 1:
        raise UsageError("sizes cannot be negative, and the buffer pool cannot be empty")
    largest_object = min(store.max_object_size for store in destinations)
    if object_size > largest_object:
        raise StoreRejected(
            f"the object has {object_size} bytes and the destination takes at most {largest_object}",
            next_step="Split the object, or choose another destination.",
        )
    wanted = option or min(DEFAULT_PART_SIZE, max(1, pool_bytes // POOL_SHARE))
    most_parts = min(store.max_parts for store in destinations)
    fewest = -(-object_size // most_parts)
    lower = max(fewest, 1, *(store.min_part_size for store in destinations))
    held = pool_bytes // PARTS_IN_POOL
    upper = min(held, *(store.max_part_size for store in destinations))
    size = min(max(wanted, lower), upper)
    if size == fewest:
        size = min(-(-size // MIB) * MIB, upper)
    whole_fits = object_size <= min(held, *(store.max_single_put for store in destinations))
    if whole_fits and (object_size < (threshold or 2 * size) or object_size <= size or lower > upper):
        return object_size
    if lower > upper:
        raise _impossible(object_size, lower, upper, pool_bytes)
    return size


def cut(object_size: int, size: int) -> Iterator[Piece]:
    """The parts of an object, in order, covering it exactly. An empty object is one empty part."""
    if object_size == 0:
        yield Piece(1, 0, 0)
        return
    for number, offset in enumerate(range(0, object_size, size), start=1):
        yield Piece(number, offset, min(size, object_size - offset))


def _impossible(object_size: int, lower: int, upper: int, pool_bytes: int) -> StoreRejected:
    if upper == pool_bytes // PARTS_IN_POOL:
        return StoreRejected(
            f"an object of {object_size} bytes needs parts of at least {lower} bytes",
            why=f"the buffer pool has {pool_bytes} bytes, and has to hold {PARTS_IN_POOL} parts",
            next_step=f"Give the gateways a pool of at least {PARTS_IN_POOL * lower} bytes.",
        )
    return StoreRejected(
        f"an object of {object_size} bytes needs parts of at least {lower} bytes",
        why=f"a destination takes parts of at most {upper} bytes",
        next_step="Split the object, or choose another destination.",
    )
