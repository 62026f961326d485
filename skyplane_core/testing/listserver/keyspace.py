"""Keys that are computed: ``data/0000000/000.bin``, a thousand a folder, and which of them a listing's page shows."""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
from collections.abc import Sequence
from typing import overload

ROOT = "data/"
FOLDER = 1000
"""Objects a folder. What differs between folders is one number, so that a folder is rendered by replacing it."""
LAST = "\U0010ffff"


@dataclasses.dataclass(frozen=True)
class Page:
    """Objects ``start`` to ``end`` by number, or common prefixes; ``last`` is what the next page comes after."""

    start: int
    end: int
    prefixes: Sequence[str]
    last: str
    more: bool


class KeySpace(Sequence[str]):
    """``count`` keys in order, none of them in memory."""

    def __init__(self, count: int) -> None:
        self.total = count

    def __len__(self) -> int:
        return self.total

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[str]: ...
    def __getitem__(self, number: int | slice) -> str | Sequence[str]:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(self.total))]
        if not 0 <= number < self.total:
            raise IndexError(number)
        return f"{folder(number // FOLDER)}{number % FOLDER:03d}.bin"

    def page(
        self, *, prefix: str = "", delimiter: str = "", after: str = "", start: str = "", limit: int = 1000
    ) -> Page:
        """The page that comes behind ``after``, or begins at ``start``.

        Args:
            delimiter: none or ``/``.

        Raises:
            ValueError: it is another one.
        """
        if delimiter not in ("", "/"):
            raise ValueError(f"the delimiter {delimiter!r} is not served")
        first = bisect.bisect_left(self, max(prefix, start))
        if after:
            first = max(first, bisect.bisect_right(self, after))
            # A common prefix that has been told is behind us with all that is in it.
            if delimiter and first < len(self) and _group(self[first], prefix) == after:
                first = bisect.bisect_left(self, after + LAST)
        stop = bisect.bisect_left(self, prefix + LAST)
        if first >= stop:
            return Page(stop, stop, (), "", more=False)
        if delimiter and (group := _group(self[first], prefix)):
            return self._folders(prefix, group, first, stop, limit)
        end = min(first + limit, stop)
        return Page(first, end, (), self[end - 1], more=end < stop)

    def _folders(self, prefix: str, group: str, first: int, stop: int, limit: int) -> Page:
        prefixes: list[str] = []
        while first < stop and len(prefixes) < limit:
            group = _group(self[first], prefix)
            prefixes.append(group)
            first = bisect.bisect_left(self, group + LAST, first)
        return Page(stop, stop, prefixes, group, more=first < stop)


def folder(number: int) -> str:
    """The prefix of a thousand keys."""
    return f"{ROOT}{number:07d}/"


def size_of(low: int) -> int:
    """Bytes of the object that is number ``low`` in its folder."""
    return 1000 + 7 * low


def etag_of(high: str, low: int) -> str:
    """An ETag as that of an object which was written at once: 32 hexadecimal digits. ``high``: the folder's digits."""
    return high + hashlib.md5(b"%d" % low, usedforsecurity=False).hexdigest()[: 32 - len(high)]


def _group(key: str, prefix: str) -> str:
    at = key.find("/", len(prefix))
    return "" if at < 0 else key[: at + 1]
