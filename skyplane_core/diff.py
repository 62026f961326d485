"""The whole of sync: two ordered streams in lock-step, and one decision for each source object. Pure.

Memory does not grow with the number of objects: at most ``HELD * window`` pairs wait for a closer look. A destination
key that no source object maps to is ignored. On a store without directories ``a`` and ``a/b`` are two objects like any
others; a store that cannot hold both refuses the second one when it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec

from skyplane_core.compare import Action, Verdict, judge, needs_lookup
from skyplane_core.errors import UsageError
from skyplane_core.keys import map_key
from skyplane_core.listing import ordered
from skyplane_core.model import ObjectInfo, Precondition
from skyplane_core.spec import Compare, KeyMapping

__all__ = ["Action", "Check", "Decision", "Lookup", "Mapped", "Parallel", "copy_all", "look_up_each", "mapped", "merge"]

Lookup = Callable[[str], ObjectInfo | None]
"""A HEAD of one destination key, with attributes; None when there is no such object."""

Mapped = tuple[ObjectInfo, str]
"""A source object and its destination key."""

Parallel = Callable[[Lookup, Iterable[str]], Iterable[ObjectInfo | None]]
"""``map`` or anything like it that keeps the order, such as the ``map`` of a thread pool."""

Check = Callable[[str], str | None]
"""Why a destination key cannot exist, or None: :func:`skyplane_core.keys.check_key` with its capabilities bound."""


HELD = 8
"""Pairs kept back, for each lookup of a window, so that lookups that are far apart are still made together."""


class Decision(msgspec.Struct, frozen=True):
    """What to do with one source object.

    ``reason`` is a stable word (see docs/keys.md), for REFUSE a sentence. ``precondition`` is for a COPY: the key
    must still be as it was seen, that is absent or at the version that is replaced; neither when nobody looked.
    """

    action: Action
    source: ObjectInfo
    destination_key: str
    reason: str
    precondition: Precondition = Precondition()


def mapped(objects: Iterable[ObjectInfo], mapping: KeyMapping) -> Iterator[Mapped]:
    """Each object with its destination key."""
    return ((info, map_key(mapping, info.key)) for info in objects)


def merge(
    source: Iterable[Mapped],
    destination: Iterable[ObjectInfo],
    compare: Compare,
    *,
    lookup: Lookup | None = None,
    parallel: Parallel = map,
    window: int = 1,
    check: Check | None = None,
    markers_implied: bool = False,
    where: str = "",
) -> Iterator[Decision]:
    """Decide about every source object, in order.

    Args:
        source: ascending in the destination key, as a mapping that preserves order gives it.
        destination: the destination's listing, or the part of it below the mapping's listing prefix.
        lookup: asked only under EXACT, for a pair of equal size where the listing does not tell enough.
        parallel: how lookups are made; up to ``window`` at a time.
        check: refuses destination keys that cannot exist.
        markers_implied: at the destination, a key that ends in ``/`` is there as soon as a key below it is.
        where: the destination's URI, for messages.

    Raises:
        StoreRejected: the destination's listing is out of order or repeats a key.
        UsageError: the mapped keys are not ascending; use :func:`look_up_each`.
    """
    held: list[_Pair] = []
    asking = 0
    for info, key, there in _matches(_ascending(source), ordered(destination, where), markers_implied=markers_implied):
        refused = _refusal(key, check)
        ask = lookup is not None and refused is None and needs_lookup(compare, info, there)
        held.append(_Pair(info, key, there, refused, ask))
        asking += ask
        if asking in (0, window) or len(held) >= HELD * window:
            yield from _decide(held, compare, lookup, parallel)
            held, asking = [], 0
    yield from _decide(held, compare, lookup, parallel)


def look_up_each(
    source: Iterable[Mapped],
    lookup: Lookup,
    compare: Compare,
    *,
    parallel: Parallel = map,
    window: int = 1,
    check: Check | None = None,
) -> Iterator[Decision]:
    """As :func:`merge`, for mappings that do not preserve order: no listing, one lookup an object.

    Two source objects can map to one destination key here; the second is refused. Destination keys are held in
    memory for that.
    """
    seen: set[str] = set()
    held: list[_Pair] = []
    for info, key in source:
        refused = "another source object has the same destination key" if key in seen else _refusal(key, check)
        seen.add(key)
        held.append(_Pair(info, key, None, refused, ask=bool(key) and refused is None))
        if len(held) >= window:
            yield from _decide(held, compare, lookup, parallel)
            held = []
    yield from _decide(held, compare, lookup, parallel)


def copy_all(source: Iterable[Mapped], *, check: Check | None = None) -> Iterator[Decision]:
    """Copy everything without a look at the destination: Compare.ALWAYS at no cost, and under no precondition.

    For mappings that preserve order; another one could map two source objects to one key (:func:`look_up_each`).
    """
    for info, key in _ascending(source):
        yield _decision(info, key, _refusal(key, check), Verdict(Action.COPY, "always", Precondition()))


class _Pair(NamedTuple):
    source: ObjectInfo
    key: str
    there: ObjectInfo | None
    refused: str | None
    ask: bool


def _ascending(source: Iterable[Mapped]) -> Iterator[Mapped]:
    last: str | None = None
    for item in source:
        if last is not None and item[1] <= last:
            raise UsageError("the mapping does not preserve the order of keys", why=f"{item[1]!r} came after {last!r}")
        last = item[1]
        yield item


def _matches(
    source: Iterator[Mapped], destination: Iterator[ObjectInfo], *, markers_implied: bool
) -> Iterator[tuple[ObjectInfo, str, ObjectInfo | None]]:
    there = next(destination, None)
    for info, key in source:
        while there is not None and there.key < key:
            there = next(destination, None)
        if there is not None and there.key == key:
            yield info, key, there
        elif markers_implied and key.endswith("/") and there is not None and there.key.startswith(key):
            yield info, key, ObjectInfo(key, 0, "")
        else:
            yield info, key, None


def _decide(pairs: list[_Pair], compare: Compare, lookup: Lookup | None, parallel: Parallel) -> Iterator[Decision]:
    asked = [pair.key for pair in pairs if pair.ask]
    answers = iter(parallel(lookup, asked)) if lookup is not None and asked else iter(())
    for pair in pairs:
        there = next(answers) if pair.ask else pair.there
        yield _decision(pair.source, pair.key, pair.refused, judge(compare, pair.source, there))


def _refusal(key: str, check: Check | None) -> str | None:
    return check(key) if check is not None and key else None


def _decision(source: ObjectInfo, key: str, refused: str | None, verdict: Verdict) -> Decision:
    if not key:
        return Decision(Action.SKIP, source, key, "root-marker")
    if refused is not None:
        return Decision(Action.REFUSE, source, key, refused)
    return Decision(verdict.action, source, key, verdict.reason, verdict.precondition)
