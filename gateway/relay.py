"""Passing batches on to the next gateway, frame by frame and unread: a relay holds no key and looks at headers only.

A batch has an onward connection to itself while it passes, and any free one will do; answers come back in any order.
How much is in flight is bounded by the pipe of each inbound connection and by the sockets' own buffers: a next gateway
that is slow makes splicing block, which closes the window of just the inbound connections whose batches go to it.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from gateway.counters import Counters
from gateway.dialling import Dialler
from gateway.messages import Peer
from gateway.onward import Onward
from gateway.parked import Parked
from gateway.peer_link import BACKOFF_FIRST, BACKOFF_MOST
from gateway.threads import Threads
from skyplane_core.errors import GatewayRefused, LinkLost, SkyplaneError, Throttled, from_record

_log = logging.getLogger(__name__)

MOST_CONNECTIONS: Final = 32
"""Onward connections to one gateway. One is opened only when all are in use, so there are about as many as inbound
connections that are in the middle of a batch for it."""
WAIT_SECONDS: Final = 60.0
"""The longest wait for an onward connection when all of them are in use."""


class Relay:
    """The onward connections of a gateway, by the next one. Thread-safe."""

    def __init__(self, wire_secret: bytes, me: str, parked: Parked, threads: Threads, counters: Counters) -> None:
        self._wire_secret = wire_secret
        self._me = me
        self._parked = parked
        self._threads = threads
        self._counters = counters
        self._lock = threading.Lock()
        self._peers: dict[str, Peer] = {}
        self._hops: dict[str, _Hop] = {}

    def set_peers(self, peers: tuple[Peer, ...]) -> None:
        """Replace the peers. Those that are gone, or elsewhere now, lose their connections and what is on them."""
        with self._lock:
            self._peers = {peer.gateway_id: peer for peer in peers}
            gone = [name for name, hop in self._hops.items() if self._peers.get(name) != hop.dialler.peer]
            closing = [self._hops.pop(name) for name in gone]
        for hop in closing:
            hop.close(LinkLost("the peer was removed", where=hop.dialler.peer.gateway_id))

    def take(self, gateway_id: str) -> Onward:
        """A connection to that gateway, for one batch; :meth:`give_back` it.

        Raises:
            GatewayRefused: this gateway was not told of that one.
            LinkLost, HandshakeFailed: it cannot be reached.
            Throttled: all connections stayed in use for too long.
        """
        return self._hop(gateway_id).take()

    def give_back(self, onward: Onward) -> None:
        """After a batch, also where the connection was lost."""
        onward.leave()
        with self._lock:
            hop = self._hops.get(onward.peer)
        if hop is not None:
            hop.give_back(onward)

    def close(self, error: SkyplaneError) -> None:
        """End all connections and refuse what is on them."""
        with self._lock:
            hops, self._hops, self._peers = list(self._hops.values()), {}, {}
        for hop in hops:
            hop.close(error)

    def _hop(self, gateway_id: str) -> _Hop:
        with self._lock:
            hop = self._hops.get(gateway_id)
            if hop is None:
                peer = self._peers.get(gateway_id)
                if peer is None:
                    raise GatewayRefused("a way leads to a gateway that this one was not told of", where=gateway_id)
                dialler = Dialler(peer, self._wire_secret, self._me, self._parked)
                hop = self._hops[gateway_id] = _Hop(dialler, self._threads, self._counters)
            return hop


class _Hop:
    """The connections to one next gateway."""

    def __init__(self, dialler: Dialler, threads: Threads, counters: Counters) -> None:
        self.dialler = dialler
        self._threads = threads
        self._counters = counters
        self._changed = threading.Condition()
        self._all: set[Onward] = set()
        self._idle: list[Onward] = []
        self._opening = 0
        self._failures = 0
        self._again_at = 0.0
        self._error: SkyplaneError | None = None

    def take(self) -> Onward:
        deadline = time.monotonic() + WAIT_SECONDS
        with self._changed:
            while True:
                if self._error is not None and (self._again_at == float("inf") or time.monotonic() < self._again_at):
                    raise from_record(self._error.record())
                while self._idle:
                    onward = self._idle.pop()
                    if onward.enter():
                        return onward
                if len(self._all) + self._opening < MOST_CONNECTIONS:
                    self._opening += 1
                    break
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise Throttled(
                        f"all connections to a gateway were in use for {WAIT_SECONDS:.0f} s",
                        where=self.dialler.peer.gateway_id,
                    )
        return self._open()

    def give_back(self, onward: Onward) -> None:
        with self._changed:
            if onward in self._all and not onward.lost:
                self._idle.append(onward)
            self._changed.notify()

    def close(self, error: SkyplaneError) -> None:
        with self._changed:
            self._error, self._again_at = error, float("inf")
            connections = list(self._all)
            self._changed.notify_all()
        self.dialler.close()
        for onward in connections:
            onward.lose(error)

    def _open(self) -> Onward:
        try:
            sock, session = self.dialler.dial()
        except SkyplaneError as error:
            self._failed(error)
            raise
        onward = Onward(sock, session, self._counters)
        onward.enter()
        with self._changed:
            self._opening -= 1
            self._all.add(onward)
            closed = self._error if self._again_at == float("inf") else None
            if closed is None:
                self._failures, self._error = 0, None
        if closed is not None:
            onward.lose(closed)
        self._threads.start(f"onward-{onward.peer}", self._listen, onward)
        _log.info("onward connection open", extra={"peer": onward.peer})
        return onward

    def _failed(self, error: SkyplaneError) -> None:
        """Until a while from now batches are refused at once: each would wait for the same dial in vain."""
        with self._changed:
            self._opening -= 1
            if self._again_at != float("inf"):
                pause = min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(self._failures, 10))
                self._failures += 1
                self._error, self._again_at = error, time.monotonic() + pause
            self._changed.notify_all()
        peer = self.dialler.peer.gateway_id
        _log.warning("peer cannot be reached", extra={"peer": peer, "reason": str(error)})

    def _listen(self, onward: Onward) -> None:
        try:
            onward.read_answers()
        finally:
            with self._changed:
                self._all.discard(onward)
                if onward in self._idle:
                    self._idle.remove(onward)
                self._changed.notify_all()
