"""Watches a transfer for a sensor, which has not started it and does not end it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from airflow_provider_skyplane.finished import outcome
from airflow_provider_skyplane.hooks.skyplane import read_access
from airflow_provider_skyplane.triggers.looking import LookingTrigger
from airflow_provider_skyplane.watch import Watch
from skyplane_core.provision.base import DataplaneReference


class SkyplaneTransferSensorTrigger(LookingTrigger):
    """One cheap status call per look. Where no gateway is known, a worker is to look each time.

    Args:
        dataplane: the dataplane's reference as JSON, or empty.
        transfer_id: the transfer.
        skyplane_conn_id: connection that holds the control secret.
        pace: see :class:`LookingTrigger`.
    """

    def __init__(self, *, dataplane: str, transfer_id: str, skyplane_conn_id: str, pace: dict[str, Any]) -> None:
        super().__init__(pace=pace)
        self.dataplane = dataplane
        self.transfer_id = transfer_id
        self.skyplane_conn_id = skyplane_conn_id

    def _arguments(self) -> dict[str, Any]:
        return {
            "dataplane": self.dataplane,
            "transfer_id": self.transfer_id,
            "skyplane_conn_id": self.skyplane_conn_id,
        }

    async def look(self) -> dict[str, Any] | None:
        """How the transfer ended, None while it runs."""
        if not self.dataplane:
            raise LookupError("no gateway of the transfer is known; its destination is asked by a worker")
        secret, hosts = await read_access(self.skyplane_conn_id)
        fingerprint = msgspec.json.decode(self.dataplane, type=DataplaneReference).ca_fingerprint
        # It derives keys, which takes some milliseconds.
        watch = await asyncio.to_thread(Watch, self.dataplane, self.transfer_id, secret, fingerprint, hosts)
        try:
            progress = await watch.progress()
        finally:
            await watch.close()
        return {"finished": outcome(progress)["finished"]} if progress.state.ended else None
