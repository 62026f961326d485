"""Gateways on hosts that the user gives, started, watched and ended over SSH."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from skyplane_core.control import ControlChannel
from skyplane_core.errors import GatewayError, ProvisionFailed, UsageError
from skyplane_core.identity import DataplaneIdentity
from skyplane_core.provision import ssh_session
from skyplane_core.provision.base import DataplaneReference, GatewayAddress
from skyplane_core.provision.bootstrap import MIB, Bootstrap
from skyplane_core.provision.bundle import Bundle, available, find, lock_of, this_target
from skyplane_core.provision.hosts import Control, SshHost, host_of, in_order
from skyplane_core.provision.ssh_client import check_settings
from skyplane_core.provision.ssh_session import Probe, Started
from skyplane_core.provision.ssh_tunnel import SshTransport, control_bind
from skyplane_core.units import counted

log = logging.getLogger(__name__)

T = TypeVar("T")

NAME = "ssh"
START_SECONDS = 30.0
LOG_BYTES = 256 * 1024


class SshProvisioner:
    """See :class:`~skyplane_core.provision.base.Provisioner`. The gateways outlive this object and this process.

    A bundle for each kind of host has to be in the cache (:mod:`skyplane_core.provision.bundle_build`).

    Args:
        hosts: see :class:`SshHost`. One whose gateways are only to be found again may be left out, if its defaults do.
        pool_bytes, expiry_seconds: see :class:`~skyplane_core.provision.bootstrap.Bootstrap`.
        start_seconds: how long a gateway's process may take to listen.

    Raises:
        UsageError: see :func:`~skyplane_core.provision.hosts.in_order`.
    """

    def __init__(
        self,
        identity: DataplaneIdentity,
        hosts: Sequence[SshHost],
        *,
        pool_bytes: int = 512 * MIB,
        expiry_seconds: float = 900.0,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._identity = identity
        self._hosts = in_order(hosts) if hosts else ()
        self._pool_bytes = pool_bytes
        self._expiry_seconds = expiry_seconds
        self._start_seconds = start_seconds
        self.notes: list[str] = []

    def start(self, count: int) -> tuple[GatewayAddress, ...]:
        """Start a gateway on each of the first ``count`` hosts, all at once.

        Raises:
            UsageError: a setting cannot be used, or no bundle has been built; nothing was connected.
            ProvisionFailed: one did not start, and names its host; the others are stopped again.
        """
        if not 0 < count <= len(self._hosts):
            raise UsageError(f"a dataplane of {counted(count, 'gateway')} on {counted(len(self._hosts), 'host')}")
        hosts = self._hosts[:count]
        for host in hosts:
            check_settings(host)
        if not available():
            raise _no_bundle()
        abandoned = threading.Event()
        started: list[GatewayAddress] = []
        failures: list[BaseException] = []

        def one(number: int) -> None:
            try:
                started.append(self._start(f"gateway-{number}", hosts[number], abandoned))
            except BaseException as error:
                # Only the first is a cause: the others may have been given up because of it.
                failures.append(error)
                log.info("%s", error)
                abandoned.set()
                raise

        try:
            _all(one, range(count), abandoned.set)
            started.sort(key=lambda address: address.gateway_id)
            self.notes.sort()
            _all(self._check, started)
        except BaseException as error:  # noqa: BLE001 - raised again, as the first cause
            self._tear_down(started)
            cause = failures[0] if failures and isinstance(error, Exception) else error
            if isinstance(cause, GatewayError):
                raise ProvisionFailed(
                    cause.what, where=cause.where, why=cause.why, next_step=cause.next_step
                ) from cause
            raise cause from None
        return tuple(started)

    def stop(self, gateways: Sequence[GatewayAddress]) -> None:
        """End them and remove what they had on their hosts, all at once. May be repeated.

        Raises:
            GatewayError: one could not be ended and names its host; the others were.
        """
        _all(self._stop, gateways)

    def logs(self, gateways: Sequence[GatewayAddress]) -> dict[str, str]:
        """The end of each gateway's log, by gateway id.

        Raises:
            GatewayError: a host cannot be reached, or its gateway has ended and left nothing.
        """
        found: dict[str, str] = {}

        def fetch(address: GatewayAddress) -> None:
            found[address.gateway_id] = ssh_session.fetch_log(self._host(address), address.directory, LOG_BYTES)

        _all(fetch, gateways)
        return found

    def reference(self, gateways: Sequence[GatewayAddress]) -> DataplaneReference:
        """How these gateways are found again."""
        return DataplaneReference(self._identity.dataplane_id, NAME, tuple(gateways), self._identity.ca_fingerprint())

    def channel(self, gateway: GatewayAddress) -> ControlChannel:
        """A channel to this gateway, direct or through SSH as its host's settings say."""
        return ControlChannel(SshTransport(self._identity, gateway, self._host(gateway)))

    def _host(self, address: GatewayAddress) -> SshHost:
        return host_of(address.ssh, self._hosts)

    def _start(self, gateway_id: str, host: SshHost, abandoned: threading.Event) -> GatewayAddress:
        def choose(probe: Probe) -> Bundle:
            return _bundle_for(host, probe)

        def bootstrap(probe: Probe) -> Bootstrap:
            return self._bootstrap(gateway_id, host, probe.ports)

        name = f"skyplane-{self._identity.dataplane_id}-{gateway_id}"
        started: Started = ssh_session.start(
            host,
            name,
            choose,
            bootstrap,
            start_seconds=self._start_seconds,
            log_seconds=self._expiry_seconds,
            abandoned=abandoned,
        )
        self.notes.append(
            f"{gateway_id} runs on {host.label}: {started.sent_bytes / 1e6:.1f} MB sent in "
            f"{started.copy_seconds:.1f} s, listening {started.start_seconds:.1f} s later."
        )
        return GatewayAddress(
            gateway_id,
            host.address,
            started.listening.control_port,
            started.listening.wire_port,
            wire_host=host.advertise,
            ssh=host.target,
            directory=started.directory,
            region=host.region,
            dials_out=host.dials_out,
        )

    def _bootstrap(self, gateway_id: str, host: SshHost, ports: tuple[int, int]) -> Bootstrap:
        pair = self._identity.gateway_certificate(gateway_id)
        return Bootstrap(
            dataplane_id=self._identity.dataplane_id,
            gateway_id=gateway_id,
            ca_pem=self._identity.ca_pem,
            certificate_pem=pair.certificate_pem,
            private_key_pem=pair.private_key_pem,
            wire_secret=self._identity.wire_secret(),
            bind_host=host.bind,
            # What is only reached through sshd need not be open to the network.
            control_host=control_bind(host) if host.control is Control.SSH else "",
            control_port=ports[0],
            wire_port=ports[1],
            pool_bytes=self._pool_bytes,
            expiry_seconds=self._expiry_seconds,
        )

    def _check(self, address: GatewayAddress) -> None:
        with self.channel(address) as channel:
            channel.status()

    def _stop(self, address: GatewayAddress) -> None:
        host = self._host(address)
        try:
            ssh_session.stop(host, address.directory)
        except GatewayError as error:
            if self._ended_directly(address):
                log.warning("%s was ended over its control port, because: %s", address.gateway_id, error)
                return
            # Here, because of several that fail only one is raised.
            log.warning("%s could not be stopped: %s", address.gateway_id, error)
            raise type(error)(
                f"{address.gateway_id} could not be stopped: {error.what}",
                where=error.where,
                why=error.why,
                next_step="It ends itself when no transfer moves for its expiry, and then removes what it has there.",
            ) from error

    def _ended_directly(self, address: GatewayAddress) -> bool:
        """End a gateway whose host takes no SSH from us; it removes its directory by itself."""
        host = SshHost(address.host, control=Control.DIRECT)
        with ControlChannel(SshTransport(self._identity, address, host)) as channel:
            try:
                channel.shutdown()
            except GatewayError:
                return False
        return True

    def _tear_down(self, started: Sequence[GatewayAddress]) -> None:
        try:
            self.stop(started)
        except GatewayError as error:
            # Why the others did not start matters more.
            log.warning("%s", error)


