"""The drop-in: one import differs from a DAG that uses the Google provider's operator.

    from airflow.providers.google.cloud.transfers.s3_to_gcs import S3ToGCSOperator  # before
    from airflow_provider_skyplane.transfers.s3_to_gcs import S3ToGCSOperator       # after

Connections: ``aws_default`` and ``google_cloud_default``. What is copied can be set by parameters of a run, whose
defaults come from the environment (SKYPLANE_EXAMPLE_*).
"""

from __future__ import annotations

import os
from datetime import datetime, timezone

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_skyplane.transfers.s3_to_gcs import S3ToGCSOperator

with DAG(
    dag_id="example_s3_to_gcs",
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    default_args={"retries": 1},
    params={
        "s3_bucket": os.environ.get("SKYPLANE_EXAMPLE_S3_BUCKET", "my-s3-bucket"),
        "prefix": os.environ.get("SKYPLANE_EXAMPLE_PREFIX", "data/customers/"),
        "dest_gcs": os.environ.get("SKYPLANE_EXAMPLE_DEST_GCS", "gs://my-gcs-bucket/customers/"),
    },
    doc_md=__doc__,
) as dag:
    # [START howto_skyplane_s3_to_gcs]
    copy = S3ToGCSOperator(
        task_id="copy",
        bucket="{{ params.s3_bucket }}",
        prefix="{{ params.prefix }}",
        dest_gcs="{{ params.dest_gcs }}",
        replace=False,
        return_gcs_uris=True,
        # New, and optional: keep the receipts, and let two gateways send encrypted, compressed frames to each other.
        receipt_path=".skyplane/",
        gateways=int(os.environ.get("SKYPLANE_EXAMPLE_GATEWAYS", "1")),
        compression=os.environ.get("SKYPLANE_EXAMPLE_COMPRESSION", "auto"),
    )
    # [END howto_skyplane_s3_to_gcs]


if __name__ == "__main__":
    dag.test()
