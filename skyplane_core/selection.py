"""Which keys of a source listing take part in a transfer. Pure and streaming. See docs/keys.md."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Iterable, Iterator

from skyplane_core.filters import Filters, Passing, until
from skyplane_core.model import ObjectInfo
from skyplane_core.spec import STATE_SEGMENT, Selection

_RESERVED = f"/{STATE_SEGMENT}/"


def root(prefix: str) -> str:
    """A lone ``/`` is the root of a bucket, as an empty prefix is; anything else stays as it is."""
    return "" if prefix == "/" else prefix


@functools.lru_cache(256)
def tree_root(prefix: str) -> str:
    """What every key under ``prefix`` starts with: empty for the root, else ``prefix`` with a final ``/``."""
    prefix = root(prefix)
    return prefix if not prefix or prefix.endswith("/") else f"{prefix}/"


def selects(selection: Selection, key: str, next_key: str | None = None) -> bool:
    """Whether ``key`` takes part.

    Args:
        next_key: the next key of the listing that takes part; needed only for ``drop_covered_markers``.
    """
    return _takes_part(selection, key) and not _covered(selection, key, next_key)


class Chooser:
    """Says which objects of a listing take part, but for markers that others cover and for limits.

    Args:
        now: seconds since the epoch, from which ages are counted.
    """

    def __init__(self, selection: Selection, now: float = 0.0) -> None:
        self._selection = selection
        self._root = len(tree_root(selection.prefix) if selection.tree else selection.prefix)
        filtered = not selection.single and selection.filters != Filters()
        self._passing = Passing(selection.filters, now) if filtered else None

    def __call__(self, info: ObjectInfo) -> bool:
        """Whether a listed object takes part."""
        return _takes_part(self._selection, info.key) and (
            self._passing is None or self._passing(info.key[self._root :], info)
        )


def select(
    selection: Selection, objects: Iterable[ObjectInfo], now: float = 0.0, stopped: list[str] | None = None
) -> Iterator[ObjectInfo]:
    """The objects of an ordered listing that take part, in order. Holds at most one object back.

    Args:
        now: seconds since the epoch, from which ages are counted.
        stopped: gets the name of a limit that ended the selection before the listing did.
    """
    chosen = _uncovered(selection, filter(Chooser(selection, now), objects))
    if not (selection.filters.max_objects or selection.filters.max_bytes):
        return chosen
    return until(selection.filters, chosen, [] if stopped is None else stopped)


def _uncovered(selection: Selection, chosen: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
    if not selection.drop_covered_markers or selection.single:
        yield from chosen
        return
    held: ObjectInfo | None = None
    for info in chosen:
        if held is not None and not info.key.startswith(held.key):
            yield held
        held = None
        if info.key.endswith("/"):
            held = info
        else:
            yield info
    if held is not None:
        yield held


def reserved(prefix: str, key: str) -> bool:
    """Whether a whole segment of ``key`` is the reserved one, other than inside a prefix that was asked for by name."""
    if _RESERVED[1:] not in key:
        return False
    rooted = f"/{key}"
    return _RESERVED in rooted[max(0, len(prefix) - len(_RESERVED) + 2) :]


def _takes_part(selection: Selection, key: str) -> bool:
    prefix = selection.prefix
    if selection.single:
        return key == prefix
    if selection.tree:
        prefix = tree_root(prefix)
    return (
        key.startswith(prefix)
        and not reserved(prefix, key)
        and (not selection.delimiter or selection.delimiter not in key[len(prefix) :])
        and (not selection.glob or fnmatch.fnmatchcase(key, selection.glob))
    )


def _covered(selection: Selection, key: str, next_key: str | None) -> bool:
    return (
        selection.drop_covered_markers
        and not selection.single
        and key.endswith("/")
        and next_key is not None
        and next_key.startswith(key)
    )
