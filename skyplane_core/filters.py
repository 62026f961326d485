"""Filters: which objects of a selection take part, by name, size and age, and where a selection stops. Pure.

See docs/sync.md for what the rules mean to a user.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from skyplane_core.errors import UsageError
from skyplane_core.model import ObjectInfo

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]

CATCH_ALL = ("*", "**")


class NameRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One ``--include`` or ``--exclude``: a glob, or with ``regex`` a regular expression that is searched for."""

    include: bool
    pattern: str
    regex: bool = False


class Filters(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is left out of a selection. Names are relative to the root of the tree; the defaults leave out nothing.

    Args:
        rules: asked in order, the first that matches decides; what none matches takes part if the last one excludes.
        min_size, max_size: bytes, both inclusive; ``max_size`` None is no limit.
        min_age, max_age: seconds since the object was written, both inclusive; ``max_age`` None is no limit.
        modified_since, modified_before: when the object was written, in seconds since the epoch: the first moment that
            counts, and the first that does not; ``modified_before`` None is no limit.
        keys: exactly these whole keys, ascending; None for all that are listed.
        max_objects, max_bytes: where the selection stops: before the object that would go beyond; 0 is no limit.
    """

    rules: tuple[NameRule, ...] = ()
    min_size: _Count = 0
    max_size: _Count | None = None
    min_age: _Seconds = 0.0
    max_age: _Seconds | None = None
    modified_since: _Seconds = 0.0
    modified_before: _Seconds | None = None
    keys: tuple[str, ...] | None = None
    max_objects: _Count = 0
    max_bytes: _Count = 0


class Passing:
    """Says what passes the filters.

    Args:
        now: seconds since the epoch, from which ages are counted.

    Raises:
        UsageError: a pattern is none.
    """

    def __init__(self, filters: Filters, now: float) -> None:
        self._filters = filters
        self._rules = [(rule.include, compiled(rule)) for rule in filters.rules]
        self._otherwise = not filters.rules or not filters.rules[-1].include
        self._newest = now - filters.min_age
        self._oldest = None if filters.max_age is None else now - filters.max_age

    def __call__(self, name: str, info: ObjectInfo) -> bool:
        """Whether an object whose key is ``name``, relative to the tree's root, passes."""
        filters = self._filters
        return (
            self.named(name)
            and info.size >= filters.min_size
            and (filters.max_size is None or info.size <= filters.max_size)
            and (not filters.min_age or info.modified <= self._newest)
            and (self._oldest is None or info.modified >= self._oldest)
            and info.modified >= filters.modified_since
            and (filters.modified_before is None or info.modified < filters.modified_before)
        )

    def named(self, name: str) -> bool:
        """Whether the rules about names let ``name`` pass."""
        return next((include for include, pattern in self._rules if pattern.search(name)), self._otherwise)


def until(filters: Filters, objects: Iterable[ObjectInfo], stopped: list[str]) -> Iterator[ObjectInfo]:
    """The objects before the first that would go beyond a limit, which is then named in ``stopped``."""
    size = 0
    for count, info in enumerate(objects):
        if filters.max_objects and count == filters.max_objects:
            stopped.append("max_objects")
            return
        if filters.max_bytes and size + info.size > filters.max_bytes:
            stopped.append("max_bytes")
            return
        size += info.size
        yield info


def compiled(rule: NameRule) -> re.Pattern[str]:
    """The rule as an expression that is searched for in a relative key.

    Raises:
        UsageError: it is no pattern.
    """
    try:
        return re.compile(rule.pattern if rule.regex else _expression(rule.pattern), 0 if rule.regex else re.DOTALL)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(
            f"{rule.pattern!r} is not a pattern", why=str(error), next_step="Escape what is meant literally."
        ) from error


def _expression(glob: str) -> str:
    """A glob as a regular expression over the whole relative key.

    With a ``/`` before its end it is anchored at the root, otherwise it may begin behind any ``/``. With a ``/`` at its
    end it means all that lies below. Without, it also means the folder marker of that name.
    """
    body = glob.removesuffix("/")
    start = "" if "/" in body else "(?:.*/)?"
    end = "/.*" if glob.endswith("/") else "/?"
    return rf"\A{start}{''.join(_tokens(body.removeprefix('/')))}{end}\Z"


_TOKEN = re.compile(r"\*\*|\*|\?|\[!?\]?[^\]/]*\]|.", re.DOTALL)


def _tokens(glob: str) -> Iterator[str]:
    for token in _TOKEN.findall(glob):
        if token in ("*", "**", "?"):
            yield {"*": "[^/]*", "**": ".*", "?": "[^/]"}[token]
        elif len(token) > 1:
            negated = token.startswith("[!")
            # Ranges stay; nothing else within is special.
            inside = re.escape(token[2 if negated else 1 : -1]).replace(r"\-", "-")
            yield f"(?!/)[{'^' if negated else ''}{inside}]"
        else:
            yield re.escape(token)
