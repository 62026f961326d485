"""The transfer tasks of the stock operators' official examples, with our import lines. A DAG file.

Task ids and arguments are those of the examples under ``tests/system`` in the source archives of the providers (named
beside each); ``scripts/stock-tests`` compares them with the archives. The constants stand for what an example makes up
from its environment. Left out are an example's tasks that need a real cloud, as the test that runs this says.
"""

from __future__ import annotations

import datetime
import itertools

from airflow.providers.common.compat.sdk import DAG, TriggerRule

from airflow_provider_skyplane.transfers.azure_blob_to_gcs import AzureBlobStorageToGCSOperator
from airflow_provider_skyplane.transfers.azure_blob_to_s3 import AzureBlobStorageToS3Operator
from airflow_provider_skyplane.transfers.gcs_to_gcs import GCSToGCSOperator
from airflow_provider_skyplane.transfers.gcs_to_s3 import GCSToS3Operator
from airflow_provider_skyplane.transfers.s3_copy_object import S3CopyObjectOperator
from airflow_provider_skyplane.transfers.s3_to_gcs import S3ToGCSOperator
from airflow_provider_skyplane.transfers.s3_to_wasb import S3ToAzureBlobStorageOperator

START = datetime.datetime(2021, 1, 1, tzinfo=datetime.timezone.utc)

with DAG("official_examples", schedule=None, start_date=START, catchup=False) as dag:
    # From google's tests/system/google/cloud/gcs/example_s3_to_gcs.py
    BUCKET_NAME = "bucket-example-s3-to-gcs"
    GCS_BUCKET_URL = f"gs://{BUCKET_NAME}/"
    PREFIX = "gcs"
    S3ToGCSOperator(
        task_id="s3_to_gcs_task", bucket=BUCKET_NAME, prefix=PREFIX, dest_gcs=GCS_BUCKET_URL, apply_gcs_prefix=True
    )
    S3ToGCSOperator(
        task_id="s3_to_gcs_task_def", bucket=BUCKET_NAME, prefix=PREFIX, dest_gcs=GCS_BUCKET_URL, deferrable=True
    )

    # From google's tests/system/google/cloud/gcs/example_gcs_to_gcs.py
    BUCKET_NAME_SRC, BUCKET_NAME_DST = "bucket_gcs_to_gcs", "bucket_dst_gcs_to_gcs"
    PREFIX = "/home/airflow/gcs/data/gcs_to_gcs_default/"
    OBJECT_1 = OBJECT_2 = "random.bin"
    copies_within_gcs = [
        GCSToGCSOperator(
            task_id="copy_single_gcs_file",
            source_bucket=BUCKET_NAME_SRC,
            source_object=PREFIX + OBJECT_1,
            destination_bucket=BUCKET_NAME_DST,
            destination_object="backup_" + OBJECT_1,
            exact_match=True,
        ),
        GCSToGCSOperator(
            task_id="copy_files",
            source_bucket=BUCKET_NAME_SRC,
            source_object=PREFIX + "subdir/",
            destination_bucket=BUCKET_NAME_DST,
            destination_object="backup/",
        ),
        GCSToGCSOperator(
            task_id="copy_files_with_match_glob",
            source_bucket=BUCKET_NAME_SRC,
            source_object="data/",
            destination_bucket=BUCKET_NAME_DST,
            destination_object="backup/",
            match_glob="**/*.txt",
        ),
        GCSToGCSOperator(
            task_id="copy_files_with_list",
            source_bucket=BUCKET_NAME_SRC,
            source_objects=[PREFIX + OBJECT_1, PREFIX + OBJECT_2],
            destination_bucket=BUCKET_NAME_DST,
            destination_object="backup/",
        ),
        GCSToGCSOperator(
            task_id="move_single_file",
            source_bucket=BUCKET_NAME_SRC,
            source_object=PREFIX + OBJECT_1,
            destination_bucket=BUCKET_NAME_DST,
            destination_object="backup_" + OBJECT_1,
            exact_match=True,
            move_object=True,
        ),
        GCSToGCSOperator(
            task_id="move_files_with_list",
            source_bucket=BUCKET_NAME_SRC,
            source_objects=[PREFIX + OBJECT_1, PREFIX + OBJECT_2],
            destination_bucket=BUCKET_NAME_DST,
            destination_object="backup/",
        ),
    ]
    for before, after in itertools.pairwise(copies_within_gcs):
        before >> after

    # From google's tests/system/google/cloud/azure/example_azure_blob_to_gcs.py
    AZURE_CONTAINER_NAME, BLOB_NAME = "airflow", "file.txt"
    GCP_BUCKET_NAME, GCP_OBJECT_NAME, GCP_BUCKET_FILE_PATH = "from-azure", "file.txt", "file.txt"
    AzureBlobStorageToGCSOperator(
        task_id="transfer_files_to_gcs",
        container_name=AZURE_CONTAINER_NAME,
        blob_name=BLOB_NAME,
        bucket_name=GCP_BUCKET_NAME,
        object_name=GCP_OBJECT_NAME,
        filename=GCP_BUCKET_FILE_PATH,
        gzip=False,
        impersonation_chain=None,
    )

    # From amazon's tests/system/amazon/aws/example_azure_blob_to_s3.py
    azure_container_name = "env-azure-blob-to-s3-container"
    s3_key_url = "s3://env-azure-blob-to-s3-bucket/env-azure-blob-to-s3-key"
    AzureBlobStorageToS3Operator(
        task_id="azure_blob_to_s3", container_name=azure_container_name, dest_s3_key=s3_key_url
    )

    # From amazon's tests/system/amazon/aws/example_gcs_to_s3.py
    s3_bucket = gcs_bucket = "env-gcs-to-s3-bucket"
    s3_key = "env-gcs-to-s3-key"
    gcp_user_project = "env-project"
    GCSToS3Operator(
        task_id="gcs_to_s3",
        gcs_bucket=gcs_bucket,
        dest_s3_key=f"s3://{s3_bucket}/{s3_key}",
        replace=True,
        gcp_user_project=gcp_user_project,
    )

    # From amazon's tests/system/amazon/aws/example_s3.py
    bucket_name, bucket_name_2, key, key_2 = "env-s3-bucket", "env-s3-bucket-2", "env-key", "env-key2"
    S3CopyObjectOperator(
        task_id="copy_object",
        source_bucket_name=bucket_name,
        dest_bucket_name=bucket_name_2,
        source_bucket_key=key,
        dest_bucket_key=key_2,
    )

    # From microsoft-azure's tests/system/microsoft/azure/example_s3_to_wasb.py
    s3_bucket_name, wasb_container_name = "env-s3-to-wasb-bucket", "env-wasb-container"
    S3_KEY, BLOB_PREFIX = "TEST/TEST1.csv", "TEST"
    S3ToAzureBlobStorageOperator(
        task_id="s3_to_wasb",
        s3_bucket=s3_bucket_name,
        container_name=wasb_container_name,
        s3_key=S3_KEY,
        blob_prefix=BLOB_PREFIX,
        trigger_rule=TriggerRule.ALL_DONE,
        replace=True,
    )
