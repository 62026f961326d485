from __future__ import annotations

import itertools
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyplane_core.coordinator.leases import MAX_BATCH, SMALL_PART, LeaseTable, Out
from skyplane_core.coordinator.ways import FIRST_REST, LONGEST_REST, Traffic, onward, ways_of
from skyplane_core.model import PartLease, PartTarget
from skyplane_core.spec import Route

MIB = 1024 * 1024


def part(number: int, size: int) -> PartLease:
    return PartLease(number, 1, f"key-{number}", "v1", 0, size, (PartTarget(0, f"to-{number}"),))


def table(
    *, max_leases: int = 8, max_bytes: int = 64 * MIB, lease_seconds: float = 60.0, readers: int = 1
) -> LeaseTable:
    routes = [Route(f"reader-{i}", ("writer",)) for i in range(readers)]
    return LeaseTable(
        "t", routes, max_leases=max_leases, max_bytes=max_bytes, lease_seconds=lease_seconds, wanted=lambda _: True
    )


def drain(leases: LeaseTable, reader: str = "reader-0", now: float = 0.0) -> list:
    taken = []
    while (lease := leases.take(reader, now)) is not None:
        taken.append(lease)
    return taken


@given(st.lists(st.integers(0, 40 * MIB), max_size=60), st.integers(1, 16))
def test_every_part_is_leased_exactly_once_and_never_beyond_the_reader_s_share(
    sizes: list[int], max_leases: int
) -> None:
    leases = table(max_leases=max_leases)
    for number, size in enumerate(sizes):
        leases.add(part(number, size))
    seen: list[int] = []
    while leases.waiting:
        held = drain(leases)
        assert held, "something waits, nothing is out, and nothing is given"
        assert len(held) <= max_leases
        assert len(held) == 1 or sum(lease.size for lease in held) <= 64 * MIB
        for lease in held:
            assert len(lease.parts) <= MAX_BATCH
            assert len(lease.parts) == 1 or lease.size <= SMALL_PART
            seen += [p.object for p in lease.parts]
            leases.settle(lease.lease_id)
    assert sorted(seen) == list(range(len(sizes)))


def test_small_objects_are_spread_over_free_leases_before_batches_grow() -> None:
    leases = table(max_leases=8)
    for number in range(16):
        leases.add(part(number, 1024))
    assert [len(lease.parts) for lease in drain(leases)] == [2, 2, 2, 2, 1, 1, 1, 1]


def test_small_and_large_parts_take_turns() -> None:
    leases = table(max_leases=4)
    for number in range(4):
        leases.add(part(number, 2 * MIB))
        leases.add(part(100 + number, 10))
    assert [lease.parts[0].object >= 100 for lease in drain(leases)] == [False, True, False, True]


def test_a_part_larger_than_the_share_is_leased_alone() -> None:
    leases = table(max_bytes=MIB)
    leases.add(part(1, 10 * MIB))
    leases.add(part(2, 10 * MIB))
    assert len(drain(leases)) == 1


def test_a_delayed_part_comes_back_when_its_time_has_come() -> None:
    leases = table()
    leases.add(part(1, 10), attempt=2, not_before=5.0, now=1.0)
    assert leases.take("reader-0", 4.9) is None
    lease = leases.take("reader-0", 5.0)
    assert lease is not None
    assert lease.attempt == 2


def test_a_lease_without_an_answer_is_void_and_its_parts_are_leased_again() -> None:
    leases = table(lease_seconds=60, readers=2)
    leases.add(part(1, 10))
    first = leases.take("reader-0", 0.0)
    assert first is not None
    assert leases.expire(59.0) == []
    assert leases.expire(60.0) == [first]
    again = leases.take("reader-1", 60.0)
    assert again is not None
    assert (again.attempt, again.parts) == (2, first.parts)
    assert again.lease_id != first.lease_id
    assert leases.settle(first.lease_id) is None


def test_parts_that_nobody_wants_any_more_are_dropped() -> None:
    unwanted: set[int] = set()
    leases = LeaseTable(
        "t",
        [Route("r")],
        max_leases=9,
        max_bytes=MIB,
        lease_seconds=1.0,
        wanted=lambda p: p.object not in unwanted,
    )
    for number in range(4):
        leases.add(part(number, 10))
    unwanted.update({0, 2})
    taken = [p.object for lease in drain(leases, "r") for p in lease.parts]
    assert taken == [1, 3]
    assert leases.waiting == 0


# --- several ways ------------------------------------------------------------------------------------------------


def grid(readers: int = 1, writers: int = 1, destinations: int = 1, relays: int = 0) -> list[Route]:
    middles = [(f"relay-{number}",) for number in range(relays)] or [()]
    return [
        Route(f"reader-{reader}", (*middle, f"writer-{writer}"), destination)
        for destination in range(destinations)
        for reader in range(readers)
        for middle in middles
        for writer in range(writers)
    ]


