"""An S3 and a GCS server of ours, and Airflow connections that lead to them."""

# ruff: noqa: TID253  # test code is never parsed as a DAG
from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.config import Config
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from skyplane_core.testing.objectserver import ObjectServer

ACCESS_KEY = "AKIATESTTESTTEST"
SECRET_KEY = "canary-aws-secret-0123456789abcdef"
CONTROL_SECRET = "canary-control-secret-0123456789abcdef"


@dataclasses.dataclass
class Clouds:
    """The two servers, by URL; ``source`` and ``destination`` are their handles."""

    s3_url: str
    gcs_url: str
    source: ObjectServer
    destination: ObjectServer

    def environment(self) -> dict[str, str]:
        """What a worker needs to reach both."""
        aws = {
            "conn_type": "aws",
            "login": ACCESS_KEY,
            "password": SECRET_KEY,
            "extra": {
                "endpoint_url": self.s3_url,
                "region_name": "us-east-1",
                "config_kwargs": {"s3": {"addressing_style": "path"}},
            },
        }
        gcp = {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True, "project": "test-project"}}
        return {
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps(gcp),
            "STORAGE_EMULATOR_HOST": self.gcs_url,
        }

    def s3(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.s3_url,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}),
        )

    def gcs(self) -> storage.Client:
        return storage.Client(
            project="test-project", credentials=AnonymousCredentials(), client_options={"api_endpoint": self.gcs_url}
        )

    def put(self, bucket: str, objects: dict[str, bytes]) -> None:
        client = self.s3()
        for key, body in objects.items():
            client.put_object(Bucket=bucket, Key=key, Body=body, ContentType="text/csv")

    def objects(self, bucket: str) -> dict[str, tuple[str | None, str | None, bytes]]:
        """Content type, encoding and body of every object."""
        return {
            blob.name: (blob.content_type, blob.content_encoding, blob.download_as_bytes(raw_download=True))
            for blob in self.gcs().list_blobs(bucket)
        }


@contextlib.contextmanager
def clouds(s3_buckets: list[str], gcs_buckets: list[str], *, versioning: bool = False) -> Iterator[Clouds]:
    """Both servers. ``versioning``: S3's buckets keep old versions."""
    with (
        ObjectServer("s3", buckets=s3_buckets, versioning=versioning) as s3,
        ObjectServer("gcs", buckets=gcs_buckets) as gcs,
    ):
        yield Clouds(s3.endpoint_url, gcs.endpoint_url, s3, gcs)
