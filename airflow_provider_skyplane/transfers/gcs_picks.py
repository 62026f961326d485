"""What the stock ``GCSToGCSOperator`` would copy where, as selections and mappings of the engine.

Where an object lands depends, in the stock operator, on what else its prefix holds: one object takes the name that is
given, several are put under it. Two looks at a listing tell which it is; it is never taken into memory.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import msgspec

from airflow_provider_skyplane.compat import AirflowException
from skyplane_core.errors import UsageError
from skyplane_core.filters import Filters, NameRule
from skyplane_core.keys import listing_prefix, map_key
from skyplane_core.spec import KeyMapping, MappingKind, Pick, Selection

WILDCARD = "*"
_LOOKS = 16
"""Prefixes that are looked at at once."""
_MICROSECOND, _NONE = datetime.timedelta(microseconds=1), datetime.timedelta()


class Source(Protocol):
    """The source, as far as it has to be known before anything is copied."""

    def listed(self, selection: Selection, after: str = "") -> Iterator[str]:
        """The keys that a selection takes, those behind ``after``, in order and as a stream."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is an object of this name."""
        ...


@dataclasses.dataclass(frozen=True)
class Window:
    """The stock operator's arguments about times of modification, in its order of precedence."""

    is_older_than: float | None = None
    last_modified_time: datetime.datetime | None = None
    maximum_modified_time: datetime.datetime | None = None

    def filters(self, now: datetime.datetime) -> Filters:
        """The first moment that counts, and the first that does not."""
        after, before = self.last_modified_time, self.maximum_modified_time
        if self.is_older_than:
            return Filters(modified_before=(now - datetime.timedelta(seconds=self.is_older_than)).timestamp())
        # A lower bound by itself is exclusive, one of a span inclusive.
        lowest = _utc(after) + (_MICROSECOND if before is None else _NONE) if after is not None else None
        return Filters(
            modified_since=0.0 if lowest is None else lowest.timestamp(),
            modified_before=None if before is None else _utc(before).timestamp(),
        )


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is asked for, and how a source object's name becomes that of its copy.

    Args:
        destination: the stock operator's ``destination_object``.
        required: a name that neither is an object nor begins the name of one is an error.
    """

    bucket: str
    prefixes: tuple[str, ...]
    destination: str | None
    delimiter: str
    exact: bool
    required: bool

    def picks(self, source: Source, times: Filters) -> list[Pick]:
        """What to copy; empty if there is nothing.

        Raises:
            AirflowException: in the stock operator's words, for a required object that is not there.
        """
        with ThreadPoolExecutor(_LOOKS, thread_name_prefix="look") as pool:
            found = list(pool.map(lambda prefix: self._pick(prefix, source), self.prefixes))
        singles = sorted({one for one in found if isinstance(one, str)})
        several = [one for one in found if isinstance(one, Pick)]
        return [_timed(pick, times) for pick in [*self._singles(singles), *several]]

    def _pick(self, prefix: str, source: Source) -> Pick | str | None:
        """A prefix with what becomes of the names below it; or one object's name; or nothing."""
        if WILDCARD in prefix:
            start, end = prefix.split(WILDCARD, 1)
            return Pick(_ending(start, end), self._replacing(start, self.destination))
        selection = _ending(prefix, self.delimiter)
        first = [] if self.exact else list(itertools.islice(source.listed(selection), 2))
        if not first:
            return self._alone(prefix, source)
        if len(first) == 1 and not first[0].endswith("/"):
            return first[0]
        base = _base(prefix, selection, source, first[0])
        # Narrower where all names are below it, so that the mapping keeps their order.
        selection = msgspec.structs.replace(selection, prefix=max(prefix, base, key=len))
        root = None if self.destination is None else self.destination.rstrip("/") + "/"
        return Pick(selection, self._replacing(base, root))

    def _alone(self, prefix: str, source: Source) -> str | None:
        if prefix and source.exists(prefix):
            return prefix
        if prefix and self.required:
            raise AirflowException(f"{prefix} does not exist in bucket {self.bucket}")
        return None

    def _replacing(self, source: str, destination: str | None) -> KeyMapping:
        if destination is None:
            return KeyMapping(MappingKind.APPEND, source, "")
        return KeyMapping(MappingKind.REPLACE, source, destination)

    def _singles(self, keys: Sequence[str]) -> list[Pick]:
        """One pick for all objects that are asked for by name."""
        if not keys:
            return []
        selection = Selection("", filters=Filters(keys=tuple(keys)))
        if not self.destination:
            return [Pick(selection, KeyMapping(MappingKind.APPEND, "", ""))]
        if self.destination.endswith("/"):
            return [Pick(selection, KeyMapping(MappingKind.FLATTEN, "", self.destination))]
        if len(keys) > 1:
            raise UsageError(
                f"{len(keys)} objects would get the one name {self.destination!r}",
                why=f"{keys[0]!r} and {keys[1]!r} are among them",
                next_step="Let destination_object end in a slash.",
            )
        return [Pick(selection, KeyMapping(MappingKind.REPLACE, keys[0], self.destination))]


