from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from gateway.agent_store import CalledStore, DirectStore
from gateway.link import Link, RenewExpiry
from gateway.links import Links
from gateway.messages import Peer
from gateway.store_calls import Head
from skyplane_core.coordinator import retry
from skyplane_core.errors import LinkLost, PermissionDenied, StoreUnavailable, Unauthenticated
from skyplane_core.model import Attestation, ObjectInfo
from skyplane_core.stores.base import Capabilities, ObjectStore


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BASE_DELAY", 0.001)
    monkeypatch.setattr(retry, "AUTH_DELAY", 0.001)


class Listed:
    """A store whose credentials, if they expire, do so after so many keys."""

    capabilities = Capabilities(Attestation.WHOLE)

    def __init__(self, keys: str, lasts: int | None = None, error: Exception | None = None) -> None:
        self.keys, self.lasts = keys, lasts
        self.error = error or Unauthenticated("expired")

    def list(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[ObjectInfo]:
        for count, key in enumerate(key for key in self.keys if key > start_after):
            if count == self.lasts:
                raise self.error
            yield ObjectInfo(key, 1, "v")


def direct(stores: list[Listed]) -> DirectStore:
    return DirectStore(lambda: cast("ObjectStore", stores[0]), 3)


def test_a_listing_goes_on_with_renewed_credentials() -> None:
    stores = [Listed("abcdefg", lasts=3), Listed("abcdefg")]
    listing = direct(stores).list()
    keys = [next(listing).key, next(listing).key]
    del stores[0]  # renewed while admission had paused the listing
    keys += [info.key for info in listing]
    assert keys == list("abcdefg")


def test_a_listing_that_fails_in_passing_goes_on_after_its_last_key() -> None:
    assert [info.key for info in direct([Listed("abcdefg", 3, StoreUnavailable("reset"))]).list()] == list("abcdefg")


def test_a_listing_that_is_refused_ends_at_once_and_one_that_keeps_failing_in_the_end() -> None:
    listing = direct([Listed("abc", 0, PermissionDenied("no"))]).list()
    with pytest.raises(PermissionDenied):
        next(listing)
    with pytest.raises(StoreUnavailable):
        list(direct([Listed("abc", 0, StoreUnavailable("down"))]).list())


def test_a_call_that_fails_in_passing_is_made_again_and_every_answer_is_a_sign_of_life() -> None:
    calls: list[Any] = []

    def call(request: Any, _result: Any) -> Any:
        calls.append(request)
        if len(calls) < 3:
            raise StoreUnavailable("reset")
        return ObjectInfo("k", 1, "v")

    store = CalledStore(call, 3)
    assert store.answered_at == 0
    assert store.head("k").key == "k"
    assert calls == [Head("k")] * 3
    assert store.answered_at > 0


def test_a_peer_that_does_not_answer_is_said_to_be_silent_and_not_to_be_down() -> None:
    lost = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as workers:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
        link = Link(
            here,
            "peer",
            bytes(32),
            bytes(32),
            serve=lambda _peer, _request: b"",
            workers=workers,
            lost=lambda _: lost.set(),
        )
        with pytest.raises(LinkLost, match="does not answer"):
            link.call(RenewExpiry(), timeout=0.05)
        link.close()
        there.close()
        assert lost.wait(5)


def test_renewal_dials_a_peer_whose_link_is_gone_and_never_twice_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    links = Links("me", bytes(32), lambda _peer, _request: b"")
    links.set_peers([Peer("writer", "127.0.0.1", 1)])
    asked: list[object] = []
    held = threading.Event()

    class Dialled:
        peer = "writer"

        def call(self, request: object, timeout: float = 0) -> bytes:
            asked.append(request)
            held.wait(5)
            return b""

    monkeypatch.setattr(links, "_link", lambda _peer: Dialled())
    for _ in range(5):
        links.renew()
        time.sleep(0.02)
    held.set()
    links.close()
    assert asked == [RenewExpiry()]
