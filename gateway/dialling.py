"""Opening authenticated data connections to one peer."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Final

from gateway import handshake
from gateway.handshake import Session
from gateway.messages import Peer
from gateway.parked import Parked
from gateway.sockets import prepare, shut, transport_for
from skyplane_core.errors import LinkLost

CONNECT_SECONDS: Final = 10.0


class Dialler:
    """Dials one peer. Thread-safe.

    Args:
        wire_secret: the dataplane's secret.
        me: this gateway's id.
        parked: where a peer that cannot be dialled leaves the connections that it opened.
        kind: what the connections are for.
    """

    def __init__(self, peer: Peer, wire_secret: bytes, me: str, parked: Parked, kind: handshake.Kind = "data") -> None:
        self.peer = peer
        self._wire_secret = wire_secret
        self._me = me
        self._parked = parked
        self._kind = kind
        self._lock = threading.Lock()
        self._dialling: set[socket.socket] = set()
        self._closed = False

    def dial(self) -> tuple[socket.socket, Session]:
        """A new connection that the peer has been authenticated on; one that it opened, if it cannot be dialled.

        Raises:
            LinkLost: the peer does not take connections, or :meth:`close` was called.
            HandshakeFailed: it is not who it should be.
        """
        if self.peer.dials_out:
            return self._parked.take(self.peer.gateway_id, CONNECT_SECONDS)
        sock = self._connect()
        try:
            session = handshake.dial(sock, self._wire_secret, self._me, self.peer.gateway_id, self._kind)
        except BaseException:
            sock.close()
            raise
        finally:
            with self._lock:
                self._dialling.discard(sock)
        return sock, session

    def close(self) -> None:
        """Have present and later calls of :meth:`dial` fail."""
        with self._lock:
            self._closed = True
            dialling = list(self._dialling)
        for sock in dialling:
            shut(sock)

    def _connect(self) -> socket.socket:
        """A TCP connection, in ``_dialling`` so that ``close`` can interrupt the handshake."""
        try:
            addresses = socket.getaddrinfo(self.peer.host, self.peer.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise self._unreachable(error) from error
        problem = OSError("the name has no address")
        for family, kind, protocol, _name, address in addresses:
            with contextlib.ExitStack() as stack:
                sock = stack.enter_context(socket.socket(family, kind, protocol))
                # Buffers must be set before the SYN, which carries the window scale.
                prepare(sock, transport_for(str(address[0])))
                sock.settimeout(CONNECT_SECONDS)
                with self._lock:
                    if self._closed:
                        raise LinkLost("the peer was removed", where=self.peer.gateway_id)
                    self._dialling.add(sock)
                try:
                    sock.connect(address)
                except OSError as error:
                    problem = error
                    with self._lock:
                        self._dialling.discard(sock)
                    continue
                stack.pop_all()
                return sock
        raise self._unreachable(problem)

    def _unreachable(self, error: OSError) -> LinkLost:
        return LinkLost(
            "the peer does not take connections",
            where=f"{self.peer.gateway_id} at {self.peer.host}:{self.peer.port}",
            why=str(error),
        )
