"""The facet of a run that a transfer adds to OpenLineage's events. Imported only where its provider is installed."""

from __future__ import annotations

import attrs
from airflow.providers.common.compat.openlineage.facet import RunFacet

from airflow_provider_skyplane.finished import Finished

FACET_KEY = "skyplane_transfer"
SCHEMA_URL = "urn:airflow-provider-skyplane:openlineage:SkyplaneTransferRunFacet:1-0-0"
"""The schema's id, which ends in its version. The schema of that version lies beside this module."""


@attrs.define
class SkyplaneTransferRunFacet(RunFacet):
    """What a transfer moved, how long that took, and what it costs by list prices (in US dollars; None: not known)."""

    transferId: str  # noqa: N815  # OpenLineage's names are written like this
    objectsCopied: int  # noqa: N815
    objectsSkipped: int  # noqa: N815
    objectsFailed: int  # noqa: N815
    objectsDeleted: int  # noqa: N815
    bytesCopied: int  # noqa: N815
    durationSeconds: float  # noqa: N815
    receipt: str
    costUsd: float | None = None  # noqa: N815

    @staticmethod
    def _get_schema() -> str:
        return SCHEMA_URL


def facet_of(finished: Finished) -> SkyplaneTransferRunFacet:
    """The facet of a transfer that has ended, well or not."""
    return SkyplaneTransferRunFacet(
        transferId=finished.transfer_id,
        objectsCopied=finished.objects_copied,
        objectsSkipped=finished.objects_skipped,
        objectsFailed=finished.objects_failed,
        objectsDeleted=finished.objects_deleted,
        bytesCopied=finished.bytes_copied,
        durationSeconds=finished.seconds,
        receipt=finished.receipt,
        costUsd=finished.usd,
    )
