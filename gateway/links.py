"""The links of one agent: dialled on demand, accepted from the data process, dialled again when they break."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from gateway.handshake import dial
from gateway.link import Link, RenewExpiry, Request, StoreRequest
from gateway.messages import Peer
from gateway.store_calls import StoreCall
from skyplane_core.errors import GatewayRefused, LinkLost, SkyplaneError

log = logging.getLogger(__name__)

DIAL_SECONDS = 10.0
CALL_ATTEMPTS = 3
REDIAL_SECONDS = 0.5


class Links:
    """All control links of this gateway, by peer.

    Args:
        me: this gateway's id.
        serve: performs a peer's request (see :class:`gateway.link.Link`).
    """

    def __init__(self, me: str, wire_secret: bytes, serve: Callable[[Request], bytes]) -> None:
        self._me = me
        self._secret = wire_secret
        self._serve = serve
        self._workers = ThreadPoolExecutor(32, thread_name_prefix="link-worker")
        self._lock = threading.Lock()
        self._dialling: dict[str, threading.Lock] = {}
        self._links: dict[str, Link] = {}
        self._peers: dict[str, Peer] = {}
        self._renewing: set[str] = set()

    def set_peers(self, peers: Sequence[Peer]) -> None:
        with self._lock:
            self._peers = {peer.gateway_id: peer for peer in peers if peer.gateway_id != self._me}

    def adopt(self, sock: socket.socket, peer: str, send_key: bytes, receive_key: bytes) -> None:
        """Serve a link that a peer dialled; it is used for our own calls to that peer as well."""
        self._add(sock, peer, send_key, receive_key)

    def call(self, peer: str, request: Request) -> bytes:
        """Ask ``peer``; a broken link is dialled again, because every request may be repeated.

        Raises:
            LinkLost: after a few attempts.
        """
        for attempt in range(1, CALL_ATTEMPTS + 1):
            try:
                return self._link(peer).call(request)
            except LinkLost:
                if attempt == CALL_ATTEMPTS:
                    raise
                time.sleep(REDIAL_SECONDS * attempt)
        raise AssertionError("unreachable")

    def store_caller(self, peer: str, transfer_id: str, destination: int) -> Callable[[StoreCall, Any], Any]:
        """A caller for :class:`gateway.agent_store.CalledStore` that performs its calls on ``peer``."""

        def call(request: StoreCall, result: Any) -> Any:
            body = self.call(peer, StoreRequest(transfer_id, destination, request))
            return msgspec.msgpack.decode(body, type=result)

        return call

    def renew(self) -> None:
        """Tell every peer that a transfer is progressing; one that is away is not waited for.

        One whose link broke is dialled: it may be moving parts for hours without a call of ours, and must not expire.
        """
        with self._lock:
            due = {*self._peers, *self._links} - self._renewing
            self._renewing |= due
        for peer in due:
            self._workers.submit(self._renew_one, peer)

    def close(self) -> None:
        with self._lock:
            links = list(self._links.values())
        for link in links:
            link.close()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _renew_one(self, peer: str) -> None:
        try:
            self._link(peer).call(RenewExpiry(), timeout=DIAL_SECONDS)
        except SkyplaneError as error:
            log.info("a peer could not be told to stay", extra={"fields": {"peer": peer, "why": str(error)}})
        finally:
            with self._lock:
                self._renewing.discard(peer)

    def _link(self, peer_id: str) -> Link:
        with self._lock:
            if peer_id in self._links:
                return self._links[peer_id]
            peer = self._peers.get(peer_id)
            gate = self._dialling.setdefault(peer_id, threading.Lock())
        if peer is None:
            raise GatewayRefused("no such gateway in this dataplane", where=peer_id)
        with gate:
            with self._lock:
                if peer_id in self._links:
                    return self._links[peer_id]
            try:
                sock = socket.create_connection((peer.host, peer.port), DIAL_SECONDS)
            except OSError as error:
                raise LinkLost(
                    "a gateway cannot be dialled", where=f"{peer_id} at {peer.host}:{peer.port}", why=str(error)
                ) from error
            try:
                session = dial(sock, self._secret, self._me, peer_id, "link")
            except BaseException:
                sock.close()
                raise
            return self._add(sock, peer_id, session.send_key, session.receive_key)

    def _add(self, sock: socket.socket, peer: str, send_key: bytes, receive_key: bytes) -> Link:
        link = Link(sock, peer, send_key, receive_key, serve=self._serve, workers=self._workers, lost=self._forget)
        with self._lock:
            self._links[peer] = link
        return link

    def _forget(self, link: Link) -> None:
        with self._lock:
            if self._links.get(link.peer) is link:
                del self._links[link.peer]
