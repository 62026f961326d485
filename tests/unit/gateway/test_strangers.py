"""Who goes when too many strangers wait."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.strangers import Strangers

HOSTS = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"])


@given(st.lists(HOSTS, min_size=1))
def test_the_oldest_of_the_loudest_address_goes(hosts: list[str]) -> None:
    strangers: Strangers[int] = Strangers()
    for number, host in enumerate(hosts):
        strangers.add(number, host)
    evicted = strangers.evict()
    assert evicted is not None
    counts = Counter(hosts)
    assert counts[hosts[evicted]] == max(counts.values())
    assert evicted == hosts.index(hosts[evicted])
    assert len(strangers) == len(hosts) - 1


def test_a_flood_from_one_address_throws_out_nobody_else() -> None:
    strangers: Strangers[int] = Strangers()
    strangers.add(-1, "genuine")
    for number in range(1000):
        strangers.add(number, "flood")
        if len(strangers) > 8:
            assert strangers.evict() != -1
    strangers.discard(-1)
    strangers.discard(-1)
    assert len(strangers) == 7


def test_nobody_waits_nobody_goes() -> None:
    assert Strangers[int]().evict() is None
