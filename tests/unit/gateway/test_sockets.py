"""Options of real sockets."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest

from gateway.sockets import DEFAULT, LOOPBACK, NETWORK, Transport, prepare, transport_for
from gateway.tcp_info import congestion_of, tcp_info


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as dialled:
        accepted, _address = server.accept()
        with accepted:
            yield dialled, accepted


@pytest.mark.parametrize(
    ("host", "transport"),
    [("127.0.0.1", LOOPBACK), ("::1", LOOPBACK), ("localhost", LOOPBACK), ("10.1.0.1", NETWORK), ("gw.test", NETWORK)],
)
def test_loopback_is_told_from_a_network(host, transport):
    assert transport_for(host) is transport


def test_a_congestion_control_that_is_not_there_is_left_without_a_word(pair, caplog):
    dialled, _accepted = pair
    before = congestion_of(dialled)
    with caplog.at_level(logging.DEBUG):
        prepare(dialled, Transport("nonsense"))
    assert congestion_of(dialled) == before != ""
    assert not caplog.records


def test_the_wan_leaves_buffers_to_autotuning(pair):
    dialled, _accepted = pair
    before = dialled.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    for transport in (NETWORK, DEFAULT):
        prepare(dialled, transport)
        assert dialled.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before


def test_the_kernel_tells_what_was_acknowledged(pair):
    dialled, accepted = pair
    first = tcp_info(dialled)
    dialled.sendall(bytes(100_000))
    received = 0
    while received < 100_000:
        received += len(accepted.recv(65536))
    accepted.sendall(b"!")
    dialled.recv(1)
    assert first is not None
    last = tcp_info(dialled)
    assert last is not None
    assert last.acked - first.acked in (100_000, 100_001)
    assert 0 < last.min_rtt < 60


def test_of_a_closed_socket_nothing_is_known(pair):
    dialled, _accepted = pair
    dialled.close()
    assert tcp_info(dialled) is None
    assert congestion_of(dialled) == ""