def check_hosts(hosts: Sequence[SshHost]) -> list[str]:
    """A sentence about each host, if a gateway could be started on all of them. Starts none.

    Raises:
        UsageError: a setting cannot be used, or no bundle has been built; nothing was connected.
        GatewayError: a host cannot be reached, or not be a gateway; it is named.
    """
    for host in hosts:
        check_settings(host)
    if not available():
        raise _no_bundle()
    found: dict[SshHost, str] = {}

    def look(host: SshHost) -> None:
        probe = ssh_session.look(host, lambda probe: _bundle_for(host, probe))
        python = ".".join(map(str, probe.python))
        found[host] = f"{host.label} answers: Python {python}, {probe.arch}, {probe.free_bytes // 10**6} MB free."

    _all(look, hosts)
    return [found[host] for host in hosts]


def _no_bundle() -> UsageError:
    return UsageError("no bundle for gateways has been built", next_step=f"Run: {this_target().command}")


def _bundle_for(host: SshHost, probe: Probe) -> Bundle:
    """The bundle that fits what the host is.

    Raises:
        ProvisionFailed: there is none; it names what the host has, and what there is.
    """
    has = f"it has {probe.implementation} {'.'.join(map(str, probe.python))} on {probe.platform} {probe.arch}"
    if probe.platform != "linux" or probe.implementation != "cpython":
        raise ProvisionFailed(
            "the host cannot be a gateway", where=host.label, why=f"{has}; CPython on Linux is needed"
        )
    bundle = find(probe.target)
    if bundle is None:
        built = "bundles are here for: " + ", ".join(map(str, available()))
        try:
            lock_of(probe.target)
        except UsageError as error:
            raise ProvisionFailed(
                "the host cannot be a gateway", where=host.label, why=has, next_step=error.next_step
            ) from error
        step = f"Build one with: {probe.target.command}"
        raise ProvisionFailed(
            "there is no bundle for the host", where=host.label, why=f"{has}; {built}", next_step=step
        )
    needed = ".".join(map(str, bundle.info.glibc))
    if probe.glibc is None or probe.glibc < bundle.info.glibc:
        raise ProvisionFailed(
            "the host cannot be a gateway",
            where=host.label,
            why=f"it has {probe.libc or 'no glibc'}; glibc {needed} or newer is needed",
            next_step="Use a newer system there.",
        )
    return bundle


def _all(work: Callable[[T], None], items: Sequence[T], on_interrupt: Callable[[], object] = lambda: None) -> None:
    """``work`` on all items at once; returns when all have ended, then raises for the first that failed."""
    if not items:
        return
    with ThreadPoolExecutor(len(items), thread_name_prefix="ssh") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            errors = [future.exception() for future in futures]
        except BaseException:
            on_interrupt()
            raise
    failed = [error for error in errors if error is not None]
    if failed:
        raise failed[0]
