"""A gateway's control API through SSH: a port of this machine's loopback that leads to a port behind the host's sshd.

Mutual TLS goes on inside, so that whoever else finds the local port learns no more than at the gateway's own.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

from skyplane_core.control import AsyncControlChannel, ThreadedTransport, Transport
from skyplane_core.control_calls import Request, Response
from skyplane_core.control_tls import connect_async, transport_to
from skyplane_core.errors import GatewayUnreachable, SkyplaneError
from skyplane_core.identity import DataplaneIdentity
from skyplane_core.provision.base import GatewayAddress
from skyplane_core.provision.hosts import Control, SshHost
from skyplane_core.provision.ssh_client import SshConnection

log = logging.getLogger(__name__)

DIRECT_SECONDS = 5.0
"""How long a direct connection is tried before SSH is taken instead."""
_CHUNK = 65536


class Tunnel:
    """Connections to :attr:`port` of 127.0.0.1 come out on ``host`` and go on to ``target``, as seen from there.

    The SSH connection is made with the first of them, and again when it was lost. :meth:`close` ends everything.
    """

    def __init__(self, host: SshHost, target: tuple[str, int]) -> None:
        self._host = host
        self._target = target
        self._lock = threading.Lock()
        self._closed = False
        self._ssh: SshConnection | None = None
        self._ends: set[Any] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.failure: SkyplaneError | None = None
        """Why the last connection could not be carried on; None if it could."""
        self._spawn(self._accept)

    def close(self) -> None:
        """End the tunnel and all connections in it. May be repeated."""
        with self._lock:
            self._closed = True
            ends, threads = list(self._ends), list(self._threads)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in ends:
            _shut(end)
        if self._ssh is not None:
            self._ssh.close()
        for thread in threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                near, _address = self._listener.accept()
            except OSError:
                return  # closed
            self._spawn(self._carry, near)

    def _carry(self, near: socket.socket) -> None:
        with near:
            try:
                far = self._dial()
            except SkyplaneError as error:
                self.failure = error
                return
            self.failure = None
            with contextlib.closing(far), self._known(near, far):
                back = threading.Thread(target=_pump, args=(far, near), name="ssh-tunnel", daemon=True)
                back.start()
                _pump(near, far)
                back.join()

    def _dial(self) -> Any:
        with self._lock:
            if self._closed:
                raise GatewayUnreachable("the tunnel was closed", where=self._host.label)
            if self._ssh is None or not self._ssh.alive:
                self._ssh = SshConnection(self._host)
            ssh = self._ssh
        return ssh.dial(*self._target)

    @contextlib.contextmanager
    def _known(self, *ends: Any) -> Iterator[None]:
        """Known to :meth:`close`, which ends what is carried between them; too late for it, they are ended here."""
        with self._lock:
            self._ends.update(ends)
            closed = self._closed
        if closed:
            for end in ends:
                _shut(end)
        try:
            yield
        finally:
            with self._lock:
                self._ends.difference_update(ends)

    def _spawn(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, name="ssh-tunnel", daemon=True)
        with self._lock:
            self._threads = [other for other in self._threads if other.is_alive()] + [thread]
            # Inside the lock: whoever closes joins all that are in the list, and a thread must have begun for that.
            thread.start()


def async_channel(identity: DataplaneIdentity, address: GatewayAddress, host: SshHost) -> AsyncControlChannel:
    """A channel for an event loop to a gateway on ``host``. Nothing is dialled before the first call."""
    if host.control is Control.DIRECT:
        return connect_async(identity, address.gateway_id, address.host, address.control_port)
    # A tunnel is made of threads, and which way leads there is found out by a dial that blocks.
    return AsyncControlChannel(ThreadedTransport(SshTransport(identity, address, host)))


class SshTransport:
    """Reaches a gateway directly or through a tunnel, as its host's settings say. A :class:`Transport`.

    With :attr:`Control.AUTO` the first call decides, by whether a connection to the control port can be made.
    """

    def __init__(self, identity: DataplaneIdentity, address: GatewayAddress, host: SshHost) -> None:
        self._identity = identity
        self._address = address
        self._host = host
        self._lock = threading.Lock()
        self._tunnel: Tunnel | None = None
        self._chosen: Transport | None = None

    @property
    def where(self) -> str:
        """Gateway and address, for messages."""
        return f"gateway {self._address.gateway_id} on {self._host.label}"

    @property
    def through_ssh(self) -> bool:
        """Whether calls go through SSH, as far as that has been decided."""
        return self._tunnel is not None

    def send(self, request: Request) -> Response:
        """See :meth:`skyplane_core.control.Transport.send`."""
        with self._lock:
            if self._chosen is None:
                self._chosen = self._choose()
            chosen = self._chosen
        try:
            return chosen.send(request)
        except GatewayUnreachable as error:
            if self._tunnel is not None and self._tunnel.failure is not None:
                raise self._tunnel.failure from error
            raise

    def close(self) -> None:
        """Drop the connection, and the tunnel if there is one; the next call makes new ones."""
        with self._lock:
            if self._chosen is not None:
                self._chosen.close()
            if self._tunnel is not None:
                self._tunnel.close()
            self._chosen = self._tunnel = None

    def _choose(self) -> Transport:
        identity, gateway_id, host, port = (
            self._identity, self._address.gateway_id, self._address.host, self._address.control_port,
        )  # fmt: skip
        if self._host.control is Control.DIRECT:
            return transport_to(identity, gateway_id, host, port)
        if self._host.control is Control.AUTO and _answers(host, port):
            return transport_to(identity, gateway_id, host, port)
        self._tunnel = Tunnel(self._host, (control_bind(self._host), port))
        log.info("control goes through SSH", extra={"fields": {"gateway": gateway_id, "host": self._host.label}})
        return transport_to(identity, gateway_id, "127.0.0.1", self._tunnel.port, where=f"{self.where}, through SSH")


def control_bind(host: SshHost) -> str:
    """The address of the host at which a connection that comes out of its sshd finds the control port."""
    if host.control is Control.SSH or host.bind == "0.0.0.0":  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return "::1" if host.bind == "::" else host.bind


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=DIRECT_SECONDS):
            return True
    except OSError:
        return False


def _pump(source: Any, sink: Any) -> None:
    """Move bytes until one side ends, then end the other."""
    try:
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    except OSError as error:
        log.debug("a tunnelled connection broke: %s", error)
    finally:
        _shut(sink)
        _shut(source)


def _shut(end: Any) -> None:
    with contextlib.suppress(OSError, EOFError):
        end.shutdown(socket.SHUT_RDWR)
