"""A nightly mirror of one prefix in another cloud, with a limit on what it may delete, and an alert if it fails.

Only what is missing or differs is copied, and what is gone from the source goes from the destination. If that were more
than a tenth of what is there, nothing is deleted and the task fails: an upstream job that lost its data does not empty
the mirror, and the alert says how much was missing.

Connections: ``aws_default``, ``google_cloud_default`` and, to free the worker slot while gateways work,
``skyplane_default`` with a control secret. Alerts are posted as JSON to the address in SKYPLANE_EXAMPLE_WEBHOOK, as
chat services take it; without one they are in the task's log alone.
"""

from __future__ import annotations

import json
import logging
import os
import urllib.request
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset

from airflow_provider_skyplane.operators.skyplane import SkyplaneSyncOperator


def alert(context: dict[str, Any]) -> None:
    """Tell people that the mirror is not what it should be, and why."""
    ti = context["ti"]
    # What did arrive, and the first of what did not; there is nothing if nothing was begun.
    summary = ti.xcom_pull(task_ids=ti.task_id, key="skyplane_failed") or {}
    text = f"{ti.dag_id}.{ti.task_id} failed: {context.get('exception') or summary.get('error')}"
    logging.getLogger(__name__).error("%s %s", text, summary)
    webhook = os.environ.get("SKYPLANE_EXAMPLE_WEBHOOK")
    if webhook:
        body = json.dumps({"text": text, "copied": summary.get("objects_copied", 0)}).encode()
        request = urllib.request.Request(webhook, body, {"Content-Type": "application/json"})  # noqa: S310
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310  # the address is the deployment's own


with DAG(
    dag_id="example_nightly_sync",
    schedule="0 2 * * *",
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    # Two runs at once would delete and copy at the same place.
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=10), "on_failure_callback": alert},
    params={
        "source": os.environ.get("SKYPLANE_EXAMPLE_SOURCE", "s3://my-s3-bucket/exports/"),
        "destination": os.environ.get("SKYPLANE_EXAMPLE_DESTINATION", "gs://my-gcs-bucket/exports/"),
    },
    doc_md=__doc__,
) as dag:
    # [START howto_skyplane_nightly_sync]
    sync = SkyplaneSyncOperator(
        task_id="sync",
        source="{{ params.source }}",
        destination="{{ params.destination }}",
        exclude=["*.tmp", "_temporary/"],
        delete=True,
        max_delete="10%",
        # A receipt of every night, in a format that a query engine reads.
        receipt_path="receipts/exports/",
        deferrable=True,
        execution_timeout=timedelta(hours=6),
        outlets=[Asset("gs://my-gcs-bucket/exports/")],
    )
    # [END howto_skyplane_nightly_sync]


if __name__ == "__main__":
    dag.test()
