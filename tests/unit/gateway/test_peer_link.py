"""How many of a link's senders work at a time. Threads are real; the connections under them only count and wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from gateway.counters import Counters
from gateway.dialling import Dialler
from gateway.messages import Peer
from gateway.parked import Parked
from gateway.peer_link import PeerLink
from gateway.threads import Threads
from skyplane_core.errors import LinkLost

PATIENCE = 60.0


class Chosen:
    """A fan-out that allows what the test says, from the next look on."""

    fixed = False

    def __init__(self, allowed: int) -> None:
        self.allowed = self._wanted = allowed
        self._seen = threading.Event()

    def want(self, allowed: int) -> None:
        """Returns when it is so."""
        self._wanted = allowed
        self._seen.clear()
        assert self._seen.wait(PATIENCE)

    def tick(self, *_measured: object, pressed: bool) -> int:
        assert pressed in (True, False)
        self.allowed = self._wanted
        self._seen.set()
        return self.allowed


class Held:
    """What all connections do: hold each batch until it is let go, in the order in which they came."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.came = self.inside = self.sent = self.free = 0
        self.dialled: list[Idle] = []

    def dial(self) -> Idle:
        self.dialled.append(Idle(self))
        return self.dialled[-1]

    def let_go(self, count: int) -> None:
        with self.changed:
            self.free += count
            self.changed.notify_all()

    def wait(self, *, inside: int, sent: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: (self.inside, self.sent) == (inside, sent), PATIENCE)


class Idle:
    """A connection that breaks when it is told to, by being lost."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self.lost = False
        self.answered = True

    def tcp_infos(self) -> dict[object, None]:
        return {self: None}

    def send(self, _batch: object, _scratch: object) -> None:
        assert not self.lost
        held = self._held
        with held.changed:
            number, held.came = held.came, held.came + 1
            held.inside += 1
            held.changed.notify_all()
            held.changed.wait_for(lambda: number < held.free)
            held.inside -= 1
            held.sent += 1
            held.changed.notify_all()

    def lose(self, _error: object) -> None:
        return


class Parcel:
    """All of a batch that this needs."""

    def release(self) -> None:
        return

    def fail(self, _record: object) -> None:
        return


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PeerLink, Chosen, Held]]:
    crashes: list[BaseException] = []
    threads, held, chosen = Threads(crashes.append), Held(), Chosen(2)
    dialler = Dialler(Peer("writer", "192.0.2.1", 1), b"", "reader", Parked())
    made = PeerLink(dialler, threads, Counters(), shared=False)
    monkeypatch.setattr(made, "_fanout", chosen)
    monkeypatch.setattr(made, "_dial", held.dial)
    yield made, chosen, held
    made.close(LinkLost("the test is over"))
    held.let_go(1000)
    assert threads.join(PATIENCE) == []
    assert crashes == []


def test_senders_start_stop_and_go_on_as_they_are_allowed(link):
    made, chosen, held = link
    for _ in range(20):
        made.put(Parcel())
    assert held.wait(inside=2, sent=0)
    chosen.want(5)
    assert held.wait(inside=5, sent=0)
    chosen.want(1)
    # Those above finish what they have and take nothing more.
    held.let_go(5)
    assert held.wait(inside=1, sent=5)
    held.let_go(1)
    assert held.wait(inside=1, sent=6)
    chosen.want(5)
    assert held.wait(inside=5, sent=6)
    held.let_go(14)
    assert held.wait(inside=0, sent=20)


def test_what_comes_after_a_pause_finds_a_sender(link):
    made, _chosen, held = link
    for number in range(1, 50):
        held.let_go(1)
        made.put(Parcel())
        assert held.wait(inside=0, sent=number)


def test_a_connection_that_ended_while_nothing_was_on_it_costs_no_batch(link):
    made, _chosen, held = link
    for number in range(1, 10):
        held.let_go(1)
        made.put(Parcel())
        assert held.wait(inside=0, sent=number)
        for connection in held.dialled:
            connection.lost = True
    assert len(held.dialled) == 9
