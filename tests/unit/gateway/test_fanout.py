"""The number of connections against paths whose truth is known: it follows what they bring, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fanout import FIRST, MOST, MOST_AT_ONCE, PAUSE_MOST, RESENT, Fanout
from gateway.path_view import Seen

TICK = 0.1
MBIT = 125_000.0


class Path:
    """Moves bytes at the rate that ``rate`` says for a number of connections and a time.

    ``resent`` says which share of all segments had gone before, ``room`` whether there is no queue, in the same way.
    """

    def __init__(
        self,
        rate: Callable[[int, float], float],
        rtt: float = 0.1,
        *,
        resent: Callable[[int, float], float] = lambda _n, _t: 0.0,
        room: Callable[[int, float], bool] = lambda _n, _t: False,
    ) -> None:
        self.rate = rate
        self.rtt = rtt
        self.now = 1000.0
        self.acked = 0.0
        self._resent, self._room = resent, room
        self._segments = self._again = 0.0

    def run(self, fanout: Fanout, seconds: float, *, pressed: bool = True) -> list[int]:
        seen = []
        for _ in range(round(seconds / TICK)):
            where = fanout.allowed, self.now - 1000.0
            self.acked += TICK * self.rate(*where)
            self._segments += 1000
            self._again += 1000 * self._resent(*where)
            self.now += TICK
            look = Seen(int(self.acked), self.rtt, int(self._segments), int(self._again), self._room(*where))
            seen.append(fanout.tick(self.now, look, pressed=pressed))
        return seen


def test_a_clean_path_that_few_fill_keeps_few():
    fanout = Fanout()
    seen = Path(lambda _n, _t: 1000 * MBIT).run(fanout, 120)
    # It looks again now and then, ever more rarely, and each time comes back.
    assert seen.count(FIRST) > 0.8 * len(seen)
    assert max(seen) == 2 * FIRST


def test_connections_that_loss_limits_become_as_many_as_the_path_takes():
    fanout = Fanout()
    Path(lambda n, _t: min(1000.0, 8.0 * n) * MBIT).run(fanout, 12)
    assert 8.0 * fanout.allowed >= 900


def test_a_start_that_takes_its_time_is_not_taken_for_a_gain():
    fanout = Fanout()
    seen = Path(lambda _n, t: min(1000.0, 400.0 * t) * MBIT).run(fanout, 20)
    assert max(seen) <= 2 * FIRST


def test_a_decay_that_hides_the_gain_only_delays_it():
    """New connections of cubic are fast until their first loss."""
    fanout = Fanout()
    Path(lambda n, t: min(1000.0, n * (6.0 + 100.0 * 0.5**t)) * MBIT).run(fanout, 60)
    assert fanout.allowed * 6.0 >= 600


def test_a_gain_that_a_decay_hid_shows_when_it_is_taken_back():
    fanout = Fanout()
    Path(lambda n, t: min(1000.0, 6.0 * n + 300.0 * 0.8**t) * MBIT).run(fanout, 10)
    assert fanout.allowed >= MOST / 2


def cubic(n: int, t: float) -> float:
    """Mbit/s of n connections of cubic with a thousandth of loss: many times the lasting rate until the first ones."""
    return min(1000.0, n * (5.0 + 100.0 * 0.75**t))


def test_connections_that_leave_room_become_as_many_as_it_takes_at_once():
    """Whatever a decay does to the rates: the path is not full, so others find room."""
    fanout = Fanout()
    Path(lambda n, t: cubic(n, t) * MBIT, room=lambda n, t: cubic(n, t) < 1000).run(fanout, 20)
    assert fanout.allowed == MOST


def test_a_path_with_room_whose_connections_only_rise_is_given_the_time_to_fill():
    """Slow start leaves room until it is over; four connections are enough here."""
    fanout = Fanout()

    def rate(t: float) -> float:
        return min(1000.0, 10.0 * 8**t)

    seen = Path(lambda _n, t: rate(t) * MBIT, room=lambda _n, t: rate(t) < 1000).run(fanout, 20)
    assert max(seen) <= 2 * FIRST


def test_a_step_that_makes_a_queue_overflow_is_taken_back_whatever_it_brings():
    """Rates of a busy machine differ so much that some step looks like a gain sooner or later."""
    steps = iter([1.0, 1.3] * 10_000)
    path = Path(lambda _n, _t: 1000 * MBIT * next(steps), resent=lambda n, _t: 0.001 if n <= 2 * FIRST else 0.05)
    fanout = Fanout()
    seen = path.run(fanout, 300)
    assert seen[-1] <= 2 * FIRST
    assert sum(number > 2 * FIRST for number in seen) < 0.1 * len(seen)


def test_losses_that_are_the_paths_own_stop_nothing():
    fanout = Fanout()
    Path(lambda n, _t: min(1000.0, 8.0 * n) * MBIT, resent=lambda _n, _t: 5 * RESENT).run(fanout, 12)
    assert 8.0 * fanout.allowed >= 900


def test_a_path_that_becomes_worse_gets_more():
    fanout = Fanout()
    path = Path(lambda n, t: (1000.0 if t < 60 else 8.0 * n) * MBIT)
    path.run(fanout, 60)
    assert fanout.allowed <= 2 * FIRST
    path.run(fanout, PAUSE_MOST + 15)
    assert fanout.allowed >= MOST / 2


def test_nothing_is_tried_where_the_source_is_what_is_slow():
    fanout = Fanout()
    assert set(Path(lambda n, _t: n * MBIT).run(fanout, 30, pressed=False)) == {FIRST}


def test_a_number_that_was_given_stays():
    fanout = Fanout(3, 3)
    assert fanout.fixed
    assert set(Path(lambda n, _t: n * MBIT).run(fanout, 30)) == {3}


@pytest.mark.parametrize(("first", "most"), [(0, 4), (5, 4)])
def test_bounds_that_contradict_each_other(first, most):
    with pytest.raises(ValueError, match="connections"):
        Fanout(first, most)


looks = st.lists(
    st.tuples(
        st.floats(0, 5), st.integers(0, 10**10), st.integers(0, 10**6), st.floats(0, 2), st.booleans(), st.booleans()
    ),
    min_size=1,
    max_size=200,
)


@given(st.integers(1, 64), st.integers(0, 200), looks)
def test_whatever_is_measured_it_stays_within_its_bounds_and_grows_in_small_steps(first, more, looks):
    fanout = Fanout(first, first + more)
    now, acked, resent, before = 0.0, 0, 0, first
    for seconds, moved, again, rtt, room, pressed in looks:
        now, acked, resent = now + seconds, acked + moved, resent + again
        allowed = fanout.tick(now, Seen(acked, rtt, 2 * resent, resent, room), pressed=pressed)
        assert first <= allowed <= first + more
        assert allowed == fanout.allowed
        assert allowed - before <= MOST_AT_ONCE
        before = allowed


@given(st.floats(1.0, 200.0), st.floats(100.0, 5000.0), st.floats(0.001, 0.3))
def test_any_path_of_equal_connections_is_filled_but_for_one_step(each, link, rtt):
    """Rates in Mbit/s. What is missing at the end would not have been missed by a doubling."""
    fanout = Fanout()
    Path(lambda n, _t: min(link, each * n) * MBIT, rtt).run(fanout, 60)
    reached = min(link, each * fanout.allowed)
    assert fanout.allowed == MOST or reached >= link / 1.11


@given(st.lists(st.floats(0.96, 1.04), min_size=400, max_size=400))
def test_rates_that_tremble_do_not_add_connections(trembling):
    fanout = Fanout()
    steps = iter(trembling)
    seen = Path(lambda _n, _t: 1000 * MBIT * next(steps)).run(fanout, 40)
    assert max(seen) <= 2 * FIRST
