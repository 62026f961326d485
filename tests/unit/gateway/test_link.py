"""A control link over a socket pair: a peer that is slow is waited for, one that is silent is given up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway import link
from gateway.link import Link, RenewExpiry, Request
from skyplane_core.errors import LinkLost

KEYS = (bytes(32), bytes([1]) * 32)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "QUIET_SECONDS", 0.2)


@pytest.fixture
def workers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def linked(sock: socket.socket, workers: ThreadPoolExecutor, serve: Callable[[Request], bytes], *, first: bool) -> Link:
    send, receive = KEYS if first else KEYS[::-1]
    return Link(sock, "peer", send, receive, serve=serve, workers=workers, lost=lambda _link: None)


def pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dialled = socket.create_connection(listener.getsockname())
        return dialled, listener.accept()[0]


def test_a_peer_that_says_nothing_at_all_is_given_up_long_before_the_call_is(workers: ThreadPoolExecutor) -> None:
    ours, theirs = pair()
    with theirs:
        silent = linked(ours, workers, lambda _request: b"", first=True)
        began = time.monotonic()
        with pytest.raises(LinkLost):
            silent.call(RenewExpiry(), timeout=60.0)
        assert time.monotonic() - began < 30
        with pytest.raises(LinkLost):
            silent.call(RenewExpiry())


def test_a_peer_whose_workers_are_all_busy_is_waited_for(workers: ThreadPoolExecutor) -> None:
    ours, theirs = pair()
    release = threading.Event()

    def slow(_request: Request) -> bytes:
        release.wait(30)
        return b"done"

    with ThreadPoolExecutor(1) as busy:
        other = linked(theirs, busy, slow, first=False)
        mine = linked(ours, workers, lambda _request: b"", first=True)
        threading.Timer(1.5, release.set).start()
        assert mine.call(RenewExpiry(), timeout=60.0) == b"done"
        mine.close()
        other.close()
