"""Control links over real sockets: who may ask what, who is believed, and who is waited for."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway import link as links
from gateway.link import Caller, ExecuteLeases, Link, Pulse, RenewExpiry, Request, StoreRequest, _proof
from gateway.store_calls import Delete
from skyplane_core.errors import GatewayRefused, LinkLost, ObjectNotFound
from skyplane_core.model import Lease

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
ASK = StoreRequest("t", 0, Delete("k"))
Serve = Callable[[Caller, Request], bytes]
Pair = Callable[[Serve], Link]


@pytest.fixture
def linked() -> Iterator[Pair]:
    # One worker: who is asked whether it is there has to answer although it is busy.
    workers = ThreadPoolExecutor(1)
    links: list[Link] = []

    def make(serve: Serve) -> Link:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            here = socket.create_connection(listener.getsockname())
            there = listener.accept()[0]
        one, two = bytes(31) + b"1", bytes(31) + b"2"
        near = Link(here, "far", one, two, serve=lambda _c, _r: b"", workers=workers, lost=lambda _: None)
        links.extend([near, Link(there, "near", two, one, serve=serve, workers=workers, lost=lambda _: None)])
        return near

    yield make
    for link in links:
        link.close()
    workers.shutdown()


def guarded(caller: Caller, request: Request) -> bytes:
    assert isinstance(request, StoreRequest | ExecuteLeases)
    caller.check(KEY)
    return b"done"


def test_who_has_the_transfer_s_key_is_served_and_believed(linked: Pair) -> None:
    link = linked(guarded)
    assert link.call(ASK, key=KEY) == b"done"
    assert link.call(ExecuteLeases("t", ()), key=KEY) == b"done"


@pytest.mark.parametrize("key", [b"", OTHER])
def test_a_peer_without_the_key_is_refused(linked: Pair, key: bytes) -> None:
    link = linked(guarded)
    # With a wrong key the refusal itself is not believed, since it carries no proof either.
    with pytest.raises(LinkLost if key else GatewayRefused, match="without"):
        link.call(ASK, key=key)


def test_a_gateway_without_a_key_serves_nobody(linked: Pair) -> None:
    def relay(caller: Caller, _request: Request) -> bytes:
        caller.check(b"")
        return b"done"

    with pytest.raises(GatewayRefused):
        linked(relay).call(ASK)


def test_answers_and_errors_of_somebody_without_the_key_are_not_believed(linked: Pair) -> None:
    with pytest.raises(LinkLost, match="without the transfer's key"):
        linked(lambda _caller, _request: b"done").call(ASK, key=KEY)

    def lies(_caller: Caller, _request: Request) -> bytes:
        raise ObjectNotFound("there is no such object")

    with pytest.raises(LinkLost, match="without the transfer's key"):
        linked(lies).call(ASK, key=KEY)

    def refuses(caller: Caller, _request: Request) -> bytes:
        caller.check(KEY)
        raise ObjectNotFound("there is no such object")

    with pytest.raises(ObjectNotFound):
        linked(refuses).call(ASK, key=KEY)


def test_what_concerns_no_transfer_needs_no_key(linked: Pair) -> None:
    assert linked(lambda _caller, _request: b"7").call(Pulse()) == b"7"


def test_a_proof_is_bound_to_connection_direction_call_and_message() -> None:
    made = {
        _proof(KEY, binding, call_id, label, body)
        for binding in (b"one connection", b"another")
        for call_id in (1, 2)
        for label in (b"asked", b"answered")
        for body in (b"this", b"that")
    }
    assert len(made) == 16
    assert _proof(b"", b"x", 1, b"asked", b"y") == b""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "QUIET_SECONDS", 0.2)


@pytest.mark.usefixtures("quick")
def test_a_peer_that_says_nothing_at_all_is_given_up_long_before_the_call_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs = listener.accept()[0]
    with theirs, ThreadPoolExecutor(1) as workers:
        silent = Link(ours, "peer", KEY, OTHER, serve=lambda _c, _r: b"", workers=workers, lost=lambda _: None)
        began = time.monotonic()
        with pytest.raises(LinkLost):
            silent.call(RenewExpiry(), timeout=60.0)
        assert time.monotonic() - began < 30
        with pytest.raises(LinkLost):
            silent.call(RenewExpiry())


@pytest.mark.usefixtures("quick")
def test_a_peer_that_is_slow_is_waited_for(linked: Pair) -> None:
    release = threading.Event()

    def slow(caller: Caller, _request: Request) -> bytes:
        caller.check(KEY)
        release.wait(30)
        return b"done"

    link = linked(slow)
    threading.Timer(1.5, release.set).start()
    assert link.call(ASK, timeout=60.0, key=KEY) == b"done"


def test_a_request_that_is_none_is_refused_and_the_link_goes_on(linked: Pair) -> None:
    link = linked(lambda _caller, _request: b"7")
    with pytest.raises(GatewayRefused, match="no such request"):
        link.call(Lease(1, "t", 1, (), ()))  # type: ignore[arg-type]  # that is the point
    assert link.call(Pulse()) == b"7"
