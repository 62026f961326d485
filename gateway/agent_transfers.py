"""The transfers that an agent knows, and their open stores. Credentials live here, in memory, and nowhere else."""

from __future__ import annotations

import threading

import msgspec

from skyplane_core.errors import GatewayRefused, TransferNotFound
from skyplane_core.model import GatewayTransfer, StoreConfig
from skyplane_core.stores.base import ObjectStore
from skyplane_core.stores.registry import open_store

_SOURCE, _RECEIPT = -1, -2
"""Stores that are no destination have numbers below those."""


class AgentTransfers:
    """Thread-safe. A store is opened on first use, and again after its config (its credentials) changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._transfers: dict[str, GatewayTransfer] = {}
        self._stores: dict[tuple[str, int], tuple[StoreConfig, ObjectStore]] = {}

    def put(self, transfer: GatewayTransfer) -> GatewayTransfer:
        """Create a transfer, or give it fresh credentials; returns it as it is known now.

        A client that came back renews credentials without knowing the transfer's key, so a known key stays.
        """
        with self._lock:
            known = self._transfers.get(transfer.transfer_id)
            if transfer.keys is None and known is not None:
                transfer = msgspec.structs.replace(transfer, keys=known.keys)
            self._transfers[transfer.transfer_id] = transfer
            return transfer

    def drop(self, transfer_id: str) -> None:
        """Forget a transfer and its credentials; one that is unknown is no error."""
        with self._lock:
            self._transfers.pop(transfer_id, None)
            gone = [key for key in self._stores if key[0] == transfer_id]
            stores = [self._stores.pop(key)[1] for key in gone]
        for store in stores:
            store.close()

    def credentials_expire_at(self, transfer_id: str) -> float | None:
        """When the first of the transfer's credentials expires, on whichever gateway; None if none does."""
        with self._lock:
            transfer = self._transfers.get(transfer_id)
        return transfer.credentials_expire_at if transfer is not None else None

    def key(self, transfer_id: str) -> bytes:
        """The transfer's key; empty where this gateway holds none.

        Raises:
            TransferNotFound: this gateway knows no such transfer.
        """
        keys = self._transfer(transfer_id).keys
        return keys.key if keys is not None else b""

    def source(self, transfer_id: str) -> ObjectStore:
        """The source store. Raises GatewayRefused on a gateway that does not read for this transfer."""
        config = self._transfer(transfer_id).source
        if config is None:
            raise GatewayRefused("this gateway does not read for that transfer", where=transfer_id)
        return self._open(transfer_id, _SOURCE, config)

    def destination(self, transfer_id: str, index: int) -> ObjectStore:
        """A destination store. Raises GatewayRefused on a gateway that does not write there."""
        config = self._transfer(transfer_id).destinations.get(index)
        if config is None:
            raise GatewayRefused(f"this gateway does not write to destination {index}", where=transfer_id)
        return self._open(transfer_id, index, config)

    def receipt(self, transfer_id: str) -> ObjectStore:
        """The store of the receipt. Raises GatewayRefused on a gateway that is not told of one."""
        config = self._transfer(transfer_id).receipt
        if config is None:
            raise GatewayRefused("this gateway was given no store for the receipt", where=transfer_id)
        return self._open(transfer_id, _RECEIPT, config)

    def _transfer(self, transfer_id: str) -> GatewayTransfer:
        with self._lock:
            transfer = self._transfers.get(transfer_id)
        if transfer is None:
            raise TransferNotFound("this gateway knows no such transfer", where=transfer_id)
        return transfer

    def _open(self, transfer_id: str, index: int, config: StoreConfig) -> ObjectStore:
        with self._lock:
            known = self._stores.get((transfer_id, index))
            if known is not None and known[0] == config:
                return known[1]
            # The store that it replaces is not closed here: another thread may be in the middle of a call on it.
            store = open_store(config)
            self._stores[(transfer_id, index)] = (config, store)
            return store
