"""A transfer as the triggerer sees it: the control API, asynchronously, and nothing else of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from airflow_provider_skyplane.several import as_one, separate
from skyplane_core.control import AsyncControlChannel
from skyplane_core.errors import GatewayRefused, GatewayUnreachable, TransferNotFound
from skyplane_core.identity import DataplaneIdentity
from skyplane_core.provision.base import DataplaneReference
from skyplane_core.provision.choose import async_channels
from skyplane_core.provision.hosts import SshHost
from skyplane_core.spec import Progress

RENEW_MARGIN_SECONDS = 600.0
"""Credentials are renewed when less than this is left of them."""
_CANCEL_POLL_SECONDS = 0.2
CANCEL_SECONDS = 15.0
"""How long a cancelled transfer may take to abort its uploads. Airflow gives a trigger's on_kill 30 seconds in all."""


class Watch:
    """One transfer on one dataplane, for one event loop. Making it derives keys, which takes some milliseconds of CPU.

    Args:
        reference: the dataplane's reference as JSON.
        transfer_id: of one transfer, or of several that run side by side (:mod:`airflow_provider_skyplane.several`).
        ca_fingerprint: what the control secret must lead to.
        hosts: how gateways on SSH hosts are reached.

    Raises:
        GatewayRefused: the control secret is not the one that the dataplane was started with.
    """

    def __init__(
        self,
        reference: str,
        transfer_id: str,
        control_secret: bytes,
        ca_fingerprint: str,
        hosts: Sequence[SshHost] = (),
    ) -> None:
        self._transfer_ids = separate(transfer_id)
        self._over: dict[str, Progress] = {}
        self._heard: Progress | None = None
        dataplane = msgspec.json.decode(reference, type=DataplaneReference)
        identity = DataplaneIdentity(control_secret, dataplane.dataplane_id)
        if identity.ca_fingerprint() != ca_fingerprint:
            raise GatewayRefused(
                "the control secret is not the one that this dataplane was started with",
                where=dataplane.dataplane_id,
                next_step="Restore the password of the skyplane connection, or clear the task.",
            )
        self._channels = async_channels(dataplane, identity, hosts)

    @property
    def _head(self) -> AsyncControlChannel:
        return self._channels[0]

    async def progress(self) -> Progress:
        """One status call to the head for each transfer that has not ended.

        Raises:
            GatewayUnreachable, GatewayRefused, TransferNotFound: the head does not tell.
        """
        self._heard = as_one([self._over.get(one) or await self._look(one) for one in self._transfer_ids])
        return self._heard

    async def _look(self, transfer_id: str) -> Progress:
        progress = await self._head.progress(transfer_id)
        if progress.state.ended:
            self._over[transfer_id] = progress
        return progress

    async def cancel_and_shut_down(self) -> Progress | None:
        """Cancel the transfer, give it a moment to abort its uploads, and end the gateways. May be repeated.

        Returns the last that was heard of it, None if nothing was.
        """
        try:
            for transfer_id in self._transfer_ids:
                await self._head.cancel(transfer_id)
            await asyncio.wait_for(self._ended(), CANCEL_SECONDS)
        except (GatewayUnreachable, TransferNotFound, asyncio.TimeoutError):
            pass  # gone, or slow: the gateways end all the same, and their uploads are found again by their records
        for channel in self._channels:
            try:
                await channel.shutdown()
            except GatewayUnreachable:
                continue  # it has ended already, or ends by its expiry
        return self._heard

    async def _ended(self) -> None:
        while not (await self.progress()).state.ended:  # noqa: ASYNC110  # what ends is on another machine
            await asyncio.sleep(_CANCEL_POLL_SECONDS)

    async def close(self) -> None:
        """Close the connections; the gateways go on."""
        for channel in self._channels:
            await channel.close()
