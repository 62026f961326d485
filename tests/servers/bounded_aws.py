"""AWS as moto has it, with sessions held to the policies that they were assumed with, as AWS does.

moto enforces the policies of roles; that of a session it only keeps.
"""

# ruff: noqa: TID253  # test code is never parsed as a DAG
from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from moto.core.authorization import enable_iam_authentication
from moto.iam.access_control import AssumedRoleAccessKey, IAMRequestBase, S3IAMRequest
from moto.s3.responses import ACTION_MAP
from moto.server import ThreadedMotoServer
from moto.sts.models import sts_backends

ACCOUNT = "123456789012"
REGION = "us-east-1"
PATHS = Config(s3={"addressing_style": "path"})
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


class Aws:
    """A moto server with a user who may assume a role that may do everything."""

    def __init__(self, url: str) -> None:
        self.url = url
        made = {"endpoint_url": url, "region_name": REGION, "aws_access_key_id": "x", "aws_secret_access_key": "x"}
        iam = boto3.client("iam", **made)
        iam.create_user(UserName="airflow")
        iam.put_user_policy(UserName="airflow", PolicyName="all", PolicyDocument=json.dumps(EVERYTHING))
        self.key = iam.create_access_key(UserName="airflow")["AccessKey"]
        trust = {**EVERYTHING["Statement"][0], "Principal": {"AWS": "*"}}  # type: ignore[dict-item]
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        self.role = iam.create_role(RoleName="mover", AssumeRolePolicyDocument=document)["Role"]["Arn"]
        iam.put_role_policy(RoleName="mover", PolicyName="all", PolicyDocument=json.dumps(EVERYTHING))
        made |= {"aws_access_key_id": self.key["AccessKeyId"], "aws_secret_access_key": self.key["SecretAccessKey"]}
        self.s3 = boto3.client("s3", config=PATHS, **made)
        for bucket in ("src", "dst"):
            self.s3.create_bucket(Bucket=bucket)

    def put(self, bucket: str, objects: dict[str, bytes], **how: Any) -> None:
        for key, body in objects.items():
            self.s3.put_object(Bucket=bucket, Key=key, Body=body, **how)

    def connection(self, **extra: Any) -> str:
        services = {name: {"endpoint_url": self.url} for name in ("s3", "sts")}
        described = {
            "conn_type": "aws",
            "login": self.key["AccessKeyId"],
            "password": self.key["SecretAccessKey"],
            "extra": {
                "region_name": REGION,
                "service_config": services,
                "config_kwargs": {"s3": {"addressing_style": "path"}},
                **extra,
            },
        }
        return json.dumps(described)

    def keys(self, bucket: str) -> list[str]:
        return [found["Key"] for found in self.s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def policies() -> list[str]:
    """The session policies of all roles that were assumed."""
    return [assumed.policy for assumed in sts_backends[ACCOUNT]["aws"].assumed_roles]


@contextlib.contextmanager
def moto_aws() -> Iterator[Aws]:
    """A server of one's own, with the buckets ``src`` and ``dst``."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        # moto keeps what there is in the process, for all of its servers that come and go there.
        httpx.post(f"{url}/moto-api/reset", trust_env=False).raise_for_status()
        yield Aws(url)
    finally:
        server.stop()


@contextlib.contextmanager
def sessions_are_bounded() -> Iterator[list[str]]:
    """As AWS: what a session may do is bounded by its policy, and HEAD of a bucket is ListBucket.

    Yields what was refused, as it happens.
    """
    refused: list[str] = []
    refuse = S3IAMRequest._raise_access_denied

    def noted(self: S3IAMRequest) -> None:
        refused.append(f"{self._action} {self._data}")
        refuse(self)

    def session_policy(self: AssumedRoleAccessKey) -> list[str]:
        roles = sts_backends[self.account_id]["aws"].assumed_roles
        (policy,) = (role.policy for role in roles if role.access_key_id == self._access_key_id)
        return [policy or json.dumps(EVERYTHING)]

    with pytest.MonkeyPatch.context() as patch, enable_iam_authentication():
        patch.setattr(AssumedRoleAccessKey, "collect_policies", session_policy)
        patch.setattr(IAMRequestBase, "check_signature", lambda _self: None)
        patch.setitem(ACTION_MAP["BUCKET"]["HEAD"], "DEFAULT", "ListBucket")
        patch.setattr(S3IAMRequest, "_raise_access_denied", noted)
        yield refused
