"""A nightly sync of one prefix to another cloud: only what is missing or differs is copied.

Connections: ``aws_default``, ``google_cloud_default`` and, for ``deferrable=True``, ``skyplane_default`` with a control
secret in its password field.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator

with DAG(
    dag_id="example_sync",
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    default_args={"retries": 1},
    params={
        "source": os.environ.get("SKYPLANE_EXAMPLE_SOURCE", "s3://my-s3-bucket/exports/"),
        "destination": os.environ.get("SKYPLANE_EXAMPLE_DESTINATION", "gs://my-gcs-bucket/exports/"),
    },
    doc_md=__doc__,
) as dag:
    # [START howto_skyplane_sync]
    sync = SkyplaneOperator(
        task_id="sync",
        source="{{ params.source }}",
        destination="{{ params.destination }}",
        mode="sync",
        deferrable=True,
        # Only where the host of the task lives on, and the triggerer runs on it too; see docs/airflow.md.
        local_gateways_outlive_task=os.environ.get("SKYPLANE_EXAMPLE_OUTLIVE", "") == "1",
        poll_interval=5,
        execution_timeout=timedelta(hours=6),
    )
    # [END howto_skyplane_sync]


if __name__ == "__main__":
    dag.test()
