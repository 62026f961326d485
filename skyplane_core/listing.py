"""Listings are trusted by everything that merges them, so their order is checked as they pass."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence

from skyplane_core.errors import StoreRejected
from skyplane_core.model import ObjectInfo


def ordered(objects: Iterable[ObjectInfo], where: str) -> Iterator[ObjectInfo]:
    """The same objects, as they come.

    Args:
        where: the store's URI, for the message.

    Raises:
        StoreRejected: a key repeats, or comes before its predecessor in the order of UTF-8 bytes.
    """
    last: str | None = None
    for info in objects:
        if last is not None and info.key <= last:
            raise _disorder(last, info.key, where)
        last = info.key
        yield info


def check_page(objects: Sequence[ObjectInfo], after: str, where: str) -> None:
    """The same of one page of what lies behind ``after``, before it is cut anywhere.

    Raises:
        StoreRejected: a key repeats, or comes before its predecessor, or is not behind ``after``.
    """
    keys = [after, *[info.key for info in objects]] if after else [info.key for info in objects]
    if not all(map(operator.lt, keys, keys[1:])):
        before, key = next(pair for pair in itertools.pairwise(keys) if not pair[0] < pair[1])
        raise _disorder(before, key, where)


def _disorder(before: str, key: str, where: str) -> StoreRejected:
    fault = "repeats a key" if key == before else "is not in the order of UTF-8 bytes"
    return StoreRejected(
        f"the listing {fault}",
        where=where,
        why=f"{key!r} came after {before!r}",
        next_step="Objects could be missed or copied twice, so nothing more is planned from this listing.",
    )
