"""Training data to the region of the accelerators, then the training.

A GPU that waits for reads from another cloud costs as much as one that works, so the data set is brought to a bucket
beside it first. The sync moves only what has changed since the last training, and its receipt, which lists each file
with its checksum, is kept with the model: it says exactly what the model has seen. The training here is a line through
points; yours is the task of your platform.

Connections: ``aws_default`` and ``google_cloud_default``.
"""

from __future__ import annotations

import csv
import io
import json
import os
import statistics
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_skyplane.operators.skyplane import SkyplaneSyncOperator

DATASET = os.environ.get("SKYPLANE_EXAMPLE_DATASET", "s3://my-datasets/houses/")
TRAINING_BUCKET = os.environ.get("SKYPLANE_EXAMPLE_TRAINING_BUCKET", "my-training-us-central1")

training_data = Asset(f"gs://{TRAINING_BUCKET}/houses/")
model = Asset(f"gs://{TRAINING_BUCKET}/models/houses.json")

with DAG(
    dag_id="example_ml_training",
    schedule="@weekly",
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=5)},
    doc_md=__doc__,
) as dag:
    # [START howto_skyplane_ml_training]
    stage = SkyplaneSyncOperator(
        task_id="stage",
        source=DATASET,
        destination=f"gs://{TRAINING_BUCKET}/houses/",
        include="*.csv",
        # Files that are still being written are left for the next time.
        min_age=os.environ.get("SKYPLANE_EXAMPLE_MIN_AGE", "10m"),
        # Nothing that was taken out of the data set is trained on.
        delete=True,
        outlets=[training_data],
    )

    @task(inlets=[training_data], outlets=[model])
    def train(staged: dict[str, Any]) -> dict[str, float]:
        """Fit, and keep the model with the receipt of what it was trained on."""
        from airflow.providers.google.cloud.hooks.gcs import GCSHook

        hook = GCSHook()
        points: list[tuple[float, float]] = []
        for name in hook.list(TRAINING_BUCKET, prefix="houses/"):
            if not name.endswith(".csv"):
                continue  # such as the receipts
            rows = csv.DictReader(io.StringIO(hook.download(TRAINING_BUCKET, name).decode()))
            points += [(float(row["size"]), float(row["price"])) for row in rows]
        slope, intercept = statistics.linear_regression(*zip(*points, strict=True))
        fitted = {"slope": round(slope, 6), "intercept": round(intercept, 6)}
        trained_on = {"points": len(points), "receipt": staged["receipt"]}
        hook.upload(TRAINING_BUCKET, "models/houses.json", data=json.dumps({**fitted, "trained_on": trained_on}))
        return fitted

    train(stage.output)
    # [END howto_skyplane_ml_training]


if __name__ == "__main__":
    dag.test()
