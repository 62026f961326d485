"""Pages of a listing with prefix and delimiter, the same for every protocol."""

from __future__ import annotations

import dataclasses

from skyplane_core.testing.objectserver.state import Bucket, StoredObject


@dataclasses.dataclass(slots=True)
class Page:
    """``last`` is the last key or common prefix on the page; ``more``: there is something after it."""

    objects: list[StoredObject] = dataclasses.field(default_factory=list)
    prefixes: list[str] = dataclasses.field(default_factory=list)
    last: str = ""
    more: bool = False

    @property
    def count(self) -> int:
        """How much of the limit the page has used."""
        return len(self.objects) + len(self.prefixes)


def list_page(
    bucket: Bucket,
    *,
    prefix: str = "",
    delimiter: str = "",
    after: str = "",
    start: str = "",
    end: str = "",
    limit: int = 1000,
    versions: bool = False,
) -> Page:
    """One page of at most ``limit`` objects and common prefixes together, in order of UTF-8 bytes.

    ``after`` leaves out keys up to and including it, and all of the common prefix that it is; ``start`` is the first
    key that may appear, ``end`` the first that may not. With ``versions``, all versions of a key come
    together, newest first, and a page is never cut between them.
    """
    page = Page()
    position, exclusive = (after, True) if after >= start and after else (start, False)
    while True:
        for key in bucket.keys(prefix, position, after=exclusive):
            if end and key >= end:
                return page
            group = _group(key, prefix, delimiter)
            if group and group == after:
                # The page before ended with this group; what is in it was told.
                position, exclusive = _past(group), False
                break
            found = bucket.versions(key) if versions else [o for o in (bucket.current(key),) if o is not None]
            if not found:
                continue
            if page.count >= limit:
                page.more = True
                return page
            if group:
                page.prefixes.append(group)
                page.last = group
                position, exclusive = _past(group), False
                break
            page.objects.extend(found)
            page.last = key
        else:
            return page


def _group(key: str, prefix: str, delimiter: str) -> str:
    """The common prefix that a key is folded into, "" if it stands for itself."""
    if not delimiter:
        return ""
    at = key.find(delimiter, len(prefix))
    return "" if at < 0 else key[: at + len(delimiter)]


def _past(group: str) -> str:
    """The smallest text that sorts after everything that starts with ``group``."""
    last = ord(group[-1]) + 1
    # Surrogates are no characters, and no key holds one.
    return group[:-1] + chr(0xE000 if 0xD800 <= last < 0xE000 else last)