def over(routes: list[Route], **options: int) -> LeaseTable:
    how = {"max_leases": 8, "max_bytes": 64 * MIB, "lease_seconds": 60, **options}
    return LeaseTable("t", routes, wanted=lambda _: True, **how)  # type: ignore[arg-type]


def granted(leases: LeaseTable, now: float = 0.0) -> list[Out]:
    found = []
    while (out := leases.grant(now)) is not None:
        found.append(out)
    return found


def test_leases_are_spread_evenly_over_readers_and_ways_from_the_first_one_on() -> None:
    leases = over(grid(readers=2, writers=2))
    for number in range(8):
        leases.add(part(number, 2 * MIB))
    assert Counter((out.reader, out.lease.route) for out in granted(leases)) == {
        (f"reader-{reader}", (f"writer-{writer}",)): 2 for reader in (0, 1) for writer in (0, 1)
    }


def test_a_plan_s_shares_are_a_start_and_a_slow_way_gets_fewer() -> None:
    routes = [Route("r", ("fast",), share=0.5), Route("r", ("slow",), share=0.5)]
    leases = over(routes, max_leases=8)
    for number in range(400):
        leases.add(part(number, 2 * MIB))
    served = Counter[tuple[str, ...]]()
    out = granted(leases)
    for step in range(300):
        # One of the slow way's leases ends for ten of the fast one's.
        wanted = ("slow",) if step % 11 == 0 else ("fast",)
        done = next((each for each in out if each.lease.route == wanted), None)
        if done is None:
            continue
        served[wanted] += 1
        out.remove(done)
        leases.settle(done.lease.lease_id)
        out += granted(leases)
    assert served["fast",] > 5 * served["slow",] > 0
    planned = over([Route("r", ("a",), share=0.75), Route("r", ("b",), share=0.25)])
    for number in range(8):
        planned.add(part(number, 2 * MIB))
    assert Counter(each.lease.route for each in granted(planned)) == {("a",): 6, ("b",): 2}


def test_a_failed_way_rests_longer_each_time_and_one_lease_tries_it() -> None:
    leases = over([Route("r", ("w",))])
    for number in range(20):
        leases.add(part(number, 2 * MIB))
    for out in granted(leases):
        leases.settle(out.lease.lease_id, 0.0, "broken")
    assert granted(leases, FIRST_REST - 0.01) == []
    (trial,) = granted(leases, FIRST_REST)
    leases.settle(trial.lease.lease_id, FIRST_REST)
    # An answer makes it well again.
    assert len(granted(leases, FIRST_REST)) > 1
    health, now, rests = Traffic(ways_of([Route("r")])[0], 1.0), 0.0, []
    for _ in range(9):
        health.failed(now, "broken")
        health.failed(now, "broken in the same moment")
        began = now
        while not health.usable(now):
            now += 0.25
        rests.append(now - began)
    assert rests == [0.5, 1, 2, 4, 8, 16, LONGEST_REST, LONGEST_REST, LONGEST_REST]


def test_what_a_lost_gateway_held_goes_to_the_others_at_once_and_without_costing_an_attempt() -> None:
    leases = over(grid(readers=2, writers=2))
    for number in range(8):
        leases.add(part(number, 2 * MIB))
    out = granted(leases)
    voided = leases.lose("reader-1", 1.0)
    assert {lease.lease_id for lease in voided} == {each.lease.lease_id for each in out if each.reader == "reader-1"}
    again = granted(leases, 1.0)
    assert {each.reader for each in again} == {"reader-0"}
    assert {each.lease.attempt for each in again} == {1}
    leases.lose("writer-0", 1.0)
    assert {each.lease.route for each in granted(leases, 1.0)} <= {("writer-1",)}
    leases.found("reader-1", 2.0)
    for each in leases.outstanding():
        leases.settle(each.lease.lease_id, 2.0)
    leases.add(part(100, MIB))
    leases.add(part(101, MIB))
    assert {each.reader for each in granted(leases, 2.0)} == {"reader-0", "reader-1"}


def test_a_destination_without_a_way_is_noticed_after_a_while_and_its_gateways_are_named() -> None:
    leases = over(grid(writers=2))
    leases.add(part(1, 2 * MIB))
    leases.lose("writer-0", 0.0)
    assert leases.stranded(1000.0, 10.0) == ""
    leases.lose("writer-1", 5.0, "cut off")
    assert leases.stranded(15.0, 10.0) == ""
    said = leases.stranded(15.1, 10.0)
    assert "writer-0" in said
    assert "cut off" in said
    leases.found("writer-1", 16.0)
    (out,) = granted(leases, 16.0)
    leases.settle(out.lease.lease_id, 16.0)
    leases.add(part(2, 2 * MIB))
    assert leases.stranded(1000.0, 10.0) == ""


def test_nothing_is_stranded_where_nothing_waits() -> None:
    leases = over(grid())
    leases.lose("writer-0", 0.0)
    assert leases.stranded(1000.0, 10.0) == ""


