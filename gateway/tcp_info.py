"""What the kernel knows about a TCP connection, as far as it is used here. Linux only; elsewhere nothing is known."""

from __future__ import annotations

import socket
import struct
from typing import Final, NamedTuple

_SIZE: Final = 152
"""Up to tcpi_min_rtt of struct tcp_info in linux/tcp.h, whose fields never move; kernels since 4.9 have them all."""
_ACKED: Final = struct.Struct("=120xQ")
_MIN_RTT: Final = struct.Struct("=148xI")


class TcpInfo(NamedTuple):
    """Bytes that the peer has acknowledged, and the shortest round trip in seconds."""

    acked: int = 0
    min_rtt: float = 0.0


def tcp_info(sock: socket.socket) -> TcpInfo | None:
    """None where the kernel does not say, or the socket is closed."""
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
    except (AttributeError, OSError):
        return None
    if len(raw) < _SIZE:
        return None
    return TcpInfo(_ACKED.unpack_from(raw)[0], _MIN_RTT.unpack_from(raw)[0] / 1e6)


def congestion_of(sock: socket.socket) -> str:
    """The congestion control that this connection has; empty where the system does not say."""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode("ascii", "replace")
    except (AttributeError, OSError):
        return ""
