"""Listings are trusted by everything that merges them, so their order is checked as they pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
            fault = "repeats a key" if info.key == last else "is not in the order of UTF-8 bytes"
            raise StoreRejected(
                f"the listing {fault}",
                where=where,
                why=f"{info.key!r} came after {last!r}",
                next_step="Objects could be missed or copied twice, so nothing more is planned from this listing.",
            )
        last = info.key
        yield info
