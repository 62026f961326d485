"""Opening a store from its config. The only place that maps a store kind to its module."""

from __future__ import annotations

import importlib
from typing import cast

from skyplane_core.errors import UsageError
from skyplane_core.model import StoreConfig
from skyplane_core.stores.base import ObjectStore

_MODULES = {"s3": "skyplane_core.stores.s3", "gcs": "skyplane_core.stores.gcs", "local": "skyplane_core.stores.local"}
_EXTRAS = {"s3": "amazon", "gcs": "google"}


def open_store(config: StoreConfig) -> ObjectStore:
    """Open the store that ``config`` describes. Imports that store's module, and with it its SDK, on first use.

    Raises:
        UsageError: the kind is unknown, or its SDK is not installed (the message names the extra).
    """
    if config.kind not in _MODULES:
        raise UsageError(
            f"no store of kind {config.kind!r}", where=config.uri, next_step=f"Known kinds: {', '.join(_MODULES)}."
        )
    try:
        module = importlib.import_module(_MODULES[config.kind])
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"skyplane_core", "gateway"}:
            raise
        extra = _EXTRAS.get(config.kind, config.kind)
        raise UsageError(
            f"the library {error.name!r} is not installed",
            where=config.uri,
            next_step=f"Install it with: pip install 'airflow-provider-skyplane[{extra}]'",
        ) from error
    return cast(ObjectStore, module.open_store(config))
