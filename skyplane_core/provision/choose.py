"""The one place that chooses: which provisioner makes or finds a dataplane's gateways, and what a plan may use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from skyplane_core.control import AsyncControlChannel
from skyplane_core.control_tls import connect_async
from skyplane_core.errors import UsageError
from skyplane_core.identity import DataplaneIdentity
from skyplane_core.planner.plan import Site, shape
from skyplane_core.provision import local
from skyplane_core.provision.base import DataplaneReference, Provisioner
from skyplane_core.provision.hosts import SshHost, host_of, in_order

if TYPE_CHECKING:
    from skyplane_core.client import ClientConfig

SSH = "ssh"


def kind_of(config: ClientConfig) -> str:
    """The provisioner of new gateways: ``ssh`` if there are hosts, else ``local``."""
    return SSH if config.hosts else local.NAME


def provisioner_for(config: ClientConfig, identity: DataplaneIdentity, kind: str) -> Provisioner:
    """The provisioner that a new dataplane's config, or an old one's reference, names.

    Raises:
        UsageError: there is none of that name, or the hosts make no dataplane.
    """
    if kind == local.NAME:
        return local.LocalProvisioner(identity, pool_bytes=config.pool_bytes, expiry_seconds=config.expiry_seconds)
    if kind == SSH:
        # Only whoever has hosts needs what it imports.
        from skyplane_core.provision.ssh import SshProvisioner

        return SshProvisioner(
            identity, config.hosts, pool_bytes=config.pool_bytes, expiry_seconds=config.expiry_seconds
        )
    raise UsageError(f"no provisioner {kind!r}", next_step=f"Known: {local.NAME}, {SSH}.")


def async_channels(
    reference: DataplaneReference, identity: DataplaneIdentity, hosts: Sequence[SshHost]
) -> list[AsyncControlChannel]:
    """Channels for an event loop to an old dataplane's gateways, the head's first. Nothing is dialled yet.

    Args:
        hosts: the settings by which gateways on SSH hosts are reached.
    """
    if reference.provisioner != SSH:
        return [connect_async(identity, a.gateway_id, a.host, a.control_port) for a in reference.gateways]
    from skyplane_core.provision.ssh_tunnel import async_channel

    return [async_channel(identity, address, host_of(address.ssh, hosts)) for address in reference.gateways]


def check_shape(config: ClientConfig) -> None:
    """Refuse gateways between which there is no way; none is started.

    Raises:
        UsageError: it says why, and names the gateway or the host.
    """
    shape(sites(config, None), via=config.via)


def sites(config: ClientConfig, reference: DataplaneReference | None) -> list[Site]:
    """The gateways that there are, or that would be provisioned.

    Raises:
        UsageError: the hosts make no dataplane.
    """
    if reference is not None:
        if reference.provisioner == SSH:
            return [
                Site(a.gateway_id, SSH, a.region or a.ssh, loopback=False, role=a.role, dials_out=a.dials_out)
                for a in reference.gateways
            ]
        return [Site(a.gateway_id, role=a.role, dials_out=a.dials_out) for a in reference.gateways]
    if config.hosts:
        hosts = in_order(config.hosts)
        return [
            Site(f"gateway-{n}", SSH, h.region or h.target, loopback=False, role=h.role, dials_out=h.dials_out)
            for n, h in enumerate(hosts)
        ]
    return [Site(f"gateway-{number}", role=role) for number, role in enumerate(config.roles())]
