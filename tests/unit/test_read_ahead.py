"""Pages ahead of who takes them: errors come in their place, and nothing is asked for any more once nobody takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from skyplane_core.errors import StoreRejected, StoreUnavailable
from skyplane_core.model import ObjectInfo
from skyplane_core.read_ahead import AT_ONCE, EACH, page_behind, read_ahead
from skyplane_core.stores.paging import Page

PAGE = 10


class Numbers:
    """Keys 0 to ``count``; refuses pages behind ``broken``."""

    def __init__(self, count: int, broken: int | None = None) -> None:
        self.count, self.broken = count, broken
        self.asked = self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, after: str) -> Page:
        with self._lock:
            self.asked += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            first = next((n for n in range(self.count) if f"{n:06d}" > after), self.count)
            if self.broken is not None and first >= self.broken:
                raise StoreUnavailable("down", where=after)
            last = min(first + PAGE, self.count)
            return Page([ObjectInfo(f"{n:06d}", 1, "v") for n in range(first, last)], last < self.count)
        finally:
            with self._lock:
                self.at_once -= 1


@pytest.mark.parametrize("count", [0, 1, PAGE, PAGE + 1, 100 * PAGE])
def test_everything_comes_once_and_in_order(count: int) -> None:
    numbers = Numbers(count)
    assert [info.key for info in read_ahead(numbers, "", "")] == [f"{n:06d}" for n in range(count)]
    assert numbers.most_at_once <= AT_ONCE


def test_what_came_before_an_error_is_taken_first() -> None:
    taken: list[str] = []
    with pytest.raises(StoreUnavailable, match="down"):
        taken.extend(info.key for info in read_ahead(Numbers(1000, broken=20), "", ""))
    assert taken == [f"{n:06d}" for n in range(len(taken))]
    assert len(taken) >= PAGE


def test_who_stops_taking_has_a_bounded_number_of_pages_read() -> None:
    numbers = Numbers(100_000)
    listing = read_ahead(numbers, "", "")
    assert next(listing).key == "000000"
    listing.close()
    assert numbers.asked <= 2 * AT_ONCE * EACH
    with pytest.raises(StopIteration):
        next(listing)


class Disordered:
    """Shows these keys on its second page, the first of which has nothing on it."""

    uri = "gs://b"

    def __init__(self, keys: str) -> None:
        self.keys = keys

    def list_pages(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[Page]:
        yield Page([], more=True)
        yield Page([ObjectInfo(key, 1, "v") for key in self.keys], more=True)


@pytest.mark.parametrize("keys", ["dfe", "dde", "cd", "ad"])
def test_a_page_that_is_not_in_order_is_refused_before_it_is_cut(keys: str) -> None:
    with pytest.raises(StoreRejected, match="gs://b"):
        page_behind(Disordered(keys), "c", "", "")
    assert [info.key for info in page_behind(Disordered("def"), "c", "", "").objects] == list("def")
