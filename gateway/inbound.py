"""Accepting connections of other gateways: data connections are served here, control links go to the agent."""

from __future__ import annotations

import logging
import select
import socket
import threading
from typing import Any, Final

from gateway import handshake
from gateway.ipc import Channel
from gateway.messages import LinkAccepted
from gateway.parked import Parked
from gateway.sockets import prepare, shut, transport_for
from gateway.strangers import MOST_STRANGERS, Strangers
from gateway.threads import Threads
from gateway.writer import Inbound, Writer
from skyplane_core.errors import LinkLost, WireError
from skyplane_core.provision.bootstrap import Bootstrap

_log = logging.getLogger(__name__)

ROOM_SECONDS: Final = 1.0
"""How long an evicted connection's thread may take to notice before the newcomer is turned away after all."""

ACCEPT_PAUSE_SECONDS: Final = 0.1


class Listener:
    """Accepts until closed.

    Args:
        wire: the listening socket; closed at the end.
        parked: gets the connections that this gateway is to send on.
        channel: to the agent, for control links.
    """

    def __init__(
        self,
        wire: socket.socket,
        bootstrap: Bootstrap,
        writer: Writer,
        parked: Parked,
        threads: Threads,
        channel: Channel[Any],
    ) -> None:
        self._wire = wire
        self._secret = bootstrap.wire_secret
        self._me = bootstrap.gateway_id
        self._writer = writer
        self._parked = parked
        self._threads = threads
        self._channel = channel
        self._wake, self._woken = socket.socketpair()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._rooms = threading.Semaphore(MOST_STRANGERS)
        self._strangers: Strangers[socket.socket] = Strangers()
        self._closing = threading.Event()

    def run(self) -> None:
        """Accept connections; returns after :meth:`close`."""
        poll = select.poll()
        poll.register(self._wire, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        # Several processes may listen on this socket, and another one may be faster.
        self._wire.settimeout(0)
        while not self._closing.is_set():
            poll.poll()
            if self._closing.is_set():
                break
            try:
                sock, address = self._wire.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                # Out of descriptors, or the stranger's own network error (accept(2)): later ones may fare better.
                _log.warning("connection not accepted", extra={"reason": str(error)})
                self._closing.wait(ACCEPT_PAUSE_SECONDS)
                continue
            self._greet(sock, str(address[0]))
        self._wire.close()
        self._woken.close()

    def close(self) -> None:
        """Stop accepting and end all connections."""
        with self._lock:
            self._closing.set()
            connections = list(self._open)
        for sock in connections:
            shut(sock)
        self._wake.close()

    def _greet(self, sock: socket.socket, host: str) -> None:
        sock.settimeout(None)
        room = self._make_room()
        with self._lock:
            welcome = room and not self._closing.is_set()
            if welcome:
                self._open.add(sock)
                self._strangers.add(sock, host)
        if welcome:
            self._threads.start(f"inbound-{host}", self._serve, sock, host)
            return
        if room:
            self._rooms.release()
        else:
            _log.warning("connection refused", extra={"host": host, "reason": "too many unauthenticated"})
        sock.close()

    def _make_room(self) -> bool:
        """A place among the strangers, if need be that of another one."""
        if self._rooms.acquire(blocking=False):
            return True
        with self._lock:
            evicted = self._strangers.evict()
            if evicted is not None:
                # Within the lock, or it might have authenticated meanwhile.
                shut(evicted)
        return self._rooms.acquire(timeout=ROOM_SECONDS)

    def _serve(self, sock: socket.socket, host: str) -> None:
        peer = host
        try:
            try:
                prepare(sock, transport_for(host))
                session = handshake.accept(sock, self._secret, self._me)
            finally:
                with self._lock:
                    self._strangers.discard(sock)
                self._rooms.release()
            peer = session.peer
            _log.info("connection accepted", extra={"peer": peer, "kind": session.kind})
            if session.kind == "link":
                self._channel.send(LinkAccepted(peer, session.send_key, session.receive_key), sock.fileno())
            elif session.kind == "reverse":
                # A duplicate: what becomes of it is none of this thread's business any more.
                self._parked.put(sock.dup(), session)
            else:
                Inbound(sock, session, self._writer).serve()
        except LinkLost as error:
            _log.info("connection ended", extra={"peer": peer, "reason": error.why or error.what})
        except WireError as error:
            _log.warning("connection refused", extra={"peer": peer, "reason": str(error)})
        except OSError as error:
            _log.warning("connection broke", extra={"peer": peer, "reason": str(error)})
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()
