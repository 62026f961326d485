"""The transfers that are open in a data process, and their stores' data paths."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from typing import Final

from gateway.threads import log_unexpected
from gateway.wire import transfer_tag
from skyplane_core.errors import GatewayRefused, TransferNotFound
from skyplane_core.model import GatewayTransfer, StoreConfig
from skyplane_core.stores.base import DataPath, ObjectStore
from skyplane_core.stores.registry import open_store


class DataPaths:
    """The data paths of one store under one set of credentials: opened on demand, kept, each with one user at once."""

    def __init__(self, config: StoreConfig) -> None:
        self.config = config
        self._lock = threading.Lock()
        self._store: ObjectStore | None = None
        self._idle: list[DataPath] = []
        self._in_use = 0
        self._closed = False

    def close(self) -> None:
        """Close what is idle now, and what is in use when it comes back."""
        with self._lock:
            self._closed = True
        self._drain()

    def take(self) -> DataPath | None:
        """A data path for the calling thread until it calls :meth:`put`; None if these credentials are closed.

        Raises:
            SkyplaneError: the store cannot be opened.
        """
        with self._lock:
            if self._closed:
                return None
            # Held while a store opens: the other threads need it anyway.
            if self._store is None:
                self._store = open_store(self.config)
            path = self._idle.pop() if self._idle else self._store.data()
            self._in_use += 1
            return path

    def put(self, path: DataPath) -> None:
        """Give back what :meth:`take` returned."""
        with self._lock:
            self._in_use -= 1
            self._idle.append(path)
            closed = self._closed
        if closed:
            self._drain()

    def _drain(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
            store = None
            if not self._in_use:
                store, self._store = self._store, None
        things: list[DataPath | ObjectStore] = [*idle]
        if store is not None:
            things.append(store)
        for thing in things:
            try:
                thing.close()
            except Exception as error:  # noqa: BLE001 - it is logged, and nothing depends on it
                # Nothing depends on how a connection ends that nobody uses any more.
                log_unexpected(error)


class Transfer:
    """One open transfer. ``config`` is replaced when credentials are renewed."""

    def __init__(self, config: GatewayTransfer) -> None:
        self._lock = threading.Lock()
        self._stores: dict[int, DataPaths] = {}
        self._salts: dict[bytes, None] = {}
        self.config = config
        self.closed = False

    def is_new(self, salt: bytes) -> bool:
        """Whether no batch with this salt has been here; from now on one has.

        A reader draws a salt for each sending, so that a second one is a replay: a store may give a part that is put
        again another id, and the upload then cannot be completed with the one that was acknowledged.
        """
        with self._lock:
            if salt in self._salts:
                return False
            self._salts[salt] = None
            if len(self._salts) > _SALTS:
                del self._salts[next(iter(self._salts))]
            return True

    def update(self, config: GatewayTransfer) -> None:
        """Take a new config; stores whose config changed are opened anew, by whoever needs them next."""
        with self._lock:
            self.config = config
            stale = [index for index, paths in self._stores.items() if self._config_of(index) != paths.config]
            closing = [self._stores.pop(index) for index in stale]
        for paths in closing:
            paths.close()

    def close(self) -> None:
        with self._lock:
            self.closed = True
            closing, self._stores = list(self._stores.values()), {}
        for paths in closing:
            paths.close()

    def key(self) -> bytes:
        """The transfer's key.

        Raises:
            GatewayRefused: this gateway holds none: it is a relay.
        """
        keys = self.config.keys
        if keys is None:
            raise GatewayRefused("this gateway holds no key of the transfer", where=self.config.transfer_id)
        return keys.key

    def onward(self, way: int) -> str:
        """The gateway that batches of this way are passed on to; empty if they end here."""
        return self.config.onward.get(way, "")

    @contextlib.contextmanager
    def source(self) -> Iterator[DataPath]:
        """A data path of the source. Raises GatewayRefused if this gateway is no reader."""
        with self._use(_SOURCE) as path:
            yield path

    @contextlib.contextmanager
    def destination(self, index: int) -> Iterator[DataPath]:
        """A data path of a destination. Raises GatewayRefused if this gateway does not write there."""
        with self._use(index) as path:
            yield path

    @contextlib.contextmanager
    def _use(self, index: int) -> Iterator[DataPath]:
        # Credentials renewed between the two calls: the next round finds the new ones, or that all is closed.
        while (path := (paths := self._paths(index)).take()) is None:
            continue
        try:
            yield path
        finally:
            paths.put(path)

    def _paths(self, index: int) -> DataPaths:
        with self._lock:
            if self.closed:
                raise TransferNotFound("the transfer was closed on this gateway", where=self.config.transfer_id)
            paths = self._stores.get(index)
            if paths is None:
                config = self._config_of(index)
                if config is None:
                    role = "read the source" if index == _SOURCE else f"write destination {index}"
                    raise GatewayRefused(f"this gateway was not asked to {role}", where=self.config.transfer_id)
                paths = self._stores[index] = DataPaths(config)
            return paths

    def _config_of(self, index: int) -> StoreConfig | None:
        return self.config.source if index == _SOURCE else self.config.destinations.get(index)


_SOURCE: Final = -1
_SALTS: Final = 2**18
"""Batches of one transfer that are remembered: some 35 MB at most, and 2 TB of parts of 8 MiB."""
PATIENCE_SECONDS: Final = 2.0
"""The agent answers once it has passed an OpenTransfer on; a reader's first batch may be here before that message."""
_REMEMBERED: Final = 1024
"""Closed transfers that nobody waits for."""


class Transfers:
    """Open transfers by id and by the tag that stands for it on the wire. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._by_id: dict[str, Transfer] = {}
        self._by_tag: dict[bytes, Transfer] = {}
        self._closed: deque[bytes] = deque(maxlen=_REMEMBERED)

    def open(self, config: GatewayTransfer) -> None:
        """Open a transfer, or renew the config of one that is open."""
        with self._lock:
            known = self._by_id.get(config.transfer_id)
            if known is None:
                known = self._by_id[config.transfer_id] = Transfer(config)
                self._by_tag[transfer_tag(config.transfer_id)] = known
                with contextlib.suppress(ValueError):
                    self._closed.remove(transfer_tag(config.transfer_id))
                self._lock.notify_all()
                return
        known.update(config)

    def close(self, transfer_id: str) -> None:
        """Close a transfer; one that is not open is no error."""
        with self._lock:
            self._lock.notify_all()
            known = self._by_id.pop(transfer_id, None)
            self._by_tag.pop(transfer_tag(transfer_id), None)
            self._closed.append(transfer_tag(transfer_id))
        if known is not None:
            known.close()

    def get(self, transfer_id: str) -> Transfer:
        """Raises TransferNotFound."""
        with self._lock:
            known = self._by_id.get(transfer_id)
        if known is None:
            raise TransferNotFound("this transfer is not open on this gateway", where=transfer_id)
        return known

    def by_tag(self, tag: bytes, patience: float = PATIENCE_SECONDS) -> Transfer:
        """The transfer that a batch is of; one that was never open here is waited for.

        Raises:
            TransferNotFound: it was closed, or is not opened within ``patience`` seconds.
        """
        with self._lock:
            if tag not in self._by_tag and tag not in self._closed:
                self._lock.wait_for(lambda: tag in self._by_tag or tag in self._closed, patience)
            known = self._by_tag.get(tag)
        if known is None:
            raise TransferNotFound("the batch is of a transfer that is not open on this gateway", where=tag.hex())
        return known

    def all(self) -> list[Transfer]:
        with self._lock:
            return list(self._by_id.values())
