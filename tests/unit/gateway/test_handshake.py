"""The handshake: both know the secret, or nothing happens."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.handshake import MAX_MESSAGE, Session, accept, dial
from skyplane_core.errors import HandshakeFailed, LinkLost, SkyplaneError

SECRET = os.urandom(32)


def both(
    dialler: Callable[[socket.socket], Session], listener: Callable[[socket.socket], Session]
) -> list[Session | SkyplaneError]:
    found: list[Session | SkyplaneError] = [LinkLost("nothing came of it")] * 2
    left, right = socket.socketpair()

    def run(index: int, sock: socket.socket, side: Callable[[socket.socket], Session]) -> None:
        with sock:
            try:
                found[index] = side(sock)
            except SkyplaneError as error:
                found[index] = error

    threads = [
        threading.Thread(target=run, args=(0, left, dialler)),
        threading.Thread(target=run, args=(1, right, listener)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("kind", ["data", "link"])
def test_both_sides_agree_on_who_what_and_keys(kind: str) -> None:
    one, two = both(
        lambda sock: dial(sock, SECRET, "a", "b", kind),  # type: ignore[arg-type]
        lambda sock: accept(sock, SECRET, "b"),
    )
    assert isinstance(one, Session)
    assert isinstance(two, Session)
    assert (one.peer, two.peer, one.kind, two.kind) == ("b", "a", kind, kind)
    assert one.send_key == two.receive_key
    assert two.send_key == one.receive_key
    assert one.send_key != one.receive_key
    assert one.send_key.hex() not in repr(one)
    assert str(one.send_key) not in repr(one)
    again = both(lambda sock: dial(sock, SECRET, "a", "b", "data"), lambda sock: accept(sock, SECRET, "b"))[0]
    assert isinstance(again, Session)
    assert again.send_key != one.send_key


@pytest.mark.parametrize(
    ("secret", "listener"),
    [(bytes(32), "b"), (SECRET, "c"), (SECRET, "a"), (SECRET[:31] + b"x", "b")],
    ids=["zeros", "a third", "the dialler itself", "one byte off"],
)
def test_another_secret_or_another_gateway_is_refused(secret: bytes, listener: str) -> None:
    results = both(lambda sock: dial(sock, SECRET, "a", "b", "data"), lambda sock: accept(sock, secret, listener))
    assert all(isinstance(result, SkyplaneError) for result in results)
    assert any(isinstance(result, HandshakeFailed) for result in results)


def test_a_short_secret_is_refused() -> None:
    with socket.socket() as sock, pytest.raises(HandshakeFailed):
        dial(sock, b"short", "a", "b", "data")


def test_a_reflected_dialler_learns_nothing() -> None:
    """A listener without the secret sends back what it got."""

    def mirror(sock: socket.socket) -> Session:
        sock.sendall(sock.recv(2000))
        assert sock.recv(2000) == b""
        raise HandshakeFailed("mirror")

    result = both(lambda sock: dial(sock, SECRET, "a", "b", "data"), mirror)[0]
    assert isinstance(result, HandshakeFailed)


def test_two_recorded_diallers_cannot_be_replayed() -> None:
    recorded = bytearray()

    def recording(sock: socket.socket) -> Session:
        class Tap:
            def __getattr__(self, name: str) -> object:
                return getattr(sock, name)

            def sendall(self, data: bytes) -> None:
                recorded.extend(data)
                sock.sendall(data)

        return dial(Tap(), SECRET, "a", "b", "data")  # type: ignore[arg-type]

    both(recording, lambda sock: accept(sock, SECRET, "b"))

    def replay(sock: socket.socket) -> Session:
        sock.sendall(recorded)
        assert len(sock.recv(2000)) > 32
        assert sock.recv(2000) == b""
        raise HandshakeFailed("replay")

    assert isinstance(both(replay, lambda sock: accept(sock, SECRET, "b"))[1], HandshakeFailed)


@given(st.binary(max_size=200), st.booleans())
def test_any_other_bytes_fail_and_nothing_else_is_raised(junk: bytes, framed: bool) -> None:
    def babble(sock: socket.socket) -> Session:
        sock.sendall(len(junk).to_bytes(2, "big") + junk if framed else junk)
        raise HandshakeFailed("babble")

    assert isinstance(both(babble, lambda sock: accept(sock, SECRET, "b"))[1], HandshakeFailed | LinkLost)
    assert isinstance(both(lambda sock: dial(sock, SECRET, "a", "b", "data"), babble)[0], HandshakeFailed | LinkLost)


def test_a_long_message_is_refused_before_it_is_read() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall((MAX_MESSAGE + 1).to_bytes(2, "big"))
        with pytest.raises(HandshakeFailed, match="bytes"):
            accept(right, SECRET, "b")


def test_a_silent_peer_is_not_waited_for() -> None:
    left, right = socket.socketpair()
    with left, right, pytest.raises(HandshakeFailed, match="too long"):
        accept(right, SECRET, "b", deadline_seconds=0.02)
