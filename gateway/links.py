"""The links of one agent: dialled on demand, accepted from the data process, dialled again when they break."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from gateway.handshake import dial
from gateway.link import CALL_SECONDS, Caller, Link, RenewExpiry, Request
from gateway.messages import Peer
from skyplane_core.errors import GatewayRefused, LinkLost, SkyplaneError

log = logging.getLogger(__name__)

DIAL_SECONDS = 10.0
CALL_ATTEMPTS = 3
REDIAL_SECONDS = 0.5
KEEP_SECONDS = 0.5
"""How often a gateway that cannot be dialled looks whether a link of its own is missing."""


class Links:
    """All control links of this gateway, by peer.

    Args:
        me: this gateway's id.
        serve: performs a peer's request (see :class:`gateway.link.Link`).
        lost: told the peer whose link has broken. It may be dialled again by the next call.
    """

    def __init__(
        self,
        me: str,
        wire_secret: bytes,
        serve: Callable[[Caller, Request], bytes],
        lost: Callable[[str], None] = lambda _peer: None,
    ) -> None:
        self._me = me
        self._secret = wire_secret
        self._serve = serve
        self._lost = lost
        self._workers = ThreadPoolExecutor(32, thread_name_prefix="link-worker")
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._dial_out = self._keeping = self._closed = False
        self._dialling: dict[str, threading.Lock] = {}
        self._links: dict[str, Link] = {}
        self._peers: dict[str, Peer] = {}
        self._renewing: set[str] = set()

    def set_peers(self, peers: Sequence[Peer], *, dial_out: bool = False) -> None:
        """Replace the peers. With ``dial_out`` this gateway cannot be dialled, and keeps a link to each that can."""
        with self._arrived:
            self._peers = {peer.gateway_id: peer for peer in peers if peer.gateway_id != self._me}
            self._dial_out = dial_out
            start = dial_out and not self._keeping
            self._keeping |= start
            self._arrived.notify_all()
        if start:
            threading.Thread(target=self._keep, name="links-out", daemon=True).start()

    def adopt(self, sock: socket.socket, peer: str, send_key: bytes, receive_key: bytes) -> None:
        """Serve a link that a peer dialled; it is used for our own calls to that peer as well."""
        self._add(sock, peer, send_key, receive_key)

    def call(
        self,
        peer: str,
        request: Request,
        *,
        key: bytes = b"",
        attempts: int = CALL_ATTEMPTS,
        timeout: float = CALL_SECONDS,
    ) -> bytes:
        """Ask ``peer``; a broken link is dialled again, because every request may be repeated.

        Args:
            key: see :meth:`gateway.link.Link.call`.

        Raises:
            LinkLost: after so many attempts.
        """
        for attempt in range(1, attempts + 1):
            try:
                return self._link(peer).call(request, timeout, key)
            except LinkLost:
                if attempt == attempts:
                    raise
                time.sleep(REDIAL_SECONDS * attempt)
        raise AssertionError("unreachable")

    def drop(self, peer: str) -> None:
        """Break the link to a peer, if there is one: calls that wait for an answer fail with LinkLost."""
        with self._lock:
            link = self._links.get(peer)
        if link is not None:
            link.close()

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
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()
            links = list(self._links.values())
        for link in links:
            link.close()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _renew_one(self, peer: str) -> None:
        try:
            self._link(peer).call(RenewExpiry(), timeout=DIAL_SECONDS)
        except SkyplaneError as error:
            log.info("a peer could not be told to stay", extra={"peer": peer, "why": str(error)})
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
        if peer.dials_out:
            return self._awaited(peer_id)
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
        with self._arrived:
            self._links[peer] = link
            self._arrived.notify_all()
        return link

    def _awaited(self, peer_id: str) -> Link:
        """The link that a peer which cannot be dialled opens."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._closed or peer_id in self._links, DIAL_SECONDS)
            link = self._links.get(peer_id)
        if link is None:
            raise LinkLost("a gateway that has to dial this one has not done so", where=peer_id)
        return link

    def _keep(self) -> None:
        """Have a link to every peer that can be dialled; one that breaks is dialled again soon."""
        while True:
            with self._arrived:
                self._arrived.wait_for(lambda: self._closed, KEEP_SECONDS)
                if self._closed:
                    return
                missing = [
                    name
                    for name, peer in self._peers.items()
                    if self._dial_out and not peer.dials_out and name not in self._links
                ]
            for name in missing:
                try:
                    self._link(name)
                except SkyplaneError as error:
                    log.info("a peer cannot be dialled", extra={"peer": name, "why": str(error)})

    def _forget(self, link: Link) -> None:
        with self._lock:
            if self._links.get(link.peer) is link:
                del self._links[link.peer]
        self._lost(link.peer)
