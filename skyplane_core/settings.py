"""Settings that cannot work are refused here, by name and with the limit that they break. Pure."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Sequence
from typing import TypeVar, cast

import msgspec

from skyplane_core.errors import StoreRejected, UsageError
from skyplane_core.filters import CATCH_ALL, Filters, compiled
from skyplane_core.planner.parts import PARTS_IN_POOL, part_size
from skyplane_core.selection import tree_root
from skyplane_core.spec import (
    DEFAULT_DELETE_CAP,
    Compare,
    DeleteCap,
    KeyMapping,
    MappingKind,
    Overwrite,
    Pick,
    Selection,
    TransferOptions,
)
from skyplane_core.stores.base import Capabilities

T = TypeVar("T", bound=msgspec.Struct)

MAX_MANIFEST_BYTES = 32 * 1024 * 1024
"""Of all keys of a manifest together: they travel with the transfer, and stay in its head's memory."""

_PLACE = re.compile(r"(?P<why>.*) - at `\$\.(?P<field>\w+)[^`]*`", re.DOTALL)


def checked_options(options: TransferOptions) -> TransferOptions:
    """The options as a gateway reads them, which is the only one to hold them against the limits of their types.

    Raises:
        UsageError: a gateway would refuse them; the first one that is wrong is named, with its limit.
    """
    return _checked(options, "options")


def checked_filters(filters: Filters) -> Filters:
    """The filters as a gateway reads them, held against each other.

    Raises:
        UsageError: two contradict each other, a rule can never be asked, or a pattern is none.
    """
    filters = _checked(filters, "filters")
    if filters.max_size is not None and filters.min_size > filters.max_size:
        raise UsageError(f"min_size is {filters.min_size} and max_size {filters.max_size}", why="no size is both")
    if filters.modified_before is not None and filters.modified_since >= filters.modified_before:
        raise UsageError(
            f"modified_since is {filters.modified_since:f} and modified_before {filters.modified_before:f}",
            why="no time is both",
        )
    if filters.max_age is not None and filters.min_age > filters.max_age:
        raise UsageError(
            f"min_age is {filters.min_age:g} and max_age {filters.max_age:g} seconds", why="no age is both"
        )
    for rule in filters.rules:
        if not rule.pattern:
            raise UsageError("a filter has an empty pattern", next_step="Leave it out.")
        compiled(rule)
    ends = [number for number, rule in enumerate(filters.rules, 1) if not rule.regex and rule.pattern in CATCH_ALL]
    if ends and ends[0] < len(filters.rules):
        late = filters.rules[ends[0]].pattern
        raise UsageError(
            f"the filter {late!r} comes after one that matches everything",
            why="the first filter that matches an object decides about it",
            next_step="Put the one that matches everything last.",
        )
    return filters


def check_sync(selection: Selection, mapping: KeyMapping, options: TransferOptions) -> None:
    """Refuse a selection, a comparison and deletions that contradict each other.

    Raises:
        UsageError: it names both sides of the contradiction.
    """
    _check_filters(selection)
    compare, overwrite = options.compare, options.overwrite
    if overwrite in (Overwrite.ALWAYS, Overwrite.NEVER) and compare not in (Compare.EXACT, Compare.ALWAYS):
        raise UsageError(
            f"compare is {compare.value!r} and overwrite {overwrite.value!r}",
            why=f"with {overwrite.value!r} nothing is compared",
            next_step="Leave one of them out.",
        )
    if overwrite is Overwrite.IF_NEWER and compare is Compare.NAME:
        raise UsageError(
            "compare is 'name' and overwrite 'if-newer'",
            why="with 'name' nothing is ever replaced",
            next_step="Leave one of them out.",
        )
    if not options.delete:
        if options.max_delete != DEFAULT_DELETE_CAP:
            raise UsageError("max_delete is given, and nothing is to be deleted", next_step="Ask for delete as well.")
        return
    filters = selection.filters
    limits = {
        "max_objects": filters.max_objects,
        "max_bytes": filters.max_bytes,
        "a manifest": filters.keys is not None,
    }
    for name, given in limits.items():
        if given:
            raise UsageError(
                f"delete and {name} contradict each other",
                why="what was not selected for its sake would count as missing at the source",
                next_step="Leave one of them out.",
            )
    tree = selection.tree and mapping.kind is MappingKind.PREFIX and mapping.source == selection.prefix
    if not tree or selection.delimiter or selection.glob:
        raise UsageError("only a sync of a whole tree can delete", next_step="Use mode='sync' without a selection.")


def check_move(options: TransferOptions, picks: Sequence[Pick], *, resume: bool) -> None:
    """Refuse what a transfer of several picks, or one that moves, cannot be.

    Raises:
        UsageError: it names both sides of the contradiction.
    """
    if options.delete and (len(picks) > 1 or options.move):
        raise UsageError(
            f"delete and {'a move' if options.move else 'several picks'} contradict each other",
            why="what is gone from the source counts as extraneous at the destination",
            next_step="Leave one of them out.",
        )
    if options.move_same and not options.move:
        raise UsageError("move_same is given, and nothing is to be moved", next_step="Ask for move as well.")
    if options.move and resume:
        raise UsageError(
            "a move cannot be continued",
            why="what an earlier run has copied and not deleted would stay at the source",
            next_step="Start it anew: it copies what is left there.",
        )


