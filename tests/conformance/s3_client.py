"""boto3 as a client of the object server."""

# ruff: noqa: TID253 - the SDK is what is used here.
from __future__ import annotations

import boto3
from botocore.config import Config

from skyplane_core.testing.objectserver import ObjectServer

MIB = 1 << 20


def client(server: ObjectServer, access="AK", secret="SK", **options):
    config = Config(
        s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, signature_version="s3v4", **options
    )
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=config,
    )


def code(error) -> tuple[str, int]:
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def client_of_an_empty_bucket(server: ObjectServer):
    for key in server.list("b"):
        server.delete("b", key)
    return client(server)
