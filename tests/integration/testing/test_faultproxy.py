"""The fault proxy between real sockets: what each side of a connection sees of each fault, and what is left."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from skyplane_core.testing.faultproxy import TO_CLIENT, TO_SERVER, FaultProxy, ProxyFault

SECONDS = 30.0


class Server:
    """Accepts one connection after the other; the test plays its side."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(SECONDS)
        self.address = self.listener.getsockname()

    def accept(self) -> socket.socket:
        sock, _address = self.listener.accept()
        sock.settimeout(SECONDS)
        return sock


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    with server.listener:
        yield server


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    before = set(threading.enumerate())
    with FaultProxy(server.address) as proxy:
        yield proxy
    assert not set(threading.enumerate()) - before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(proxy.address, SECONDS)


def pair(server: Server, proxy: FaultProxy) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection(proxy.address, SECONDS)
    return client, server.accept()


def receive(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := sock.recv(count - len(data))):
        data += more
    return data


def rest(sock: socket.socket) -> bytes:
    data = b""
    while more := sock.recv(65536):
        data += more
    return data


def test_bytes_pass_both_ways_and_are_counted(server: Server, proxy: FaultProxy) -> None:
    body = bytes(range(256)) * 20_000
    client, peer = pair(server, proxy)
    with client, peer:
        sender = threading.Thread(target=lambda: (client.sendall(body), client.shutdown(socket.SHUT_WR)))
        sender.start()
        assert rest(peer) == body
        sender.join()
        peer.sendall(b"answer")
        peer.close()
        assert rest(client) == b"answer"
    assert (proxy.connections, proxy.passed(TO_SERVER), proxy.passed(TO_CLIENT)) == (1, len(body), 6)


def test_cut_resets_both_sides_after_exactly_so_many_bytes(server: Server, proxy: FaultProxy) -> None:
    proxy.add(ProxyFault("cut", TO_SERVER, at=5, connections=(2,)))
    for number in (1, 2):
        client, peer = pair(server, proxy)
        with client, peer:
            client.sendall(b"0123456789")
            if number == 1:
                assert receive(peer, 10) == b"0123456789"
                continue
            assert receive(peer, 5) == b"01234"
            for sock in (client, peer):
                with pytest.raises(ConnectionResetError):
                    sock.recv(1)
    assert proxy.struck == 1


def test_half_close_ends_one_direction_and_the_other_goes_on(server: Server, proxy: FaultProxy) -> None:
    proxy.add(ProxyFault("half-close", TO_SERVER, at=3))
    client, peer = pair(server, proxy)
    with client, peer:
        client.sendall(b"abcdef")
        assert rest(peer) == b"abc"
        peer.sendall(b"still here")
        assert receive(client, 10) == b"still here"
        client.sendall(b"into the void")


def test_truncate_ends_both_directions_without_a_reset(server: Server, proxy: FaultProxy) -> None:
    proxy.add(ProxyFault("truncate", TO_CLIENT, at=4))
    client, peer = pair(server, proxy)
    with client, peer:
        client.sendall(b"question")
        assert receive(peer, 8) == b"question"
        peer.sendall(b"answer")
        assert rest(client) == b"answ"
        assert rest(peer) == b""


def test_a_stalled_direction_stays_open_and_goes_on_when_resumed(server: Server, proxy: FaultProxy) -> None:
    client, peer = pair(server, proxy)
    with client, peer:
        proxy.strike(ProxyFault("stall", TO_SERVER, at=2))
        client.sendall(b"abcd")
        assert receive(peer, 2) == b"ab"
        peer.sendall(b"x")
        assert client.recv(1) == b"x"
        peer.settimeout(0.2)
        with pytest.raises(TimeoutError):
            peer.recv(1)
        peer.settimeout(SECONDS)
        proxy.resume()
        assert receive(peer, 2) == b"cd"


def test_flip_changes_one_bit_of_one_byte(server: Server, proxy: FaultProxy) -> None:
    proxy.add(ProxyFault("flip", TO_SERVER, at=2, bit=5))
    client, peer = pair(server, proxy)
    with client, peer:
        client.sendall(b"aa")
        client.sendall(b"aa")
        assert receive(peer, 4) == b"aaAa"


def test_slow_and_delayed_bytes_arrive_whole(server: Server, proxy: FaultProxy) -> None:
    proxy.add(ProxyFault("slow", TO_SERVER, rate=50_000), ProxyFault("delay", TO_CLIENT, seconds=0.1))
    client, peer = pair(server, proxy)
    with client, peer:
        client.sendall(b"s" * 10_000)
        assert receive(peer, 10_000) == b"s" * 10_000
        peer.sendall(b"late")
        assert receive(client, 4) == b"late"


def test_a_callback_runs_at_its_byte_and_may_use_the_proxy(server: Server, proxy: FaultProxy) -> None:
    seen: list[tuple[int, int]] = []

    def stop_it(connection: int) -> None:
        seen.append((connection, proxy.passed(TO_SERVER)))
        proxy.cut()

    proxy.add(ProxyFault("call", TO_SERVER, at=3, callback=stop_it))
    client, peer = pair(server, proxy)
    with client, peer:
        client.sendall(b"abcdef")
        assert receive(peer, 3) == b"abc"
        with pytest.raises(ConnectionResetError):
            peer.recv(1)
    assert seen == [(1, 3)]


def test_refused_connections_and_those_that_are_open(server: Server, proxy: FaultProxy) -> None:
    client, peer = pair(server, proxy)
    with client, peer:
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(proxy.address, SECONDS)
        client.sendall(b"on")
        assert receive(peer, 2) == b"on"
        proxy.accept()
        again, peer_again = pair(server, proxy)
        with again, peer_again:
            again.sendall(b"x")
            assert receive(peer_again, 1) == b"x"


def test_a_target_that_is_not_there_resets_the_client(server: Server, proxy: FaultProxy) -> None:
    server.listener.close()
    # Perhaps before the connection is known to be one.
    with pytest.raises(ConnectionResetError), socket.create_connection(proxy.address, SECONDS) as client:
        client.recv(1)


def test_a_callback_that_fails_is_heard_of(server: Server) -> None:
    def fail(_connection: int) -> None:
        raise LookupError("of the test")

    proxy = FaultProxy(server.address, ProxyFault("call", callback=fail)).start()
    client, peer = pair(server, proxy)
    with client, peer:
        client.sendall(b"x")
        assert receive(peer, 1) == b"x"
    with pytest.raises(LookupError, match="of the test"):
        proxy.stop()
    proxy.stop()