def within_itself(picks: Sequence[Pick]) -> bool:
    """Whether, in one bucket, some copies would get names that are still being listed."""
    names = [listing_prefix(pick.mapping, pick.selection) for pick in picks]
    listed = [pick.selection.prefix for pick in picks if pick.selection.filters.keys is None]
    return any(name.startswith(prefix) or prefix.startswith(name) for name in names for prefix in listed)


def as_listed_now(pick: Pick, source: Source) -> Pick:
    """The same pick of what is there now, so that copies are not copied."""
    filters = pick.selection.filters
    if filters.keys is None:
        keys = tuple(source.listed(_untimed(pick.selection)))
        filters = msgspec.structs.replace(filters, rules=(), keys=keys)
    return Pick(Selection("", filters=filters), pick.mapping)


def onto_itself(picks: Sequence[Pick], source: Source) -> str | None:
    """A source object whose copy would get its own name, if that is so of the first of a pick."""
    for pick in picks:
        keys = pick.selection.filters.keys
        first = keys[0] if keys else next(source.listed(_untimed(pick.selection)), None)
        if first is not None and map_key(pick.mapping, first) == first:
            return first
    return None


def rank(prefixes: Sequence[str], key: str) -> int:
    """Which of the prefixes an object was asked for by, the first if by several."""
    starts = (prefix.split(WILDCARD, 1)[0] for prefix in prefixes)
    return next((number for number, start in enumerate(starts) if key.startswith(start)), len(prefixes))


def _ending(prefix: str, end: str) -> Selection:
    """What is below a prefix; with an ``end``, names in which that comes first at their own end."""
    if end == "/":
        return Selection(prefix, delimiter="/")
    if not end:
        return Selection(prefix)
    text = re.escape(end)
    rule = NameRule(include=True, pattern=rf"(?s)\A(?:(?!{text}).)*{text}\Z", regex=True)
    return Selection(prefix, filters=Filters(rules=(rule,)))


def _base(prefix: str, selection: Selection, source: Source, first: str) -> str:
    """What is taken off the names: the prefix as a directory if it is one of all of them, else its parent."""
    directory = prefix.rstrip("/") + "/"
    if prefix.endswith("/"):
        return directory
    last = "\U0010ffff"
    beyond = (key for key in source.listed(selection, directory + last) if not key.startswith(directory))
    if first.startswith(directory) and next(beyond, None) is None:
        return directory
    return prefix[: prefix.rfind("/") + 1]


def _timed(pick: Pick, times: Filters) -> Pick:
    filters = msgspec.structs.replace(
        pick.selection.filters, modified_since=times.modified_since, modified_before=times.modified_before
    )
    return msgspec.structs.replace(pick, selection=msgspec.structs.replace(pick.selection, filters=filters))


def _untimed(selection: Selection) -> Selection:
    filters = msgspec.structs.replace(selection.filters, modified_since=0.0, modified_before=None)
    return msgspec.structs.replace(selection, filters=filters)


def _utc(moment: datetime.datetime) -> datetime.datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)
