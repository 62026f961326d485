"""Connections that peers opened for us to send on."""

from __future__ import annotations

import socket
import threading

import pytest

from gateway.handshake import Session
from gateway.parked import MOST_PARKED, Parked
from skyplane_core.errors import LinkLost


def session(peer: str) -> Session:
    return Session(peer, "reverse", bytes(32), bytes(32))


def test_a_living_connection_is_taken_and_a_dead_one_is_not() -> None:
    parked = Parked()
    living, far = socket.socketpair()
    dead, gone = socket.socketpair()
    parked.put(living, session("w"))
    parked.put(dead, session("w"))
    gone.close()
    assert parked.take("w", 1.0)[0] is living
    with pytest.raises(LinkLost, match="has not done so"):
        parked.take("w", 0.01)
    with pytest.raises(LinkLost):
        parked.take("another", 0.01)
    for sock in (living, far, dead):
        sock.close()


def test_who_waits_gets_the_one_that_comes_and_nobody_waits_after_the_end() -> None:
    parked = Parked()
    got: list[socket.socket] = []
    waiting = threading.Thread(target=lambda: got.append(parked.take("w", 20.0)[0]))
    waiting.start()
    here, far = socket.socketpair()
    parked.put(here, session("w"))
    waiting.join(20)
    assert got == [here]
    parked.close()
    with pytest.raises(LinkLost):
        parked.take("w", 20.0)
    late, other = socket.socketpair()
    parked.put(late, session("w"))
    assert late.fileno() == -1
    for sock in (here, far, other):
        sock.close()


def test_a_peer_cannot_park_without_end() -> None:
    parked = Parked()
    pairs = [socket.socketpair() for _ in range(MOST_PARKED + 3)]
    for here, _far in pairs:
        parked.put(here, session("w"))
    assert [here.fileno() == -1 for here, _far in pairs] == [True] * 3 + [False] * MOST_PARKED
    parked.close()
    assert all(here.fileno() == -1 for here, _far in pairs)
    for _here, far in pairs:
        far.close()
