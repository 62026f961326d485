"""An S3 server that copies by itself, and holds sessions of moto's STS to their policies."""

# test code is never parsed as a DAG
from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator

import pytest
from moto.sts.models import sts_backends

from skyplane_core.testing.objectserver import ObjectServer
from skyplane_core.testing.objectserver.messages import ApiError, Call, Request, unquote
from skyplane_core.testing.objectserver.s3.protocol import S3Protocol
from tests.servers.bounded_aws import ACCOUNT
from tests.servers.iam_policy import allows

_ON_BUCKET = {
    "HeadBucket": "s3:ListBucket",
    "ListObjects": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
}
_ON_OBJECT = {
    "HeadObject": "s3:GetObject",
    "GetObject": "s3:GetObject",
    "GetObjectTagging": "s3:GetObjectTagging",
    "PutObject": "s3:PutObject",
    "CopyObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "UploadPartCopy": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "ListParts": "s3:ListMultipartUploadParts",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObject": "s3:DeleteObject",
}
_OF_VERSION = {
    "s3:GetObject": "s3:GetObjectVersion",
    "s3:GetObjectTagging": "s3:GetObjectVersionTagging",
    "s3:DeleteObject": "s3:DeleteObjectVersion",
}
_BY_HEADER = {"x-amz-acl": "s3:PutObjectAcl", "x-amz-tagging": "s3:PutObjectTagging"}


@dataclasses.dataclass
class BoundedS3:
    """``operations`` are those that were let pass, ``refused`` what a session is not good for."""

    server: ObjectServer
    operations: list[str] = dataclasses.field(default_factory=list)
    refused: list[str] = dataclasses.field(default_factory=list)

    def check(self, request: Request, call: Call) -> None:
        """Let a request pass that its session is good for."""
        policy = _policy(request)
        for action, resource in _needed(request, call):
            if not allows(policy, action, resource):
                self.refused.append(f"{action} on {resource}")
                raise ApiError(403, "AccessDenied", self.refused[-1])
        self.operations.append(call.operation)


@contextlib.contextmanager
def bounded_s3(*buckets: str) -> Iterator[BoundedS3]:
    """A server with these buckets, which keep versions."""
    with ObjectServer("s3", buckets=buckets, versioning=True) as server, pytest.MonkeyPatch.context() as patch:
        made, checks = BoundedS3(server), S3Protocol.authenticate

        def authenticate(protocol: S3Protocol, request: Request, call: Call) -> None:
            made.check(request, call)
            checks(protocol, request, call)

        patch.setattr(S3Protocol, "authenticate", authenticate)
        yield made


def _policy(request: Request) -> str:
    signed = re.search(r"Credential=(\w+)/", request.headers.get("authorization", ""))
    key = signed[1] if signed else request.query["X-Amz-Credential"].partition("/")[0]
    (policy,) = (role.policy for role in sts_backends[ACCOUNT]["aws"].assumed_roles if role.access_key_id == key)
    return str(policy)


def _needed(request: Request, call: Call) -> Iterator[tuple[str, str]]:
    arn = f"arn:aws:s3:::{call.bucket}"
    if call.operation in _ON_BUCKET:
        yield _ON_BUCKET[call.operation], arn
        return
    action = _ON_OBJECT[call.operation]
    yield (_OF_VERSION[action] if "versionId" in request.query else action), f"{arn}/{call.key}"
    for header, also in _BY_HEADER.items():
        if header in request.headers:
            yield also, f"{arn}/{call.key}"
    if source := request.headers.get("x-amz-copy-source"):
        name, _, version = unquote(source).partition("?versionId=")
        yield ("s3:GetObjectVersion" if version else "s3:GetObject"), f"arn:aws:s3:::{name.lstrip('/')}"
