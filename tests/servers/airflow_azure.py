"""An Azure server of ours beside those of :mod:`tests.servers.airflow_clouds`, and a connection that leads to it."""

# ruff: noqa: TID253  # test code is never parsed as a DAG
from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from azure.storage.blob import BlobServiceClient, ContentSettings

from skyplane_core.testing.objectserver import ObjectServer
from tests.servers.airflow_clouds import Clouds, clouds

ACCOUNT = "account"
KEY = base64.b64encode(b"canary-azure-secret-0123456789ab").decode()
OTHER_TYPE = "text/csv"
"""Of what is put into sources: a type that no store gives by itself."""

Object = tuple[str | None, str | None, dict[str, str], bytes]
"""Content type, content encoding, metadata and body."""


@dataclasses.dataclass
class Three:
    """Servers of S3, GCS and Azure."""

    s3_and_gcs: Clouds
    azure_url: str
    account: str = ACCOUNT
    key: str = KEY

    def environment(self) -> dict[str, str]:
        """What a worker needs to reach them."""
        host = f"{self.azure_url}/{self.account}"
        wasb = {"conn_type": "wasb", "login": self.account, "password": self.key, "host": host}
        return {**self.s3_and_gcs.environment(), "AIRFLOW_CONN_WASB_DEFAULT": json.dumps(wasb)}

    @contextlib.contextmanager
    def azure(self) -> Iterator[BlobServiceClient]:
        credential = {"account_name": self.account, "account_key": self.key}
        with BlobServiceClient(f"{self.azure_url}/{self.account}", credential=credential) as service:
            yield service

    def put(self, kind: str, bucket: str, objects: dict[str, bytes]) -> None:
        """Put objects, of :data:`OTHER_TYPE` and with metadata, into a bucket of a kind of store."""
        if kind == "s3":
            client = self.s3_and_gcs.s3()
            for key, body in objects.items():
                client.put_object(Bucket=bucket, Key=key, Body=body, ContentType=OTHER_TYPE, Metadata={"a": "b"})
        elif kind == "gcs":
            for key, body in objects.items():
                blob = self.s3_and_gcs.gcs().bucket(bucket).blob(key)
                blob.metadata = {"a": "b"}
                blob.upload_from_string(body, content_type=OTHER_TYPE)
        else:
            with self.azure() as service:
                for key, body in objects.items():
                    service.get_blob_client(bucket, key).upload_blob(
                        body,
                        overwrite=True,
                        content_settings=ContentSettings(content_type=OTHER_TYPE),
                        metadata={"a": "b"},
                    )

    def objects(self, kind: str, bucket: str) -> dict[str, Object] | None:
        """All that a bucket of a kind of store holds; None if it is not there."""
        if kind == "s3":
            return dict(self._s3_objects(bucket))
        if kind == "gcs":
            return {
                blob.name: (
                    blob.content_type,
                    blob.content_encoding,
                    blob.metadata or {},
                    blob.download_as_bytes(raw_download=True),
                )
                for blob in self.s3_and_gcs.gcs().list_blobs(bucket)
            }
        with self.azure() as service:
            client = service.get_container_client(bucket)
            return dict(_blobs(client)) if client.exists() else None

    def _s3_objects(self, bucket: str) -> Iterator[tuple[str, Object]]:
        client = self.s3_and_gcs.s3()
        for listed in client.list_objects_v2(Bucket=bucket).get("Contents", []):
            found = client.get_object(Bucket=bucket, Key=listed["Key"])
            told = found["ContentType"], found.get("ContentEncoding"), found["Metadata"]
            yield listed["Key"], (*told, found["Body"].read())


def _blobs(client: Any) -> Iterator[tuple[str, Object]]:
    for listed in client.list_blobs():
        found = client.get_blob_client(listed.name).download_blob()
        settings = found.properties.content_settings
        told = settings.content_type, settings.content_encoding, dict(found.properties.metadata)
        yield listed.name, (*told, found.readall())


@contextlib.contextmanager
def three(*, s3: Sequence[str] = (), gcs: Sequence[str] = (), azure: Sequence[str] = ()) -> Iterator[Three]:
    """The servers with these buckets, and the environment of a worker that reaches them."""
    with (
        clouds(list(s3), list(gcs)) as s3_and_gcs,
        ObjectServer("azure", buckets=azure, credentials={ACCOUNT: KEY}) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        found = Three(s3_and_gcs, server.endpoint_url)
        for name, value in found.environment().items():
            patch.setenv(name, value)
        yield found
