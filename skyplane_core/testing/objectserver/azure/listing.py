"""The orders in which Azure lists names, and a page of such a listing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from skyplane_core.testing.objectserver.state import Bucket, StoredObject

Place = tuple[bytes, ...]
"""Where a name stands in a listing: names sort as their places do."""


@dataclasses.dataclass(slots=True, frozen=True)
class Item:
    """A blob, or (``stored`` is None) a directory, a group of names, or a name at which blocks wait."""

    place: Place
    name: str
    stored: StoredObject | None = None
    kind: str = "Blob"


def items(bucket: Bucket, *, prefix: str, delimiter: str, uncommitted: bool, hierarchical: bool) -> Iterator[Item]:
    """Everything that a listing holds, in order.

    A flat namespace is ordered by UTF-16 units. A hierarchical one is ordered segment by segment, and its directories
    are listed themselves: as blobs, or as prefixes where they stand for what is in them.
    """
    found: dict[Place, Item] = {}
    for stored in bucket.objects(prefix):
        for item in _of(stored, prefix, delimiter, hierarchical=hierarchical):
            found.setdefault(item.place, item)
    if uncommitted:
        for name, waiting in bucket.blocks.items():
            if waiting and name.startswith(prefix) and bucket.current(name) is None:
                item = Item(place_of(name, hierarchical=hierarchical), name)
                found.setdefault(item.place, item)
    return iter([found[place] for place in sorted(found)])


def _of(stored: StoredObject, prefix: str, delimiter: str, *, hierarchical: bool) -> Iterator[Item]:
    name = stored.key
    at = name.find(delimiter, len(prefix)) if delimiter else -1
    if at >= 0:
        group = name[: at + len(delimiter)]
        place = place_of(group.rstrip("/") if hierarchical else group, hierarchical=hierarchical)
        yield Item(place, group, kind="BlobPrefix")
        return
    if hierarchical:
        segments = name.split("/")[:-1]
        for depth in range(1, len(segments) + 1):
            directory = "/".join(segments[:depth])
            if not delimiter and directory.startswith(prefix):
                yield Item(place_of(directory, hierarchical=True), directory, kind="Directory")
    yield Item(place_of(name, hierarchical=hierarchical), name, stored)


def place_of(name: str, *, hierarchical: bool) -> Place:
    """Where a name stands."""
    return tuple(part.encode("utf-16-be") for part in (name.split("/") if hierarchical else [name]))


def pack(place: Place) -> str:
    """A place as a marker."""
    return "-".join(part.hex() for part in place)


def unpack(marker: str) -> Place:
    """The inverse of :func:`pack`. Raises ValueError."""
    return tuple(bytes.fromhex(part) for part in marker.split("-"))
