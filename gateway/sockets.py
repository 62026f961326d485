"""Socket options of connections between gateways, and exact reads."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import select
import socket
from typing import Final, NamedTuple

from skyplane_core.errors import LinkLost

_log = logging.getLogger(__name__)

DEAD_PEER_SECONDS: Final = 120
"""Silence after which a peer is dead: sent bytes without acknowledgement, no answer to keep-alives, or a window that
stays shut. The last is also what back-pressure looks like, so it is longer than the time that a full pool takes to
free one buffer. The death of a *process* shows at once; the control links know about a dead machine sooner."""
_MIB: Final = 1024 * 1024


class Transport(NamedTuple):
    """TCP options of a data connection. None leaves the system's default, and with it buffer autotuning."""

    congestion: str | None = None
    buffer_bytes: int | None = None


LOOPBACK: Final = Transport("cubic", 4 * _MIB)
"""bbr paces even on loopback: 4 connections move 5.8 GB/s with it and 9.0 with cubic and 4 MiB buffers
(docs/measurements.md)."""
NETWORK: Final = Transport("bbr")
"""With one segment in a thousand lost bbr moves a hundred times what cubic does (docs/performance.md). Setting a buffer
size would switch autotuning off."""
DEFAULT: Final = Transport()
"""Whatever the system has: for connections that carry little."""


def transport_for(host: str) -> Transport:
    """The options for a peer at this address."""
    with contextlib.suppress(ValueError):
        return LOOPBACK if ipaddress.ip_address(host).is_loopback else NETWORK
    return LOOPBACK if host == "localhost" else NETWORK


def prepare(sock: socket.socket, transport: Transport) -> None:
    """Set a data or link connection's options; one that this kernel lacks is logged and left.

    A congestion control that is not there, or not allowed here, is left without a word for each connection: whoever
    opens several tells once what they have.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = [
        ("TCP_KEEPIDLE", DEAD_PEER_SECONDS // 4),
        ("TCP_KEEPINTVL", DEAD_PEER_SECONDS // 8),
        ("TCP_KEEPCNT", 6),
        ("TCP_USER_TIMEOUT", DEAD_PEER_SECONDS * 1000),
    ]
    for name, value in options:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        except (AttributeError, OSError) as error:
            _log.warning("socket option not set", extra={"option": name, "reason": str(error)})
    if transport.congestion is not None:
        with contextlib.suppress(AttributeError, OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, transport.congestion.encode())
    if transport.buffer_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, transport.buffer_bytes)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, transport.buffer_bytes)


def receive_into(sock: socket.socket, view: memoryview) -> None:
    """Fill ``view`` from ``sock``.

    Raises:
        LinkLost: the connection ended or broke before that.
    """
    try:
        while view:
            count = sock.recv_into(view)
            if not count:
                raise LinkLost("the connection was closed")
            view = view[count:]
    except OSError as error:
        raise LinkLost("the connection broke", why=str(error)) from error


def hung_up(sock: socket.socket) -> bool:
    """Whether the peer has ended the connection, or it broke; also while bytes are left to be received."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))


def shut(sock: socket.socket) -> None:
    """Wake whoever blocks on ``sock``; the owner closes it. One that is down already is fine."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
