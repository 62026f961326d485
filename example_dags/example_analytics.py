"""From files in S3 to a report in GCS: move, load, compute. Each task does only what is new.

``land`` brings the files that GCS does not have yet, in parallel and verified. ``load`` puts what the warehouse does
not know into it, also what a run before could not, and ``report`` computes from it. Warehouse and job are small here
and run in the task: sqlite and Arrow stand where ``GCSToBigQueryOperator`` and ``DataprocSubmitJobOperator`` would. No
data, and no list of files, passes between tasks.

Connections: ``aws_default`` and ``google_cloud_default``.
"""

from __future__ import annotations

import csv
import io
import os
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone

from airflow.providers.common.compat.sdk import DAG, Asset, task

from airflow_provider_skyplane.transfers.s3_to_gcs import SkyplaneS3ToGCSOperator

S3_BUCKET = os.environ.get("SKYPLANE_EXAMPLE_S3_BUCKET", "my-s3-bucket")
GCS_BUCKET = os.environ.get("SKYPLANE_EXAMPLE_GCS_BUCKET", "my-gcs-bucket")
WAREHOUSE = os.environ.get("SKYPLANE_EXAMPLE_WAREHOUSE", "/var/lib/warehouse/sales.sqlite")

sales = Asset(f"gs://{GCS_BUCKET}/landing/sales/")
report_asset = Asset(f"gs://{GCS_BUCKET}/reports/sales.parquet")

with DAG(
    dag_id="example_analytics",
    schedule="@hourly",
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=5)},
    doc_md=__doc__,
) as dag:
    # [START howto_skyplane_analytics]
    land = SkyplaneS3ToGCSOperator(
        task_id="land",
        bucket=S3_BUCKET,
        prefix="sales/",
        dest_gcs=f"gs://{GCS_BUCKET}/landing/",
        return_summary=True,
        outlets=[sales],
    )

    @task(inlets=[sales])
    def load() -> int:
        """Put the files that are not in the warehouse yet into it, each whole or not at all."""
        from airflow.providers.google.cloud.hooks.gcs import GCSHook

        hook = GCSHook()
        with closing(sqlite3.connect(WAREHOUSE)) as warehouse:
            warehouse.execute("CREATE TABLE IF NOT EXISTS sales (file TEXT, region TEXT, amount REAL)")
            known = {file for (file,) in warehouse.execute("SELECT DISTINCT file FROM sales")}
            new = sorted(set(hook.list(GCS_BUCKET, prefix="landing/sales/")) - known)
            for file in new:
                rows = csv.DictReader(io.StringIO(hook.download(GCS_BUCKET, file).decode()))
                with warehouse:
                    values = [(file, row["region"], float(row["amount"])) for row in rows]
                    warehouse.executemany("INSERT INTO sales VALUES (?, ?, ?)", values)
        return len(new)

    @task.short_circuit
    def anything_new(files: int) -> bool:
        """Nothing has to be computed again if nothing was loaded."""
        return files > 0

    @task(outlets=[report_asset])
    def report() -> dict[str, float]:
        """What a Spark job would do: group everything by region, and write one Parquet file."""
        import pyarrow as pa
        import pyarrow.parquet as pq
        from airflow.providers.google.cloud.hooks.gcs import GCSHook

        with closing(sqlite3.connect(WAREHOUSE)) as warehouse:
            rows = warehouse.execute("SELECT region, amount FROM sales").fetchall()
        table = pa.table({"region": [region for region, _ in rows], "amount": [amount for _, amount in rows]})
        by_region = table.group_by("region").aggregate([("amount", "sum")]).sort_by("region")
        file = io.BytesIO()
        pq.write_table(by_region, file)
        GCSHook().upload(GCS_BUCKET, "reports/sales.parquet", data=file.getvalue())
        return dict(zip(by_region["region"].to_pylist(), by_region["amount_sum"].to_pylist(), strict=True))

    loaded = load()
    land >> loaded
    anything_new(loaded) >> report()
    # [END howto_skyplane_analytics]


if __name__ == "__main__":
    dag.test()
