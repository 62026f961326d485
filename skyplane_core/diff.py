"""The whole of sync: two ordered streams in lock-step, and one decision for each source object. Pure.

Memory does not grow with the number of objects: at most ``HELD * window`` pairs wait for a closer look. A destination
key that no source object maps to is ignored, unless the destination is to be a mirror of the source. On a store without
directories ``a`` and ``a/b`` are two objects like any others; a store that cannot hold both refuses the second one when
it is written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec

from skyplane_core.compare import Action, Rule, Verdict, judge, needs_lookup, needs_source_lookup
from skyplane_core.errors import UsageError
from skyplane_core.keys import map_key
from skyplane_core.listing import ordered
from skyplane_core.model import ObjectInfo, Precondition
from skyplane_core.spec import Compare, KeyMapping

__all__ = [
    "Action",
    "Check",
    "Decision",
    "Lookup",
    "Lookups",
    "Mapped",
    "Mirror",
    "Parallel",
    "apart",
    "copy_all",
    "look_up_each",
    "mapped",
    "merge",
]

Lookup = Callable[[str], ObjectInfo | None]
"""A HEAD of one key, with attributes; None when there is no such object."""

Mapped = tuple[ObjectInfo, str]
"""A source object and its destination key."""

Parallel = Callable[[Lookup, Iterable[str]], Iterable[ObjectInfo | None]]
"""``map`` or anything like it that keeps the order, such as the ``map`` of a thread pool."""

Check = Callable[[str], str | None]
"""Why a destination key cannot exist, or None: :func:`skyplane_core.keys.check_key` with its capabilities bound."""


_TAKEN = "another source object has the same destination key"
HELD = 8
"""Pairs kept back, for each lookup of a window, so that lookups that are far apart are still made together."""


class Decision(msgspec.Struct, frozen=True):
    """What to do with one source object; for DELETE, ``source`` is the destination object that goes.

    ``reason`` is a stable word (see docs/sync.md), for REFUSE a sentence. ``precondition`` is for a COPY or DELETE: the
    key must still be as it was seen, that is absent or at the version that is replaced; neither when nobody looked.
    ``written`` is when the destination object that was seen was written, None if none was.
    """

    action: Action
    source: ObjectInfo
    destination_key: str
    reason: str
    precondition: Precondition = Precondition()
    written: float | None = None


class Lookups(NamedTuple):
    """How to look closer at what a listing does not tell enough of.

    ``parallel`` makes up to ``window`` of them at a time. Without ``source``, what its listing says is all there is.
    """

    destination: Lookup
    source: Lookup | None = None
    parallel: Parallel = map
    window: int = 1


class Mirror(NamedTuple):
    """That what no source object maps to is to be deleted, and what is to be spared.

    ``takes_part`` says which source objects are to be copied: the others keep what they map to from being deleted.
    ``may_go`` says which destination objects may be deleted at all. ``markers_implied``: on one side at least, a key
    that ends in ``/`` is there as soon as a key below it is.
    """

    takes_part: Callable[[ObjectInfo], bool]
    may_go: Callable[[ObjectInfo], bool]
    markers_implied: bool = False


def mapped(objects: Iterable[ObjectInfo], mapping: KeyMapping) -> Iterator[Mapped]:
    """Each object with its destination key."""
    return ((info, map_key(mapping, info.key)) for info in objects)


def merge(
    source: Iterable[Mapped],
    destination: Iterable[ObjectInfo],
    rule: Rule,
    *,
    lookups: Lookups | None = None,
    check: Check | None = None,
    markers_implied: bool = False,
    mirror: Mirror | None = None,
    where: str = "",
) -> Iterator[Decision]:
    """Decide about every source object, and with ``mirror`` about every destination object that may go, in order.

    Args:
        source: ascending in the destination key, as a mapping that preserves order gives it.
        destination: the destination's listing, or the part of it below the mapping's listing prefix.
        lookups: asked only for a pair of equal size where the listings do not tell enough.
        check: refuses destination keys that cannot exist.
        markers_implied: at the destination, a key that ends in ``/`` is there as soon as a key below it is.
        where: the destination's URI, for messages.

    Raises:
        StoreRejected: the destination's listing is out of order or repeats a key.
        UsageError: the mapped keys are not ascending; use :func:`look_up_each`.
    """
    window = lookups.window if lookups is not None else 1
    held: list[_Pair] = []
    asking = 0
    matches = _matches(_ascending(source), ordered(destination, where), markers_implied=markers_implied, mirror=mirror)
    for info, key, there in matches:
        pair = _Pair(info, key, there)
        if info is not None:
            pair.refused = _refusal(key, check)
        if lookups is not None and info is not None and pair.refused is None:
            pair.ask = needs_lookup(rule, info, there)
            pair.ask_source = lookups.source is not None and needs_source_lookup(rule, info, there)
        if not (held or pair.ask or pair.ask_source):
            yield _decided(pair, there, rule)
            continue
        held.append(pair)
        asking += pair.ask or pair.ask_source
        if asking == window or len(held) >= HELD * window:
            yield from _decide(held, rule, lookups)
            held, asking = [], 0
    yield from _decide(held, rule, lookups)


def look_up_each(
    source: Iterable[Mapped], lookups: Lookups, rule: Rule, *, check: Check | None = None, first_wins: bool = False
) -> Iterator[Decision]:
    """As :func:`merge`, for mappings that do not preserve order: no listing, one lookup an object.

    Two source objects can map to one destination key here: the second is refused, or, where the name alone counts,
    left alone as if the first were there already. Destination keys are held in memory for that.

    Args:
        first_wins: leave the second alone in any case, as ``taken``.
    """
    seen: set[str] = set()
    held: list[_Pair] = []
    for info, key in source:
        if key and key in seen and (first_wins or rule.compare is Compare.NAME):
            held.append(_Pair(info, key, info, taken=first_wins))
            continue
        refused = _TAKEN if key in seen else _refusal(key, check)
        seen.add(key)
        asked = bool(key) and refused is None
        ask_source = asked and lookups.source is not None and needs_source_lookup(rule, info, info)
        held.append(_Pair(info, key, None, refused, ask=asked, ask_source=ask_source))
        if len(held) >= lookups.window:
            yield from _decide(held, rule, lookups)
            held = []
    yield from _decide(held, rule, lookups)


def copy_all(source: Iterable[Mapped], *, check: Check | None = None) -> Iterator[Decision]:
    """Copy everything without a look at the destination: Compare.ALWAYS at no cost, and under no precondition.

    For mappings that preserve order; another one could map two source objects to one key (:func:`look_up_each`).
    """
    for info, key in _ascending(source):
        yield _decision(info, key, _refusal(key, check), Verdict(Action.COPY, "always", Precondition()))


def apart(decisions: Iterable[Decision], rule: Rule) -> Iterator[Decision]:
    """The decisions about several picks of one source, each object once.

    Two different objects can map to one destination key here: what becomes of the second is as in
    :func:`look_up_each`. All destination keys are held in memory.
    """
    seen: dict[str, str] = {}
    for decision in decisions:
        key, origin = decision.destination_key, decision.source.key
        if not key or key not in seen:
            seen[key] = origin
            yield decision
        elif seen[key] != origin:
            taken = decision.source if rule.compare is Compare.NAME else None
            yield _decision(decision.source, key, None if taken else _TAKEN, judge(rule, decision.source, taken), taken)


@dataclasses.dataclass(slots=True)
class _Pair:
    """``source`` None: there is none, and the destination object is to go. ``taken``: another one has its key."""

    source: ObjectInfo | None
    key: str
    there: ObjectInfo | None
    refused: str | None = None
    ask: bool = False
    ask_source: bool = False
    taken: bool = False


def _ascending(source: Iterable[Mapped]) -> Iterator[Mapped]:
    last: str | None = None
    for item in source:
        if last is not None and item[1] <= last:
            raise UsageError("the mapping does not preserve the order of keys", why=f"{item[1]!r} came after {last!r}")
        last = item[1]
        yield item


def _matches(
    source: Iterator[Mapped], destination: Iterator[ObjectInfo], *, markers_implied: bool, mirror: Mirror | None
) -> Iterator[tuple[ObjectInfo | None, str, ObjectInfo | None]]:
    there = next(destination, None)
    for info, key in source:
        while there is not None and there.key < key:
            if mirror is not None and not _kept(there, mirror, key):
                yield None, there.key, there
            there = next(destination, None)
        match = None
        if there is not None and there.key == key:
            match, there = there, next(destination, None)
        elif markers_implied and key.endswith("/") and there is not None and there.key.startswith(key):
            match = ObjectInfo(key, 0, "")
        if mirror is None or mirror.takes_part(info):
            yield info, key, match
    while mirror is not None and there is not None:
        if mirror.may_go(there):
            yield None, there.key, there
        there = next(destination, None)


def _kept(there: ObjectInfo, mirror: Mirror, next_key: str) -> bool:
    """Whether an object that no source object maps to stays; the next one that one maps to is ``next_key``."""
    implied = mirror.markers_implied and there.key.endswith("/") and next_key.startswith(there.key)
    return implied or not mirror.may_go(there)


def _decide(pairs: list[_Pair], rule: Rule, lookups: Lookups | None) -> Iterator[Decision]:
    answers: Iterator[ObjectInfo | None] = iter(())
    if lookups is not None:
        asked = [pair.key for pair in pairs if pair.ask]
        answers = iter(lookups.parallel(lookups.destination, asked)) if asked else answers
        _describe([pair for pair in pairs if pair.ask_source], lookups)
    for pair in pairs:
        yield _decided(pair, next(answers) if pair.ask else pair.there, rule)


def _decided(pair: _Pair, there: ObjectInfo | None, rule: Rule) -> Decision:
    if pair.source is not None and pair.taken:
        return Decision(Action.SKIP, pair.source, pair.key, "taken")
    if pair.source is not None:
        return _decision(pair.source, pair.key, pair.refused, judge(rule, pair.source, there), there)
    if there is None:
        raise AssertionError("a pair of nothing")
    seen = Precondition(version=there.version)
    return Decision(Action.DELETE, there, pair.key, "extraneous", seen, there.modified)


def _describe(pairs: list[_Pair], lookups: Lookups) -> None:
    """Put what a closer look at the source tells into the pairs, where it is still what was listed."""
    if lookups.source is None or not pairs:
        return
    keys = [pair.source.key for pair in pairs if pair.source is not None]
    for pair, found in zip(pairs, lookups.parallel(lookups.source, keys), strict=True):
        if found is not None and pair.source is not None and found.version == pair.source.version:
            pair.source = found


def _refusal(key: str, check: Check | None) -> str | None:
    return check(key) if check is not None and key else None


def _decision(
    source: ObjectInfo, key: str, refused: str | None, verdict: Verdict, there: ObjectInfo | None = None
) -> Decision:
    if not key:
        return Decision(Action.SKIP, source, key, "root-marker")
    if refused is not None:
        return Decision(Action.REFUSE, source, key, refused)
    written = there.modified if there is not None else None
    return Decision(verdict.action, source, key, verdict.reason, verdict.precondition, written)