def test_a_part_for_destinations_that_different_ways_lead_to_is_split() -> None:
    leases = over([Route("r", ("a",), 0), Route("r", ("b",), 1), Route("r", ("b",), 2)])
    targets = tuple(PartTarget(destination, "to") for destination in (0, 1, 2))
    leases.add(PartLease(1, 1, "k", "v", 0, 10, targets))
    found = {out.lease.route: [t.destination for p in out.lease.parts for t in p.targets] for out in granted(leases)}
    assert found == {("a",): [0], ("b",): [1, 2]}
    with pytest.raises(ValueError, match="no route"):
        leases.add(PartLease(1, 1, "k", "v", 0, 10, (PartTarget(7, "to"),)))


def test_answers_to_leases_of_another_table_are_told_apart() -> None:
    leases = over(grid(), first_id=1000)
    leases.add(part(1, 10))
    (out,) = granted(leases)
    assert leases.issued(out.lease.lease_id)
    assert not leases.issued(out.lease.lease_id - 1)
    assert not leases.issued(out.lease.lease_id + 1)


def test_relays_are_told_what_follows_on_each_way_and_nobody_else_is() -> None:
    ways = ways_of([*grid(readers=2, relays=1, writers=2, destinations=2), Route("reader-0", ("a", "b", "c"))])
    assert [way.number for way in ways] == list(range(len(ways)))
    assert onward(ways, "relay-0") == {0: "writer-0", 1: "writer-1", 2: "writer-0", 3: "writer-1"}
    assert (onward(ways, "a"), onward(ways, "b")) == ({4: "b"}, {4: "c"})
    assert onward(ways, "c") == onward(ways, "reader-0") == onward(ways, "writer-1") == {}


class Storm:
    """Gateways that come and go, leases that arrive, get lost or stay out, as ``rng`` says."""

    def __init__(self, routes: list[Route], rng: Random) -> None:
        self.leases = over(routes, max_leases=4)
        self.arrived: set[tuple[int, int]] = set()
        self.now = 0.0
        self._rng = rng
        self._gateways = sorted({gateway for way in ways_of(routes) for gateway in way.gateways})
        self._away: set[str] = set()

    def turn(self) -> None:
        self.now += self._rng.choice([0.0, 1.0, 40.0])
        roll = self._rng.random()
        if roll < 0.2:
            self._away.add(gateway := self._rng.choice(self._gateways))
            self.leases.lose(gateway, self.now)
        elif roll < 0.4 and self._away:
            self._away.remove(gateway := self._rng.choice(sorted(self._away)))
            self.leases.found(gateway, self.now)
        elif roll < 0.5:
            self.leases.expire(self.now)
        for out in granted(self.leases, self.now):
            assert not self._away.intersection((out.reader, *out.lease.route))
        self._check_limits()
        for out in self.leases.outstanding():
            if self._rng.random() < 0.6:
                self._settle(out, stored=self._rng.random() < 0.5)

    def calm(self) -> None:
        """Everybody is back, and whatever is out expires."""
        for gateway in self._away:
            self.leases.found(gateway, self.now)
        for _ in range(1000):
            self.now += 31
            self.leases.expire(self.now)
            for out in granted(self.leases, self.now):
                self._settle(out, stored=True)
            if not self.leases.waiting and not self.leases.out:
                return

    def _settle(self, out: Out, *, stored: bool) -> None:
        self.leases.settle(out.lease.lease_id, self.now, "" if stored else "gone")
        for each in out.lease.parts:
            if stored:
                self.arrived |= {(each.object, target.destination) for target in each.targets}
            else:
                self.leases.add(each, out.lease.attempt)

    def _check_limits(self) -> None:
        held = self.leases.outstanding()
        for reader in {out.reader for out in held}:
            mine = [out.lease.size for out in held if out.reader == reader]
            assert len(mine) <= 4
            assert len(mine) == 1 or sum(mine) <= 64 * MIB


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    readers=st.integers(1, 3),
    relays=st.integers(0, 2),
    writers=st.integers(1, 3),
    destinations=st.integers(1, 2),
    sizes=st.lists(st.sampled_from([0, 1000, MIB, 30 * MIB]), max_size=40),
)
def test_whatever_is_lost_every_part_arrives_over_living_ways_and_limits_hold(
    seed: int, readers: int, relays: int, writers: int, destinations: int, sizes: list[int]
) -> None:
    storm = Storm(grid(readers, writers, destinations, relays), Random(seed))
    targets = tuple(PartTarget(destination, "to") for destination in range(destinations))
    for number, size in enumerate(sizes):
        storm.leases.add(PartLease(number, 1, f"k{number}", "v", 0, size, targets))
    for _ in range(60):
        storm.turn()
    storm.calm()
    assert storm.arrived == set(itertools.product(range(len(sizes)), range(destinations)))
