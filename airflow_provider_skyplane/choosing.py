"""Operator arguments that say what of a tree takes part and what a sync may do, as the engine's values."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skyplane_core.errors import UsageError
from skyplane_core.filters import Filters, NameRule
from skyplane_core.manifest import manifest_keys, read_manifest
from skyplane_core.settings import delete_cap
from skyplane_core.spec import DEFAULT_DELETE_CAP, DeleteCap
from skyplane_core.units import parse_age, parse_size

NAMES = ("exclude", "exclude_regex", "include", "include_regex")
"""The arguments about names, in the order in which they are asked."""


def name_rules(given: dict[str, str | Sequence[str] | None]) -> tuple[NameRule, ...]:
    """Rules of patterns by argument: what is excluded stays excluded."""
    rules: list[NameRule] = []
    for name in NAMES:
        patterns = given.get(name)
        # One that a template rendered to nothing stays, and is refused: without it, more than was meant would be taken.
        several = (patterns,) if isinstance(patterns, str) else patterns or ()
        rules += [NameRule(name.startswith("include"), pattern, name.endswith("_regex")) for pattern in several]
    return tuple(rules)


def limits(given: dict[str, Any]) -> Filters:
    """Filters of sizes, ages and counts by argument; None is no limit.

    Raises:
        ValueError: one of them is no such thing; it is named.
    """
    values: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        try:
            values[name] = _seconds(value) if name.endswith("_age") else _number(value, sized="objects" not in name)
        except (ValueError, TypeError) as error:
            raise ValueError(f"Invalid value for {name}: {error}") from error
    return Filters(**values)


def keys_of(manifest: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """The keys that a manifest names: the path of a file, or the keys themselves.

    Raises:
        UsageError: it cannot be used.
    """
    if manifest is None:
        return None
    return read_manifest(Path(manifest)) if isinstance(manifest, str) else manifest_keys(manifest)


def cap_of(max_delete: str | int | None) -> DeleteCap:
    """How much may be deleted.

    Raises:
        ValueError: it is neither a number nor a share.
    """
    if max_delete is None:
        return DEFAULT_DELETE_CAP
    try:
        return delete_cap(max_delete)
    except UsageError as error:
        raise ValueError(f"Invalid value for max_delete: {error}") from error


def _number(value: int | str, *, sized: bool) -> int:
    number = parse_size(value) if sized and isinstance(value, str) else value
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(f"{value!r} is not a number greater than 0")
    return number


def _seconds(value: float | str | datetime.timedelta) -> float:
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    seconds = parse_age(value) if isinstance(value, str) else float(value)
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{value!r} is not an age")
    return seconds
