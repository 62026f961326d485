"""Outbound data connections of a reader (see :mod:`gateway.peer_link`). What waits is bounded by the buffer pool."""

from __future__ import annotations

import threading

from gateway.batch import Batch
from gateway.counters import Counters
from gateway.dialling import Dialler
from gateway.messages import Peer
from gateway.parked import Parked
from gateway.peer_link import PeerLink
from gateway.sockets import LOOPBACK, transport_for
from gateway.threads import Threads
from skyplane_core.errors import GatewayRefused, LinkLost, SkyplaneError


class Connections:
    """All paths, by the gateways on them. Thread-safe.

    Args:
        wire_secret: the dataplane's secret.
        me: this gateway's id.
    """

    def __init__(self, wire_secret: bytes, me: str, parked: Parked, threads: Threads, counters: Counters) -> None:
        self._wire_secret = wire_secret
        self._me = me
        self._parked = parked
        self._threads = threads
        self._counters = counters
        self._lock = threading.Lock()
        self._peers: dict[str, Peer] = {}
        self._here: frozenset[str] = frozenset()
        self._links: dict[tuple[str, ...], PeerLink] = {}

    def set_peers(self, peers: tuple[Peer, ...]) -> None:
        """Replace the peers. Those that are gone, or elsewhere now, lose their connections and what is on them."""
        with self._lock:
            self._peers = {peer.gateway_id: peer for peer in peers}
            self._here = on_this_machine(peers)
            gone = [path for path, link in self._links.items() if self._peers.get(path[0]) != link.peer]
            closing = [self._links.pop(path) for path in gone]
        for link in closing:
            link.close(LinkLost("the peer was removed", where=link.peer.gateway_id))

    def check(self, path: tuple[str, ...]) -> None:
        """Raises GatewayRefused if this gateway was not told of the first one on ``path``."""
        self._link(path)

    def send(self, path: tuple[str, ...], batch: Batch) -> None:
        """Queue a batch, whose buffer and result are in good hands from here on. Raises GatewayRefused as ``check``."""
        batch.stays_here = self._here.issuperset(path)
        self._link(path).put(batch)

    def forget(self, transfer_id: str, error: SkyplaneError) -> None:
        """Fail all batches of one transfer that wait to be sent or answered."""
        with self._lock:
            links = list(self._links.values())
        for link in links:
            link.forget(transfer_id, error)

    def close(self, error: SkyplaneError) -> None:
        """End all connections and fail what is on them."""
        with self._lock:
            links, self._links, self._peers = list(self._links.values()), {}, {}
        for link in links:
            link.close(error)

    def _link(self, path: tuple[str, ...]) -> PeerLink:
        with self._lock:
            link = self._links.get(path)
            if link is not None:
                return link
            peer = self._peers.get(path[0])
            if peer is None:
                raise GatewayRefused("the route leads to a gateway that this one was not told of", where=path[0])
            link = self._links[path] = PeerLink(
                Dialler(peer, self._wire_secret, self._me, self._parked),
                self._threads,
                self._counters,
                shared=len(path) == 1,
            )
            return link


def on_this_machine(peers: tuple[Peer, ...]) -> frozenset[str]:
    """Those whose address says so. What nobody can dial has an address that says nothing."""
    return frozenset(peer.gateway_id for peer in peers if not peer.dials_out and transport_for(peer.host) is LOOPBACK)
