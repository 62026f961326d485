"""The window of large batches: never more than its limit, nobody forgotten, and growth only where it helps."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.threads import Threads
from gateway.window import Gate, Times, Window, cpu_times

START = Times(0.0, 0.0, 0.0)


class Passing(RuleBasedStateMachine):
    """Batches come, are done, and the CPU is looked at, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(3)
        self.started: list[int] = []
        self.entered = self.left = 0

    def run(self, starts: list) -> None:
        for start in starts:
            start()

    @rule()
    def enter(self) -> None:
        number = self.entered
        self.entered += 1
        self.run(self.window.enter(lambda: self.started.append(number)))

    @precondition(lambda self: len(self.started) > self.left)
    @rule()
    def leave(self) -> None:
        self.left += 1
        self.run(self.window.leave())

    @rule(idle=st.floats(0, 1), own=st.floats(0, 1))
    def look(self, idle: float, own: float) -> None:
        self.run(self.window.look(START, Times(1.0, idle, own)))

    @invariant()
    def first_come_first_served_within_the_limit(self) -> None:
        in_flight = len(self.started) - self.left
        assert self.started == list(range(len(self.started)))
        assert in_flight == self.window.in_flight <= int(self.window.limit)
        # Nobody waits while there is room.
        assert len(self.started) == self.entered or in_flight == int(self.window.limit)


TestPassing = Passing.TestCase


@pytest.mark.parametrize(
    ("now", "grows"),
    [
        (Times(0.1, 0.05, 0.05), True),
        (Times(0.1, 0.0, 0.05), False),
        (Times(0.1, 0.0, 0.01), True),
        (Times(0.0, 0.0, 0.0), True),
    ],
    ids=["idle", "busy with this", "busy with others", "not told"],
)
def test_it_grows_where_that_may_help(now: Times, grows: bool) -> None:
    window = Window(2)
    for _ in range(5):
        window.enter(lambda: None)
    window.look(START, now)
    assert (window.limit > 2) is grows


@given(st.floats(0, 1), st.floats(0, 1))
def test_it_does_not_grow_while_nobody_waits(idle: float, own: float) -> None:
    window = Window(2)
    window.enter(lambda: None)
    window.look(START, Times(1.0, idle, own))
    assert window.limit == 2


def test_it_begins_anew_once_nothing_is_in_flight() -> None:
    """One idle moment does not let every later transfer fill the pool."""
    window = Window(2)
    for _ in range(3):
        window.enter(lambda: None)
    window.look(START, Times(1.0, 1.0, 0.0))
    for _ in range(2):
        window.leave()
    assert window.limit == 3
    window.leave()
    assert window.limit == 2


def test_the_machine_tells_its_times() -> None:
    before = cpu_times()
    deadline = before.own + 0.05
    while cpu_times().own < deadline:
        pass
    after = cpu_times()
    assert after.total > before.total
    assert after.own >= deadline


def test_a_gate_lets_in_more_while_this_machine_has_time() -> None:
    """Nothing leaves, as on a path whose answers take for ever; all get in all the same."""
    crashes: list[BaseException] = []
    threads = Threads(crashes.append)
    gate = Gate(threads)
    everybody = threading.Semaphore(0)
    for _ in range(200):
        gate.enter(everybody.release)
    for _ in range(200):
        assert everybody.acquire(timeout=60)
    gate.close()
    assert threads.join(10) == []
    assert crashes == []
