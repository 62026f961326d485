"""A pipeline that begins when somebody else's transfer has arrived.

Whoever has started the transfer (another DAG, a program, ``skyplane sync`` in a shell) starts this DAG with its id and
its destination::

    airflow dags trigger example_sensor_arrival --conf '{"transfer": "<id>", "destination": "gs://my-gcs-bucket/exports/"}'

``arrived`` waits for the receipt, which is at the destination as soon as the transfer has ended, whatever gateways did
it; it fails if anything did not arrive. ``complete`` then makes sure that nothing was added at the source meanwhile.

Connections: ``aws_default`` and ``google_cloud_default``.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_skyplane.sensors.skyplane import SkyplaneSyncSensor, SkyplaneTransferSensor

with DAG(
    dag_id="example_sensor_arrival",
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=5)},
    params={
        "transfer": "",
        "source": os.environ.get("SKYPLANE_EXAMPLE_SOURCE", "s3://my-s3-bucket/exports/"),
        "destination": os.environ.get("SKYPLANE_EXAMPLE_DESTINATION", "gs://my-gcs-bucket/exports/"),
    },
    doc_md=__doc__,
) as dag:
    # [START howto_skyplane_transfer_sensor]
    arrived = SkyplaneTransferSensor(
        task_id="arrived",
        transfer="{{ params.transfer }}",
        destination="{{ params.destination }}",
        deferrable=True,
        timeout=timedelta(hours=12),
    )
    complete = SkyplaneSyncSensor(
        task_id="complete",
        wait_for="in_sync",
        source="{{ params.source }}",
        destination="{{ params.destination }}",
        mode="reschedule",
        timeout=timedelta(hours=1),
    )

    @task
    def process(transfer: dict[str, Any]) -> str:
        """What is done with the objects; the summary says how many there are, and where all of them are listed."""
        return f"{transfer['objects_copied']} new objects, listed in {transfer['receipt']}"

    arrived >> complete >> process(arrived.output)
    # [END howto_skyplane_transfer_sensor]


if __name__ == "__main__":
    dag.test()
