"""The stream of decisions of one transfer: source listing, selection, mapping, and the merge with the destination."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

from skyplane_core.compare import Rule, rule_of
from skyplane_core.coordinator.store import ListedStore
from skyplane_core.diff import (
    Action,
    Check,
    Decision,
    Lookup,
    Lookups,
    Mirror,
    apart,
    copy_all,
    look_up_each,
    mapped,
    merge,
)
from skyplane_core.errors import ObjectNotFound
from skyplane_core.keys import key_check, listing_prefix, map_key, preserves_order, select, source_prefix
from skyplane_core.listing import ordered
from skyplane_core.mirror import may_go
from skyplane_core.model import ObjectInfo
from skyplane_core.selection import Chooser
from skyplane_core.spec import Compare, Pick, Selection, TransferSpec

LOOKUPS = 32
"""HEAD requests in flight at once, where a listing does not tell enough."""

Counted = Callable[[Iterator[ObjectInfo]], Iterator[ObjectInfo]]


def decisions(
    spec: TransferSpec,
    counted: Counted,
    source: ListedStore,
    destination: ListedStore,
    stopped: list[str] | None = None,
) -> Generator[Decision]:
    """What to do with each object as a stream, in key order of each pick: memory does not grow with their number.

    Args:
        counted: wraps the source listing, to count what was seen.
        stopped: gets the name of a limit that ended the selection before the listing did.

    Raises:
        StoreError: a listing failed; what was decided before stands.
    """
    rule = rule_of(spec.options)
    check = key_check(destination.capabilities)
    with ThreadPoolExecutor(LOOKUPS, thread_name_prefix="lookup") as pool:
        lookups = Lookups(_lookup(destination), _lookup(source), pool.map, LOOKUPS)
        if spec.options.delete:
            listing = counted(_listing(spec, spec.selection, source))
            yield from _mirror(spec, listing, source, destination, lookups, check)
            return
        each = (_picked(spec, pick, counted, source, destination, lookups, check, stopped) for pick in spec.picks)
        together = itertools.chain.from_iterable(each)
        yield from apart(together, rule) if spec.also else together


def _picked(
    spec: TransferSpec,
    pick: Pick,
    counted: Counted,
    source: ListedStore,
    destination: ListedStore,
    lookups: Lookups,
    check: Check,
    stopped: list[str] | None,
) -> Iterator[Decision]:
    selection, mapping, rule = pick.selection, pick.mapping, rule_of(spec.options)
    in_order = preserves_order(mapping, selection)
    named = selection.filters.keys is not None
    missing: list[str] = []
    listing = counted(_named(selection, lookups, missing) if named else _listing(spec, selection, source))
    objects = mapped(select(selection, listing, spec.created_at, stopped), mapping)
    if _asks_nobody(rule) and in_order:
        yield from copy_all(objects, check=check)
    elif selection.single or named or not in_order:
        yield from look_up_each(objects, lookups, rule, check=check, first_wins=mapping.first_wins)
    else:
        yield from merge(
            objects,
            destination.list(listing_prefix(mapping, selection)),
            rule,
            lookups=lookups,
            check=check,
            markers_implied=destination.capabilities.markers_are_implied,
            where=spec.destinations[0].store.uri,
        )
    for key in missing:
        reason = "the manifest names it, and the source has no such object"
        yield Decision(Action.REFUSE, ObjectInfo(key, 0, ""), map_key(mapping, key), reason)


def _asks_nobody(rule: Rule) -> bool:
    return rule.compare is Compare.ALWAYS and not rule.only_newer


def _mirror(
    spec: TransferSpec,
    listing: Iterator[ObjectInfo],
    source: ListedStore,
    destination: ListedStore,
    lookups: Lookups,
    check: Check,
) -> Iterator[Decision]:
    """All of the source's objects take part in the merge: one that filters leave out still keeps what it maps to."""
    target = spec.destinations[0]
    return merge(
        mapped(listing, target.mapping),
        destination.list(listing_prefix(target.mapping)),
        rule_of(spec.options),
        lookups=lookups,
        check=check,
        markers_implied=destination.capabilities.markers_are_implied,
        mirror=Mirror(
            Chooser(spec.selection, spec.created_at),
            may_go(spec.selection.filters, target.mapping, spec.created_at),
            source.capabilities.markers_are_implied or destination.capabilities.markers_are_implied,
        ),
        where=target.store.uri,
    )


def _lookup(store: ListedStore) -> Lookup:
    def lookup(key: str) -> ObjectInfo | None:
        try:
            return store.head(key)
        except ObjectNotFound:
            return None

    return lookup


def _listing(spec: TransferSpec, selection: Selection, source: ListedStore) -> Iterator[ObjectInfo]:
    if selection.single:
        return iter([source.head(selection.prefix)])
    listing = source.list(source_prefix(selection), delimiter=selection.delimiter)
    return ordered(listing, spec.source.uri)


def _named(selection: Selection, lookups: Lookups, missing: list[str]) -> Iterator[ObjectInfo]:
    """The objects that a manifest names, each looked up: a bucket may hold a million times more."""
    keys = selection.filters.keys or ()
    for first in range(0, len(keys), lookups.window):
        asked = keys[first : first + lookups.window]
        for key, found in zip(asked, lookups.parallel(lookups.source or lookups.destination, asked), strict=True):
            if found is None:
                missing.append(key)
            else:
                yield found
