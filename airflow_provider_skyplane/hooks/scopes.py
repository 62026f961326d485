"""What credentials have to allow for one end of a transfer, as each cloud's own document. Pure.

Read at the source (and delete, where objects are moved), write at the destination, and nothing of any other bucket.
``tests/unit/airflow/test_scopes.py`` has the documents in full.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from skyplane_core.selection import tree_root
from skyplane_core.uri import Endpoint, parse

MAX_POLICY_CHARACTERS = 2048
"""The most that AWS takes as a session policy."""

_S3_BUCKET = ("s3:GetBucketLocation", "s3:ListBucket")
_S3_BUCKET_WRITES = ("s3:ListBucketMultipartUploads",)
_S3_READS = ("s3:GetObject", "s3:GetObjectTagging", "s3:GetObjectVersion", "s3:GetObjectVersionTagging")
_S3_DELETES = ("s3:DeleteObject", "s3:DeleteObjectVersion")
_S3_WRITES = (
    "s3:AbortMultipartUpload",
    *_S3_DELETES,
    "s3:ListMultipartUploadParts",
    "s3:PutObject",
    "s3:PutObjectAcl",
    "s3:PutObjectTagging",
)
# Keys of KMS may be of any account, and whoever made them says who may use them: so they are bound by way of S3 alone.
_THROUGH_S3 = {"StringLike": {"kms:ViaService": ["s3.*.amazonaws.com", "s3.*.amazonaws.com.cn"]}}
_S3_OTHER = ("-s3alias", "--ol-s3", "--x-s3")
"""How names end that are no general purpose bucket's, and that other ARNs stand for."""
_GCS_READER, _GCS_WRITER = "inRole:roles/storage.objectViewer", "inRole:roles/storage.objectAdmin"
_GCS_MOVER = "inRole:roles/storage.objectUser"
"""Google has no role that reads and deletes, and does not write."""
_AZURE_READS, _AZURE_MOVES, _AZURE_WRITES = "rl", "rdl", "rcwdl"


@dataclasses.dataclass(frozen=True)
class Scope:
    """What one end of a transfer is.

    Args:
        bucket: as in a store's configuration: for Azure, account and container.
        prefix: all its keys begin with this. GCS and Azure are bound to the bucket.
        writes: it is a destination.
        moves: it is a source whose objects are deleted once they have arrived.
        copies_from: a bucket of the same service whose objects the store may copy by itself; empty for none.
    """

    bucket: str
    prefix: str = ""
    writes: bool = False
    moves: bool = False
    copies_from: str = ""


def scope_of(
    endpoint: Endpoint, *, directory: bool = False, written: bool = False, moved: bool = False, copies_from: str = ""
) -> Scope:
    """The scope of one end of a transfer.

    Args:
        endpoint: what its URI says.
        directory: a destination's key is a prefix, whether or not it ends in ``/``.
        moved: a source's objects are deleted once they have arrived.
        copies_from: URI of the source, or empty.
    """
    key = endpoint.key
    if not written:
        return Scope(endpoint.bucket, key, moves=moved)
    source = parse(copies_from) if copies_from else None
    within = source is not None and (source.kind, source.service) == (endpoint.kind, endpoint.service)
    return Scope(
        endpoint.bucket,
        tree_root(key) if directory else beside(key),
        writes=True,
        copies_from=source.bucket if source is not None and within else "",
    )


def beside(key: str) -> str:
    """The prefix of a destination that is one object: what is kept of a run lies beside it."""
    return key[: key.rfind("/") + 1]


def s3_policy(scope: Scope, partition: str = "aws") -> str | None:
    """A session policy as JSON; None for what goes by another name than its bucket's (access points and the like).

    A prefix that AWS does not take in a policy, or that makes it too long, is left out of it.

    Args:
        partition: of the ARNs: ``aws``, ``aws-cn`` or ``aws-us-gov``.
    """
    buckets = (scope.bucket, scope.copies_from)
    if any(bucket.startswith("arn:") or bucket.endswith(_S3_OTHER) for bucket in buckets):
        return None
    for prefix in (scope.prefix if scope.prefix.isascii() and scope.prefix.isprintable() else "", ""):
        text = json.dumps(_s3_document(scope, prefix, partition), separators=(",", ":"))
        if len(text) <= MAX_POLICY_CHARACTERS:
            return text
    return None


def _s3_document(scope: Scope, prefix: str, partition: str) -> dict[str, Any]:
    arn, reads = f"arn:{partition}:s3:::", list(_S3_READS)
    # Without the right to list the whole bucket, S3 answers 403 instead of 404 to a key that is not there.
    bucket = [*_S3_BUCKET, *(_S3_BUCKET_WRITES if scope.writes else ())]
    objects = [*reads, *(_S3_WRITES if scope.writes else _S3_DELETES if scope.moves else ())]
    statements = [
        _allow(bucket, f"{arn}{scope.bucket}"),
        _allow(objects, f"{arn}{scope.bucket}/{_literal(prefix)}*"),
    ]
    if scope.copies_from:
        statements.append(_allow(reads, f"{arn}{scope.copies_from}/*"))
    keys = ["kms:Decrypt", *(["kms:GenerateDataKey"] if scope.writes else [])]
    return {"Version": "2012-10-17", "Statement": [*statements, {**_allow(keys, "*"), "Condition": _THROUGH_S3}]}


def _allow(actions: list[str], resource: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resource}


def _literal(prefix: str) -> str:
    """A key's beginning as IAM reads it: wildcards and ``$`` stand for themselves."""
    return "".join(f"${{{character}}}" if character in "*?$" else character for character in prefix)


def gcs_boundary(scope: Scope) -> list[tuple[str, list[str]]]:
    """The rules of a Credential Access Boundary: resources, and what may be done there.

    A bucket as a whole: conditions on names would not cover uploads in parts, nor listings without a prefix.
    """
    role = _GCS_WRITER if scope.writes else _GCS_MOVER if scope.moves else _GCS_READER
    rules = [(_gcs_resource(scope.bucket), [role])]
    if scope.copies_from and scope.copies_from != scope.bucket:
        rules.append((_gcs_resource(scope.copies_from), [_GCS_READER]))
    return rules


def _gcs_resource(bucket: str) -> str:
    return f"//storage.googleapis.com/projects/_/buckets/{bucket}"


def azure_permissions(scope: Scope) -> str:
    """The permissions of a shared access signature for the container: read, create, write, delete, list."""
    return _AZURE_WRITES if scope.writes else _AZURE_MOVES if scope.moves else _AZURE_READS