def delete_cap(text: str | int) -> DeleteCap:
    """How much may be deleted: a number of objects (``1000``) or a share of what was there (``10%``).

    Raises:
        UsageError: it is neither.
    """
    said = str(text).strip()
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)\s*%", said)
    if match is None or (match[2] and float(match[2]) > 100):
        raise UsageError(
            f"max_delete cannot be {text!r}", why="it is a number of objects, such as 1000, or a share, such as 10%"
        )
    return DeleteCap(objects=int(match[1])) if match[1] else DeleteCap(percent=float(match[2]))


def _check_filters(selection: Selection) -> None:
    filters = selection.filters
    if selection.single and filters != Filters():
        raise UsageError(
            "filters choose from a tree, and the source is one object",
            where=selection.prefix,
            next_step="Leave them out, or copy a tree (-r, recursive=True).",
        )
    keys = filters.keys or ()
    root = tree_root(selection.prefix) if selection.tree else selection.prefix
    outside = next((key for key in keys if not key.startswith(root) or key == root), None)
    if outside is not None:
        raise UsageError(
            f"the manifest names {outside!r}, which is not under the source",
            where=selection.prefix,
            why="a manifest holds whole keys",
            next_step="Name a source that holds all of them.",
        )
    size = sum(len(key.encode("utf-8", "surrogatepass")) for key in keys)
    if size > MAX_MANIFEST_BYTES:
        raise UsageError(
            f"the keys of the manifest have {size} bytes, and {MAX_MANIFEST_BYTES} can be taken",
            next_step="Cut it into several, or select by prefix and filters.",
        )


def _checked(value: T, what: str) -> T:
    try:
        return msgspec.json.decode(msgspec.json.encode(value), type=type(value))
    except msgspec.ValidationError as error:
        found = _PLACE.fullmatch(str(error))
        if found is None:
            raise UsageError(f"the {what} of the transfer cannot be used", why=str(error)) from error
        wrong = getattr(value, found["field"])
        kind = next(field.type for field in msgspec.structs.fields(type(value)) if field.name == found["field"])
        if isinstance(kind, enum.EnumMeta):
            why = f"expected one of {', '.join(known.value for known in cast('type[enum.Enum]', kind))}"
        else:
            why = found["why"].replace("`", "")
        raise UsageError(f"{found['field']} cannot be {wrong!r}", why=why[:1].lower() + why[1:]) from error
    except TypeError as error:
        raise UsageError(f"the {what} of the transfer cannot be used", why=str(error)) from error


def check_gateways(pool_bytes: int, expiry_seconds: float) -> None:
    """Refuse what no gateway starts with.

    Raises:
        UsageError: one of them is not a positive, finite number.
    """
    if pool_bytes < 1:
        raise UsageError(f"pool_bytes is {pool_bytes!r}", why="a gateway needs a buffer pool of at least 1 byte")
    if not 0 < expiry_seconds < math.inf:
        raise UsageError(f"expiry_seconds is {expiry_seconds!r}", why="it has to be a positive number of seconds")


def check_part_in_pool(options: TransferOptions, pool_bytes: int) -> None:
    """Refuse a part size that the user chose and the buffer pool cannot hold.

    Raises:
        UsageError: it is larger than the share of the pool that a part may have.
    """
    if options.part_size > pool_bytes // PARTS_IN_POOL:
        raise UsageError(
            f"part_size is {options.part_size} bytes, and with this buffer pool it can be at most "
            f"{pool_bytes // PARTS_IN_POOL}",
            why=f"the pool has {pool_bytes} bytes (pool_bytes) and has to hold {PARTS_IN_POOL} parts",
            next_step="Use smaller parts, or give the gateways a larger pool.",
        )


def check_parts(options: TransferOptions, pool_bytes: int, destination: Capabilities, uri: str) -> None:
    """Refuse parts that the destination does not take, and a pool too small for the least that it takes.

    A part size may still grow: where an object would have more parts than the destination takes.

    Args:
        uri: the destination's, for the error.

    Raises:
        UsageError: it names the destination and its limits.
    """
    least, most = destination.min_part_size, destination.max_part_size
    if options.part_size and not least <= options.part_size <= most:
        raise UsageError(
            f"part_size is {options.part_size} bytes",
            where=uri,
            why=f"the destination takes parts of {least} to {most} bytes",
            next_step="Choose one in between, or leave the choice to the engine.",
        )
    if pool_bytes < PARTS_IN_POOL * least:
        raise UsageError(
            f"a buffer pool of {pool_bytes} bytes is too small",
            where=uri,
            why=f"the destination takes parts of at least {least} bytes, and the pool has to hold {PARTS_IN_POOL}",
            next_step=f"Give the gateways a pool (pool_bytes) of at least {PARTS_IN_POOL * least} bytes.",
        )


def check_object(size: int, options: TransferOptions, pool_bytes: int, destination: Capabilities, uri: str) -> None:
    """Refuse an object that cannot be cut into parts.

    Args:
        size: of the object, in bytes; ``uri`` is its own.

    Raises:
        StoreRejected: no part size satisfies the destination and the pool.
    """
    try:
        part_size(size, options.part_size, [destination], pool_bytes, threshold=options.multipart_threshold)
    except StoreRejected as error:
        raise StoreRejected(error.what, where=uri, why=error.why, next_step=error.next_step) from error
