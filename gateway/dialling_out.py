"""A gateway that nobody can dial opens the connections that others send to it on, and keeps a few in reserve."""

from __future__ import annotations

import logging
import threading
from typing import Final

from gateway.dialling import Dialler
from gateway.handshake import Session
from gateway.messages import Peer
from gateway.parked import Parked
from gateway.peer_link import BACKOFF_FIRST, BACKOFF_MOST
from gateway.threads import Threads
from gateway.writer import Inbound, Writer
from skyplane_core.errors import LinkLost, SkyplaneError

_log = logging.getLogger(__name__)

RESERVE: Final = 2
"""Connections to each peer that no batch has come on yet; the first batch on one has the next one opened."""
MOST_CONNECTIONS: Final = 64


class DialOut:
    """The connections that this gateway opens to be sent to, for all peers. Thread-safe."""

    def __init__(self, wire_secret: bytes, me: str, writer: Writer, threads: Threads) -> None:
        self._wire_secret = wire_secret
        self._me = me
        self._writer = writer
        self._threads = threads
        self._lock = threading.Lock()
        self._kept: dict[str, _Reserve] = {}

    def set_peers(self, peers: tuple[Peer, ...]) -> None:
        """Keep connections to these peers and to no others; none for a gateway that can be dialled itself."""
        wanted = {peer.gateway_id: peer for peer in peers if not peer.dials_out}
        with self._lock:
            gone = [name for name, kept in self._kept.items() if wanted.get(name) != kept.peer]
            closing = [self._kept.pop(name) for name in gone]
            for name in wanted.keys() - self._kept.keys():
                dialler = Dialler(wanted[name], self._wire_secret, self._me, Parked(), kind="reverse")
                kept = self._kept[name] = _Reserve(wanted[name], dialler, self._writer, self._threads)
                self._threads.start(f"dial-out-{name}", kept.run)
        for kept in closing:
            kept.close()

    def close(self) -> None:
        self.set_peers(())


class _Reserve:
    """The connections to one peer."""

    def __init__(self, peer: Peer, dialler: Dialler, writer: Writer, threads: Threads) -> None:
        self.peer = peer
        self._dialler = dialler
        self._writer = writer
        self._threads = threads
        self._changed = threading.Condition()
        self._open: set[Inbound] = set()
        self._unused: set[Inbound] = set()
        self._hung_up = 0
        self._closed = False

    def run(self) -> None:
        """Open a connection whenever there are too few unused ones."""
        failures = 0
        while self._wait_for_need():
            if self._hung_up:
                self._pause(min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(self._hung_up, 10)))
            try:
                sock, session = self._dialler.dial()
            except SkyplaneError as error:
                failures += 1
                _log.info("peer cannot be dialled", extra={"peer": self.peer.gateway_id, "reason": str(error)})
                self._pause(min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(failures, 10)))
                continue
            inbound = Inbound(sock, session, self._writer, self._began)
            with self._changed:
                self._open.add(inbound)
                self._unused.add(inbound)
                closed = self._closed
            self._threads.start(f"reverse-{self.peer.gateway_id}", self._serve, inbound, session)
            if closed:
                inbound.shut()
            failures = 0

    def close(self) -> None:
        with self._changed:
            self._closed = True
            connections = list(self._open)
            self._changed.notify_all()
        self._dialler.close()
        for inbound in connections:
            inbound.shut()

    def _serve(self, inbound: Inbound, session: Session) -> None:
        try:
            inbound.serve()
        except LinkLost as error:
            _log.info("connection ended", extra={"peer": session.peer, "reason": error.why or error.what})
        except SkyplaneError as error:
            _log.warning("connection refused", extra={"peer": session.peer, "reason": str(error)})
        finally:
            inbound.close()
            with self._changed:
                # A peer that hangs up at once is not to be dialled in a tight loop.
                self._hung_up += inbound in self._unused
                self._open.discard(inbound)
                self._unused.discard(inbound)
                self._changed.notify_all()

    def _began(self, inbound: Inbound) -> None:
        with self._changed:
            self._unused.discard(inbound)
            self._hung_up = 0
            self._changed.notify_all()

    def _wait_for_need(self) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or (len(self._unused) < RESERVE and len(self._open) < MOST_CONNECTIONS)
            )
            return not self._closed

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)
