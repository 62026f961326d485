"""Whatever the keys, and in whatever order answers come: the same keys in the same order, and not many requests."""

from __future__ import annotations

import bisect
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.keynumbers import KeyNumbers
from skyplane_core.model import ObjectInfo
from skyplane_core.shards import Shard, Shards

KEYS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
    st.text("ab/", min_size=1, max_size=12),
    st.integers(0, 10**6).map(lambda number: f"year=2026/{number:07d}"),
    st.integers(0, 10**4).map(lambda number: f"a/b/{number}"),
    st.binary(max_size=4).map(bytes.hex).filter(bool),
)


class Store:
    """Answers as a store does, and counts."""

    def __init__(self, keys: list[str], page: int) -> None:
        self.keys, self.page, self.requests = sorted(set(keys)), page, 0

    def answer(self, after: str) -> tuple[list[ObjectInfo], bool]:
        self.requests += 1
        first = bisect.bisect_right(self.keys, after) if after else 0
        found = self.keys[first : first + self.page]
        return [ObjectInfo(key, 1, "v") for key in found], first + self.page < len(self.keys)


def listed(store: Store, shards: Shards, draw: random.Random, *, at_once: int, eager: float = 1.0) -> tuple[int, int]:
    """List all; returns how many rounds of answers it took and how many pages waited at most."""
    keys: list[str] = []
    out: list[tuple[Shard, str]] = []
    rounds = most = 0
    while not shards.ended:
        while draw.random() < eager and (page := shards.take()) is not None:
            assert page
            keys += [info.key for info in page]
        while (shard := shards.ask()) is not None:
            assert shard.asking is not None
            out.append((shard, shard.asking))
        assert len(out) <= at_once
        assert out or shards.waiting or shards.ended
        rounds += 1
        draw.shuffle(out)
        arriving = out[: draw.randint(1, len(out))] if eager < 1 and out else out
        out = out[len(arriving) :]
        for shard, after in arriving:
            objects, more = store.answer(after)
            shards.came(shard, objects, more=more)
        most = max(most, shards.waiting)
    assert keys == store.keys
    return rounds, most


@given(
    st.lists(KEYS, max_size=300),
    st.integers(1, 7),
    st.integers(1, 6),
    st.integers(1, 4),
    st.sampled_from([0.2, 0.7, 1.0]),
    st.randoms(use_true_random=False),
)
def test_any_keys_come_in_order_whatever_is_answered_first(
    keys: list[str], page: int, at_once: int, each: int, eager: float, draw: random.Random
) -> None:
    store = Store(keys, page)
    listed(store, Shards("", "", at_once=at_once, each=each), draw, at_once=at_once, eager=eager)


@given(st.lists(KEYS, min_size=1, max_size=100), st.data())
def test_keys_below_a_prefix_and_behind_another(keys: list[str], data: st.DataObject) -> None:
    after = "p/" + data.draw(st.sampled_from(keys))
    store = Store([key for key in (f"p/{key}" for key in keys) if key > after], 3)
    listed(store, Shards("p/", after, at_once=4, each=2), random.Random(1), at_once=4)


SPACES = {
    "folders": [f"{n // 10:07d}/{n % 10:03d}.bin" for n in range(10_000)],
    "flat": [f"{n:010d}" for n in range(10_000)],
    "digests": [f"{random.Random(n).getrandbits(64):016x}" for n in range(10_000)],
    "dates": [
        f"year=20{y}/month={m:02d}/day={d:02d}/part-{i:05d}.parquet"
        for y in range(20, 25)
        for m in range(1, 13)
        for d in range(1, 29)
        for i in range(6)
    ],
    "uneven": [f"a/{n:07d}" for n in range(9_000)] + [f"{chr(98 + n % 20)}/{n}" for n in range(1_000)],
}


@pytest.mark.parametrize("space", SPACES)
def test_many_pages_come_at_once_and_few_requests_are_in_vain(space: str) -> None:
    store = Store(SPACES[space], 10)
    pages = len(store.keys) / 10
    rounds, most = listed(store, Shards("", "", at_once=16, each=3), random.Random(1), at_once=16)
    assert rounds < pages / 2
    assert store.requests < 2.5 * pages
    assert most <= 2 * 16 * 3


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("space", SPACES)
def test_answers_that_come_in_any_order_do_not_multiply_requests(space: str, seed: int) -> None:
    store = Store(SPACES[space], 10)
    listed(store, Shards("", "", at_once=16, each=3), random.Random(seed), at_once=16, eager=0.999)
    assert store.requests < 2.5 * len(store.keys) / 10


@pytest.mark.parametrize(("count", "requests"), [(0, 1), (1, 1), (1000, 1), (1001, 3), (3000, 6)])
def test_few_keys_cost_few_requests(count: int, requests: int) -> None:
    store = Store([f"{number:06d}" for number in range(count)], 1000)
    listed(store, Shards("", "", at_once=16, each=3), random.Random(1), at_once=16)
    assert store.requests <= requests


def test_who_is_slower_than_the_store_gets_pages_one_by_one() -> None:
    store = Store([f"{number:06d}" for number in range(10_000)], 100)
    shards = Shards("", "", at_once=16, each=3)
    shard = shards.ask()
    assert shard is not None
    while not shards.ended:
        assert shard is None or shard.asking is not None
        if shard is not None:
            objects, more = store.answer(shard.asking or "")
            shards.came(shard, objects, more=more)
        shards.take()
        shard = shards.ask()
        if shard is None:
            shards.take()
    assert store.requests <= 120


@given(st.lists(KEYS, min_size=3, max_size=20, unique=True), st.integers(1, 5))
def test_what_lies_beyond_a_key_is_behind_it(keys: list[str], times: int) -> None:
    first, last, key, *_ = sorted(keys)
    numbers = KeyNumbers(0)
    numbers.learn(ObjectInfo(name, 1, "v") for name in keys)
    beyond = numbers.beyond((first, last), key, times)
    assert beyond is None or beyond > key


def test_keys_that_grow_evenly_are_foreseen() -> None:
    numbers = KeyNumbers(2)
    numbers.learn(ObjectInfo(f"p/{number}", 1, "v") for number in range(100, 200))
    assert numbers.beyond(("p/110", "p/120"), "p/120", 3) == "p/150"
