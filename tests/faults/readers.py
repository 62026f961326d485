"""The destination as somebody else sees it: through the SDKs of Amazon and Google, never through our own stores."""

from __future__ import annotations

import http.client
import re

from skyplane_core.testing.objectserver import ObjectServer

ACCESS, SECRET, TOKEN = "AKFAULTS", "secret-of-the-fault-campaign", "token-of-the-fault-campaign"
REGION = "us-east-1"


class S3Reader:
    """boto3 on one bucket."""

    def __init__(self, server: ObjectServer, bucket: str) -> None:
        import boto3
        from botocore.config import Config

        self._bucket = bucket
        self._client = boto3.client(
            "s3",
            endpoint_url=server.endpoint_url,
            region_name=REGION,
            aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def list(self) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def get(self, key: str) -> bytes:
        with self._client.get_object(Bucket=self._bucket, Key=key)["Body"] as body:
            return body.read()

    def begin_upload(self, key: str, part: bytes) -> str:
        upload = self._client.create_multipart_upload(Bucket=self._bucket, Key=key)["UploadId"]
        self._client.upload_part(Bucket=self._bucket, Key=key, UploadId=upload, PartNumber=1, Body=part)
        return upload

    def close(self) -> None:
        self._client.close()


class GcsReader:
    """google-cloud-storage on one bucket; its uploads through the XML API, which it does not speak."""

    def __init__(self, server: ObjectServer, bucket: str) -> None:
        from google.cloud import storage
        from google.oauth2.credentials import Credentials

        self._port = server.port
        self._client = storage.Client(
            project="p", credentials=Credentials(TOKEN), client_options={"api_endpoint": server.endpoint_url}
        )
        self._bucket = self._client.bucket(bucket)

    def list(self) -> list[str]:
        return [blob.name for blob in self._client.list_blobs(self._bucket)]

    def get(self, key: str) -> bytes:
        return self._bucket.blob(key).download_as_bytes(checksum="crc32c")

    def begin_upload(self, key: str, part: bytes) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            connection.request("POST", f"/{self._bucket.name}/{key}?uploads", b"", headers)
            found = re.search(rb"<UploadId>(.+?)</UploadId>", connection.getresponse().read())
            assert found is not None
            upload = found[1].decode()
            target = f"/{self._bucket.name}/{key}?partNumber=1&uploadId={upload}"
            connection.request("PUT", target, part, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
        finally:
            connection.close()
        return upload

    def close(self) -> None:
        self._client.close()


def reader(server: ObjectServer, bucket: str) -> S3Reader | GcsReader:
    """The reader for this kind of server."""
    return S3Reader(server, bucket) if server.kind == "s3" else GcsReader(server, bucket)
