"""What the events of a task's outlets tell about the transfer, for whoever is scheduled by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset

from airflow_provider_skyplane.finished import Finished

try:
    from airflow.sdk.definitions.asset import AssetRef
except ImportError:  # Airflow 2 has none
    AssetRef = Asset  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_skyplane.compat import Context

EXTRA_KEY = "skyplane"


def tell(context: Context, outlets: Iterable[Any], finished: Finished) -> None:
    """Put counts, bytes and the transfer's id into the extra of each outlet that is or names an asset (or a dataset).

    An alias has no event of its own, and is left to whoever adds assets to it.
    """
    events = context.get("outlet_events")
    if events is None:
        return
    told: dict[str, Any] = {
        "transfer_id": finished.transfer_id,
        "objects_copied": finished.objects_copied,
        "objects_skipped": finished.objects_skipped,
        "objects_deleted": finished.objects_deleted,
        "bytes_copied": finished.bytes_copied,
        "seconds": finished.seconds,
        "receipt": finished.receipt,
    }
    for outlet in outlets:
        if isinstance(outlet, (Asset, AssetRef)):
            events[outlet].extra[EXTRA_KEY] = told
