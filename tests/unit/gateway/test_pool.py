"""The pool: no overlap, no leak, fair, and nobody starves."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.arena import GRANULE, Kind, Shares, Ticket, rounded
from gateway.counters import Counter, Counters
from gateway.pool import Buffer, Pool
from skyplane_core.errors import GatewayRefused, LinkLost, SkyplaneError, Throttled

GRANULES = 32
SIZE = GRANULES * GRANULE


class SharesMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.shares = Shares(SIZE)
        self.held: list[Ticket] = []
        self.waiting: list[Ticket] = []

    def took(self, granted: list[Ticket]) -> None:
        for ticket in granted:
            self.waiting.remove(ticket)
            self.held.append(ticket)

    @rule(size=st.integers(0, SIZE // 2), owner=st.sampled_from(["a", "b", "c"]), kind=st.sampled_from(list(Kind)))
    def wish(self, size: int, owner: str, kind: Kind) -> None:
        ticket = Ticket(owner, kind, size)
        self.waiting.append(ticket)
        self.took(self.shares.wish(ticket))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        ticket = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.took(self.shares.give_back(ticket))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        ticket = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        self.took(self.shares.withdraw(ticket))

    @rule(split=st.booleans())
    def split(self, split: bool) -> None:
        self.took(self.shares.set_split(split=split))

    @invariant()
    def nothing_overlaps_and_everything_is_inside(self) -> None:
        spans = sorted((ticket.where, ticket.where + ticket.size) for ticket in self.held)
        assert all(0 <= start < stop <= SIZE for start, stop in spans)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
        assert self.shares.held == sum(ticket.size for ticket in self.held)

    @invariant()
    def someone_runs_while_someone_waits(self) -> None:
        assert self.held or not self.waiting

    def teardown(self) -> None:
        # Whatever happened, giving everything back serves everyone and leaves one whole gap.
        while self.held:
            self.took(self.shares.give_back(self.held.pop()))
        assert not self.waiting
        assert self.shares.held == 0
        self.shares.set_split(split=False)
        assert len(self.shares.wish(Ticket("z", Kind.WIRE, SIZE // 2))) == 1
        assert len(self.shares.wish(Ticket("z", Kind.STORE, SIZE // 2))) == 1


TestShares = SharesMachine.TestCase


def test_a_big_wish_is_not_overtaken_for_ever() -> None:
    shares = Shares(8 * GRANULE)
    held = [Ticket("small", Kind.STORE, GRANULE) for _ in range(8)]
    for ticket in held:
        assert shares.wish(ticket) == [ticket]
    small, big = Ticket("small", Kind.STORE, GRANULE), Ticket("big", Kind.STORE, 4 * GRANULE)
    assert shares.wish(small) == []
    assert shares.wish(big) == []
    later = [Ticket("small", Kind.STORE, GRANULE) for _ in range(8)]
    for ticket in later:
        assert shares.wish(ticket) == []
    assert shares.give_back(held[0]) == [small]
    for ticket in held[1:4]:
        assert shares.give_back(ticket) == []
    assert big in shares.give_back(held[4])


def test_shares_even_out_as_buffers_come_back() -> None:
    shares = Shares(16 * GRANULE)
    out: list[Ticket] = []
    for owner in ("a", "b"):
        for _ in range(200):
            out += shares.wish(Ticket(owner, Kind.WIRE, GRANULE))
    for _ in range(100):
        out += shares.give_back(out.pop(0))
    assert shares.held_by("a") == shares.held_by("b") == 8 * GRANULE


def test_within_a_transfer_first_come_first_served() -> None:
    shares = Shares(4 * GRANULE)
    held = [Ticket("a", Kind.WIRE, 2 * GRANULE) for _ in range(2)]
    for ticket in held:
        shares.wish(ticket)
    queue = [Ticket("a", Kind.WIRE, GRANULE) for _ in range(4)]
    for ticket in queue:
        assert not shares.wish(ticket)
    assert [*shares.give_back(held[0]), *shares.give_back(held[1])] == queue


def test_split_in_halves_each_kind_has_its_own() -> None:
    shares = Shares(8 * GRANULE)
    shares.set_split(split=True)
    wire = [Ticket("a", Kind.WIRE, GRANULE) for _ in range(6)]
    granted = [ticket for ticket in wire for ticket in shares.wish(ticket)]
    assert granted == wire[:4]
    store = Ticket("b", Kind.STORE, 4 * GRANULE)
    assert shares.wish(store) == [store]
    assert store.where == 4 * GRANULE
    assert shares.set_split(split=False) == []
    assert shares.give_back(store) == wire[4:]


def test_sizes_are_rounded_to_granules() -> None:
    assert [rounded(size) // GRANULE for size in (0, 1, GRANULE, GRANULE + 1)] == [1, 1, 1, 2]


# --- threads --------------------------------------------------------------------------------------------------------


def pool(granules: int = 4) -> Pool:
    return Pool(granules * GRANULE, Counters())


def in_thread(target: Callable[[], object]) -> Callable[[], object]:
    """Start ``target``; returns a function that waits for its result, or its error."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(target())
        except SkyplaneError as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def wait() -> object:
        thread.join(10)
        return results[0]

    return wait


def waiting(pool: Pool, count: int) -> None:
    while len(pool._waiters) < count:
        threading.Event().wait(0.001)


def test_a_buffer_is_waited_for_and_shown_in_the_counters() -> None:
    counters = Counters()
    small = Pool(4 * GRANULE, counters)
    held = [small.acquire(2 * GRANULE, "t", Kind.WIRE) for _ in range(2)]
    held[0].view[:3] = b"abc"
    assert counters[Counter.POOL_BYTES_HELD] == 4 * GRANULE
    wait = in_thread(lambda: small.acquire(GRANULE + 1, "t", Kind.WIRE))
    waiting(small, 1)
    held[1].release()
    held[1].release()
    buffer = wait()
    assert isinstance(buffer, Buffer)
    assert len(buffer.view) == GRANULE + 1
    buffer.release()
    held[0].release()
    assert counters[Counter.POOL_BYTES_HELD] == small.held == 0


def test_more_than_half_is_refused() -> None:
    with pytest.raises(GatewayRefused, match="pool_bytes"):
        pool().acquire(2 * GRANULE + 1, "t", Kind.WIRE)


def test_waits_end() -> None:
    small = pool()
    held = [small.acquire(2 * GRANULE, "t", Kind.WIRE) for _ in range(2)]
    with pytest.raises(Throttled):
        small.acquire(1, "t", Kind.WIRE, timeout=0.01)
    cancelled = in_thread(lambda: small.acquire(1, "t", Kind.WIRE))
    other = in_thread(lambda: small.acquire(1, "other", Kind.WIRE))
    waiting(small, 2)
    small.cancel("t", LinkLost("cancelled"))
    assert isinstance(cancelled(), LinkLost)
    held[0].release()
    assert isinstance(other(), Buffer)
    held[0] = small.acquire(1, "t", Kind.WIRE)
    closed = in_thread(lambda: small.acquire(2 * GRANULE, "t", Kind.WIRE))
    waiting(small, 1)
    small.close(LinkLost("closed"))
    assert isinstance(closed(), LinkLost)
    with pytest.raises(LinkLost):
        small.acquire(1, "t", Kind.WIRE)
