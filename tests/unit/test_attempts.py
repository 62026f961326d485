"""What a message says of many calls, and which of them are made."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.attempts import attempt_all
from skyplane_core.errors import PermissionDenied, StoreUnavailable


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@given(st.lists(st.booleans(), max_size=20))
def test_each_is_tried_and_what_failed_is_counted(pool: ThreadPoolExecutor, fates: list[bool]) -> None:
    tried: set[int] = set()

    def call(number: int) -> None:
        tried.add(number)
        if not fates[number]:
            raise PermissionDenied("no", where=f"o{number}")

    bad = [number for number, good in enumerate(fates) if not good]
    if not bad:
        attempt_all(pool, call, range(len(fates)), "deletion")
    else:
        with pytest.raises(PermissionDenied) as failed:
            attempt_all(pool, call, range(len(fates)), "deletion")
        count = f"{len(bad)} of {len(fates)} deletions failed; the first: " if len(bad) > 1 else ""
        assert str(failed.value) == f"{count}no [o{bad[0]}]"
    assert tried == set(range(len(fates)))


def test_what_concerns_all_ends_it_at_once() -> None:
    tried: list[int] = []
    over = threading.Event()

    def call(number: int) -> None:
        tried.append(number)
        if number:
            over.wait()
        raise StoreUnavailable("away", where=f"o{number}")

    with ThreadPoolExecutor(4) as pool:
        with pytest.raises(StoreUnavailable, match=r"^away \[o0\]$"):
            attempt_all(pool, call, range(20), "deletion")
        over.set()
    assert len(tried) <= 5
