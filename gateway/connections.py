"""Outbound data connections to all peers (see :mod:`gateway.peer_link`). What waits is bounded by the buffer pool."""

from __future__ import annotations

import threading

from gateway.batch import Batch
from gateway.counters import Counters
from gateway.messages import Peer
from gateway.peer_link import PeerLink
from gateway.threads import Threads
from skyplane_core.errors import GatewayRefused, LinkLost, SkyplaneError


class Connections:
    """All peers. Thread-safe.

    Args:
        wire_secret: the dataplane's secret.
        me: this gateway's id.
    """

    def __init__(self, wire_secret: bytes, me: str, threads: Threads, counters: Counters) -> None:
        self._wire_secret = wire_secret
        self._me = me
        self._threads = threads
        self._counters = counters
        self._lock = threading.Lock()
        self._peers: dict[str, PeerLink] = {}

    def set_peers(self, peers: tuple[Peer, ...]) -> None:
        """Replace the peers. Those that are gone, or elsewhere now, lose their connections and what is on them."""
        wanted = {peer.gateway_id: peer for peer in peers}
        with self._lock:
            gone = [name for name, link in self._peers.items() if wanted.get(name) != link.peer]
            closing = [self._peers.pop(name) for name in gone]
            for name, peer in wanted.items():
                if name not in self._peers:
                    self._peers[name] = PeerLink(peer, self._wire_secret, self._me, self._threads, self._counters)
        for link in closing:
            link.close(LinkLost("the peer was removed", where=link.peer.gateway_id))

    def check(self, gateway_id: str) -> None:
        """Raises GatewayRefused if this gateway was not told of that peer."""
        self._link(gateway_id)

    def send(self, gateway_id: str, batch: Batch) -> None:
        """Queue a batch, whose buffer and result are in good hands from here on. Raises GatewayRefused as ``check``."""
        self._link(gateway_id).put(batch)

    def forget(self, transfer_id: str, error: SkyplaneError) -> None:
        """Fail all batches of one transfer that wait to be sent or answered."""
        with self._lock:
            links = list(self._peers.values())
        for link in links:
            link.forget(transfer_id, error)

    def close(self, error: SkyplaneError) -> None:
        """End all connections and fail what is on them."""
        with self._lock:
            links, self._peers = list(self._peers.values()), {}
        for link in links:
            link.close(error)

    def _link(self, gateway_id: str) -> PeerLink:
        with self._lock:
            link = self._peers.get(gateway_id)
        if link is None:
            raise GatewayRefused("the route leads to a gateway that this one was not told of", where=gateway_id)
        return link
