"""A pipeline that begins when there is something to move, and does not run for nothing.

``new_files`` compares the two ends as the sync would, stops at the first difference, and tells it. While nothing is
there it waits in the triggerer; a day without work is a skipped run and no failure.

Connections: ``aws_default`` and ``google_cloud_default``; the triggerer needs the libraries of both clouds, otherwise
a worker looks in its stead.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from airflow.providers.common.compat.sdk import DAG, Asset

from airflow_provider_skyplane.operators.skyplane import SkyplaneSyncOperator
from airflow_provider_skyplane.sensors.skyplane import SkyplaneSyncSensor

# What is to be moved: the same for the sensor and for the sync, so that the sensor's work is the sync's.
ENDS = {
    "source": os.environ.get("SKYPLANE_EXAMPLE_SOURCE", "s3://my-s3-bucket/exports/"),
    "destination": os.environ.get("SKYPLANE_EXAMPLE_DESTINATION", "gs://my-gcs-bucket/exports/"),
    "exclude": "*.tmp",
}

with DAG(
    dag_id="example_sensor_work",
    schedule="@daily",
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=5)},
    doc_md=__doc__,
) as dag:
    # [START howto_skyplane_sync_sensor]
    new_files = SkyplaneSyncSensor(
        task_id="new_files",
        wait_for="work",
        **ENDS,
        deferrable=True,
        poke_interval=300,
        timeout=timedelta(hours=23),
        soft_fail=True,
    )
    move = SkyplaneSyncOperator(task_id="move", **ENDS, outlets=[Asset(ENDS["destination"])])
    new_files >> move
    # [END howto_skyplane_sync_sensor]


if __name__ == "__main__":
    dag.test()
