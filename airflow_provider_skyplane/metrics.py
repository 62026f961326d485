"""What an ended transfer adds to Airflow's metrics (``[metrics]`` in its configuration: statsd, OpenTelemetry)."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_skyplane.finished import Finished

PREFIX = "skyplane.transfer"


def count(finished: Finished, tags: Mapping[str, str]) -> None:
    """Add an ended transfer.

    Args:
        tags: for backends that know tags; the names are the same for all transfers.
    """
    from airflow.providers.common.compat.sdk import Stats

    ended = "failures" if finished.failed else "successes"
    counters = {
        ended: 1,
        "bytes": finished.bytes_copied,
        "objects_copied": finished.objects_copied,
        "objects_skipped": finished.objects_skipped,
        "objects_failed": finished.objects_failed,
        "objects_deleted": finished.objects_deleted,
    }
    for name, number in counters.items():
        Stats.incr(f"{PREFIX}.{name}", number, tags=dict(tags))
    # Airflow takes a number here for milliseconds.
    Stats.timing(f"{PREFIX}.duration", finished.seconds * 1000, tags=dict(tags))
