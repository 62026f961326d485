"""The listening socket and its threads: one that accepts, one for each connection; stopping ends them all."""

# ruff: noqa: D102 - the docstrings of the interfaces that these classes have hold.
from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import socket
import ssl
import threading

from skyplane_core.testing.objectserver.connection import Connection
from skyplane_core.testing.objectserver.faults import Faults
from skyplane_core.testing.objectserver.messages import ConnectionLost, StoreProtocol

log = logging.getLogger(__name__)

BUFFER = 4 << 20
"""Bytes of a loopback connection's socket buffers."""


def _suit_loopback(sock: socket.socket) -> None:
    """Make the connections that ``sock`` will accept cheap: bbr, the default of some systems, paces on loopback too."""
    # A kernel without cubic keeps what it has.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)


class Listener:
    """Accepts and serves connections on ``host``.

    Args:
        port: 0 takes a free one; see ``address``.
        latency: seconds added to every request, once.
        bandwidth: bytes per second that each connection may move in each direction; 0: no limit.
        tls: ``(certificate, key)``, two PEM files; None: plain HTTP.
    """

    def __init__(
        self,
        protocol: StoreProtocol,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        latency: float = 0.0,
        bandwidth: float = 0.0,
        faults: Faults | None = None,
        tls: tuple[str, str] | None = None,
    ) -> None:
        self.protocol = protocol
        self.latency = latency
        self.bandwidth = bandwidth
        self.faults = faults or Faults()
        self.requests: collections.Counter[str] = collections.Counter()
        self.bytes_received = 0
        self.bytes_sent = 0
        self.connections = 0
        self._context: ssl.SSLContext | None = None
        if tls is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*tls)
        self._lock = threading.Lock()
        self._holding = threading.Condition()
        self._held: dict[int, tuple[str, str]] = {}
        self._numbers = itertools.count(1)
        self._stopping = threading.Event()
        self._open: dict[threading.Thread, socket.socket] = {}
        self._crowd = 64
        self._socket = socket.create_server((host, port), backlog=512)
        if self._socket.getsockname()[0].startswith("127."):
            _suit_loopback(self._socket)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self._thread = threading.Thread(target=self._accept, name=f"objectserver-{self.address[1]}", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        host, port = self.address
        return f"{'http' if self._context is None else 'https'}://{host}:{port}"

    def sleep(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise ConnectionLost("the server stops")

    def hold(self, operation: str, key: str) -> None:
        number = next(self._numbers)
        with self._holding:
            self._held[number] = (operation, key)
            self._holding.wait_for(lambda: number not in self._held or self._stopping.is_set())
        if self._stopping.is_set():
            raise ConnectionLost("the server stops")

    @property
    def held(self) -> list[tuple[str, str]]:
        """Operation and key of the requests that a fault holds now."""
        with self._holding:
            return list(self._held.values())

    def release(self) -> None:
        """Let the held requests go on."""
        with self._holding:
            self._held.clear()
            self._holding.notify_all()

    def count(self, operation: str) -> None:
        """Note a request."""
        with self._lock:
            self.requests[operation] += 1

    def moved(self, received: int, sent: int) -> None:
        """Note bytes on the wire."""
        with self._lock:
            self.bytes_received += received
            self.bytes_sent += sent

    def stop(self) -> None:
        """Close every socket and join every thread. May be called again."""
        self._stopping.set()
        self.release()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        with self._lock:
            running = list(self._open.items())
        for _, sock in running:
            with contextlib.suppress(OSError):
                # Not the method of SSLSocket, which would tear down state that its thread still uses.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread, _ in running:
            thread.join()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._socket.accept()
            except OSError:
                if not self._stopping.is_set():
                    # Out of file descriptors, most likely: that passes.
                    log.exception("the object server cannot accept a connection")
                    self._stopping.wait(0.05)
                continue
            if self._context is not None:
                try:
                    # Here, so that what stop() finds is the socket that the thread will wait on.
                    sock = self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                except OSError as error:
                    log.debug("the client was gone before TLS began: %s", error)
                    sock.close()
                    continue
            thread = threading.Thread(target=self._serve, args=(sock,), name="objectserver-connection", daemon=True)
            with self._lock:
                self._forget_ended()
                self._open[thread] = sock
                self.connections += 1
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            Connection(sock, self).serve()
        except OSError as error:
            log.debug("the connection never began: %s", error)
        finally:
            sock.close()

    def _forget_ended(self) -> None:
        # A thread does not strike itself off, so that stop() joins even those that are just about to end.
        if len(self._open) >= self._crowd:
            self._open = {thread: sock for thread, sock in self._open.items() if thread.is_alive()}
            self._crowd = max(64, 2 * len(self._open))
