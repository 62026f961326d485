"""One source to three clouds: an S3-compatible store, Google Cloud Storage and Azure Blob Storage.

The task is one, and its gateways are shared; each destination has its own receipt, and one that fails does not stop the
others. A task a destination follows, made from what the transfer returned.

Connections: ``aws_default`` for the source, ``archive`` (type ``aws``, with its ``endpoint_url``),
``google_cloud_default`` and ``wasb_default``.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator

SOURCE = os.environ.get("SKYPLANE_EXAMPLE_SOURCE", "s3://my-s3-bucket/releases/")
DESTINATIONS = {
    "archive": os.environ.get("SKYPLANE_EXAMPLE_ARCHIVE", "s3://my-archive/releases/"),
    "google": os.environ.get("SKYPLANE_EXAMPLE_GOOGLE", "gs://my-gcs-bucket/releases/"),
    "azure": os.environ.get("SKYPLANE_EXAMPLE_AZURE", "az://myaccount/mycontainer/releases/"),
}

with DAG(
    dag_id="example_fan_out",
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=5)},
    doc_md=__doc__,
) as dag:
    # [START howto_skyplane_fan_out]
    publish = SkyplaneOperator(
        task_id="publish",
        source=SOURCE,
        destination=[
            {"uri": DESTINATIONS["archive"], "conn_id": "archive"},
            DESTINATIONS["google"],
            DESTINATIONS["azure"],
        ],
        mode="sync",
        outlets=[Asset(uri) for uri in DESTINATIONS.values()],
    )

    @task
    def per_cloud(published: dict[str, Any]) -> list[dict[str, Any]]:
        """What each destination has got."""
        return [{name: one[name] for name in ("destination", "objects_copied")} for one in published["destinations"]]

    @task
    def announce(destination: str, objects_copied: int) -> str:
        """Where a catalogue would be told, or a cache be emptied."""
        return f"{destination}: {objects_copied} new"

    announce.expand_kwargs(per_cloud(publish.output))
    # [END howto_skyplane_fan_out]


if __name__ == "__main__":
    dag.test()
