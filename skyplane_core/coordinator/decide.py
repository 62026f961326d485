"""The stream of decisions of one transfer: source listing, selection, mapping, and the merge with the destination."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from skyplane_core.coordinator.store import ListedStore
from skyplane_core.diff import Decision, copy_all, look_up_each, mapped, merge
from skyplane_core.errors import ObjectNotFound
from skyplane_core.keys import check_key, listing_prefix, preserves_order, select, source_prefix
from skyplane_core.listing import ordered
from skyplane_core.model import ObjectInfo
from skyplane_core.spec import Compare, TransferSpec

LOOKUPS = 32
"""HEAD requests in flight at once, where a listing does not tell enough."""

Counted = Callable[[Iterator[ObjectInfo]], Iterator[ObjectInfo]]


def decisions(
    spec: TransferSpec, counted: Counted, source: ListedStore, destination: ListedStore
) -> Iterator[Decision]:
    """What to do with each source object, in key order, as a stream: memory does not grow with their number.

    Args:
        counted: wraps the source listing, to count what was seen.

    Raises:
        StoreError: a listing failed; what was decided before stands.
    """
    target = spec.destinations[0]
    compare = spec.options.compare
    objects = mapped(select(spec.selection, counted(_source_listing(spec, source))), target.mapping)

    def check(key: str) -> str | None:
        return check_key(key, destination.capabilities)

    def lookup(key: str) -> ObjectInfo | None:
        try:
            return destination.head(key)
        except ObjectNotFound:
            return None

    ordered_mapping = preserves_order(target.mapping, spec.selection)
    if compare is Compare.ALWAYS and ordered_mapping:
        yield from copy_all(objects, check=check)
        return
    with ThreadPoolExecutor(LOOKUPS, thread_name_prefix="lookup") as pool:
        if spec.selection.single or not ordered_mapping:
            yield from look_up_each(objects, lookup, compare, parallel=pool.map, window=LOOKUPS, check=check)
            return
        there = destination.list(listing_prefix(target.mapping, spec.selection))
        yield from merge(
            objects,
            there,
            compare,
            lookup=lookup,
            parallel=pool.map,
            window=LOOKUPS,
            check=check,
            markers_implied=destination.capabilities.markers_are_implied,
            where=target.store.uri,
        )


def _source_listing(spec: TransferSpec, source: ListedStore) -> Iterator[ObjectInfo]:
    if spec.selection.single:
        return iter([source.head(spec.selection.prefix)])
    listing = source.list(source_prefix(spec.selection), delimiter=spec.selection.delimiter)
    return ordered(listing, spec.source.uri)
