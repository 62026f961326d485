"""Pages of a listing ahead of whoever takes them: the threads around :mod:`skyplane_core.shards`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor

from skyplane_core.listing import check_page
from skyplane_core.model import ObjectInfo
from skyplane_core.shards import Shard, Shards
from skyplane_core.stores.base import RangeListing
from skyplane_core.stores.paging import Page

AT_ONCE = 16
"""Requests in flight. A cloud takes 0.1 s for a page, and our merge takes the pages of that many at once."""
EACH = 3
"""Pages of a range. So some fifty pages wait, at most a hundred, of half a megabyte to one each."""


def page_behind(store: RangeListing, start_after: str, prefix: str, delimiter: str) -> Page:
    """The next objects behind any text, as many as the store shows at once; none only where nothing is left.

    Raises:
        StoreRejected: they are not in order.
    """
    for page in store.list_pages(prefix, start_after=start_after, delimiter=delimiter):
        if page.objects or not page.more:
            check_page(page.objects, start_after, store.uri)
            return page
    return Page([], more=False)


def read_ahead(fetch: Callable[[str], Page], prefix: str, start_after: str) -> Generator[ObjectInfo]:
    """The objects under ``prefix`` behind ``start_after``, in order, as a stream.

    Args:
        fetch: the page behind a key or any other text; called by several threads at once.

    Raises:
        SkyplaneError: what ``fetch`` raised, when all that came before has been taken.
    """
    listing = _Listing(fetch, prefix, start_after)
    try:
        while (page := listing.next()) is not None:
            yield from page
    finally:
        listing.close()


class _Listing:
    def __init__(self, fetch: Callable[[str], Page], prefix: str, start_after: str) -> None:
        self._fetch = fetch
        self._shards = Shards(prefix, start_after, at_once=AT_ONCE, each=EACH)
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._closed = False
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="listing")

    def next(self) -> list[ObjectInfo] | None:
        """The next page, None after the last one."""
        with self._changed:
            while (page := self._shards.take()) is None and not self._shards.ended:
                if self._error is not None:
                    raise self._error
                self._ask()
                self._changed.wait()
            self._ask()
            return page

    def close(self) -> None:
        """Ask for no more pages. What was asked for comes in vain."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self) -> None:
        while not self._closed and self._error is None and (shard := self._shards.ask()) is not None:
            self._pool.submit(self._answer, shard, shard.asking or "")

    def _answer(self, shard: Shard, after: str) -> None:
        try:
            page = self._fetch(after)
        except BaseException as error:  # noqa: BLE001 - whoever takes the pages gets it
            with self._changed:
                self._error = self._error or error
                self._changed.notify()
            return
        with self._changed:
            self._shards.came(shard, page.objects, more=page.more)
            self._ask()
            self._changed.notify()
