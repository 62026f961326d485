"""Opening a store from its config. The only place that maps a store kind to its module."""

from __future__ import annotations

import importlib
from typing import cast

from skyplane_core.errors import UsageError
from skyplane_core.model import StoreConfig
from skyplane_core.stores.base import ObjectStore

_MODULES = {kind: f"skyplane_core.stores.{kind}" for kind in ("s3", "gcs", "azure", "local")}


def preload() -> None:
    """Import the modules of all stores, for a process that will open some and has time now."""
    for module in _MODULES.values():
        importlib.import_module(module)


def open_store(config: StoreConfig) -> ObjectStore:
    """Open the store that ``config`` describes. Imports that store's module, which needs no SDK, on first use.

    Raises:
        UsageError: the kind is unknown.
    """
    if config.kind not in _MODULES:
        raise UsageError(
            f"no store of kind {config.kind!r}", where=config.uri, next_step=f"Known kinds: {', '.join(_MODULES)}."
        )
    return cast(ObjectStore, importlib.import_module(_MODULES[config.kind]).open_store(config))
