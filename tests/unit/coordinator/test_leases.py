from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.coordinator.leases import MAX_BATCH, SMALL_PART, LeaseTable
from skyplane_core.model import PartLease, PartTarget

MIB = 1024 * 1024


def part(number: int, size: int) -> PartLease:
    return PartLease(number, 1, f"key-{number}", "v1", 0, size, (PartTarget(0, f"to-{number}"),))


def table(
    *, max_leases: int = 8, max_bytes: int = 64 * MIB, lease_seconds: float = 60.0, readers: int = 1
) -> LeaseTable:
    routes = {f"reader-{i}": ("writer",) for i in range(readers)}
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
        {"r": ()},
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
