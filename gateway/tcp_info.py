"""What the kernel knows about a TCP connection, as far as it is used here. Linux only; elsewhere nothing is known."""

from __future__ import annotations

import socket
import struct
from typing import Final, NamedTuple

_SIZE: Final = 184
"""Up to tcpi_rwnd_limited of struct tcp_info in linux/tcp.h, whose fields never move; kernels since 4.10 have all."""
_LAYOUT: Final = struct.Struct("=68xI28xI16xQ8xI4xII16xQQ")


class TcpInfo(NamedTuple):
    """What one connection has done so far, and how it stands. Times in seconds.

    ``acked`` bytes has the peer acknowledged; of ``sent`` segments ``resent`` had gone before. ``rtt`` is the smoothed
    round trip now and ``min_rtt`` the shortest. ``unsent`` bytes wait for the path, or for the peer. Something was on
    its way for ``busy`` seconds, and for ``held`` of these no more could be because the peer's window was full.
    """

    acked: int = 0
    min_rtt: float = 0.0
    rtt: float = 0.0
    sent: int = 0
    resent: int = 0
    unsent: int = 0
    busy: float = 0.0
    held: float = 0.0


def tcp_info(sock: socket.socket) -> TcpInfo | None:
    """None where the kernel does not say, or the socket is closed."""
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
    except (AttributeError, OSError):
        return None
    if len(raw) < _SIZE:
        return None
    rtt, resent, acked, sent, unsent, min_rtt, busy, held = _LAYOUT.unpack(raw)
    return TcpInfo(acked, min_rtt / 1e6, rtt / 1e6, sent, resent, unsent, busy / 1e6, held / 1e6)


def congestion_of(sock: socket.socket) -> str:
    """The congestion control that this connection has; empty where the system does not say."""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode("ascii", "replace")
    except (AttributeError, OSError):
        return ""
