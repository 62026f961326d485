"""Where the pages of listings begin, remembered so that a listing which goes on need not begin anew.

Azure lists from a marker of its own making, which names a place in the container and can be used again, and from no
key. The agent of another gateway asks for a thousand keys at a time, each time after the last one: without this, each
time would cost all pages before.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Final

_LISTINGS: Final = 64
_PAGES: Final = 8

Kind = tuple[str, ...]
"""What makes listings the same but for where they begin."""


class Places:
    """The last pages of the last listings. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages: OrderedDict[Kind, deque[tuple[bytes, str]]] = OrderedDict()

    def note(self, kind: Kind, first: str, marker: str) -> None:
        """Remember that the page which ``marker`` asks for begins with the name ``first``."""
        with self._lock:
            pages = self._pages.setdefault(kind, deque(maxlen=_PAGES))
            pages.append((_place(first), marker))
            self._pages.move_to_end(kind)
            if len(self._pages) > _LISTINGS:
                self._pages.popitem(last=False)

    def find(self, kind: Kind, after: str) -> str:
        """A marker behind which everything after the name ``after`` is listed; empty for the beginning."""
        place = _place(after)
        with self._lock:
            known = [page for page in self._pages.get(kind, ()) if after and page[0] <= place]
        return max(known)[1] if known else ""


def _place(name: str) -> bytes:
    """Azure orders names by their UTF-16 units."""
    return name.encode("utf-16-be", "surrogatepass")
