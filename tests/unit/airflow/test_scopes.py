"""What narrowed credentials allow: the documents in full, and that no key beyond a prefix is within them."""

from __future__ import annotations

import fnmatch
import json
from typing import Any

import pytest
from hypothesis import given, strategies

from airflow_provider_skyplane.hooks.scopes import (
    MAX_POLICY_CHARACTERS,
    Scope,
    azure_permissions,
    gcs_boundary,
    s3_policy,
    scope_of,
)
from skyplane_core.uri import parse
from tests.servers.iam_policy import as_iam_reads

KMS = {"StringLike": {"kms:ViaService": ["s3.*.amazonaws.com", "s3.*.amazonaws.com.cn"]}}
READS = ["s3:GetObject", "s3:GetObjectTagging", "s3:GetObjectVersion", "s3:GetObjectVersionTagging"]
WRITES = [
    "s3:AbortMultipartUpload",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:ListMultipartUploadParts",
    "s3:PutObject",
    "s3:PutObjectAcl",
    "s3:PutObjectTagging",
]
keys = strategies.text(strategies.characters(min_codepoint=32, max_codepoint=126), max_size=40)


def test_the_policy_of_a_source() -> None:
    assert json.loads(s3_policy(Scope("src", "data/")) or "") == {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ["s3:GetBucketLocation", "s3:ListBucket"], "Resource": "arn:aws:s3:::src"},
            {"Effect": "Allow", "Action": READS, "Resource": "arn:aws:s3:::src/data/*"},
            {"Effect": "Allow", "Action": ["kms:Decrypt"], "Resource": "*", "Condition": KMS},
        ],
    }


def test_a_source_whose_objects_are_moved_may_be_deleted_from_and_not_written_to() -> None:
    plain, moved = (json.loads(s3_policy(Scope("src", "data/", moves=moves)) or "") for moves in (False, True))
    gained = {*moved["Statement"][1]["Action"]} - {*plain["Statement"][1]["Action"]}
    assert gained == {"s3:DeleteObject", "s3:DeleteObjectVersion"}
    assert moved["Statement"][1]["Resource"] == "arn:aws:s3:::src/data/*"
    assert [moved["Statement"][0], moved["Statement"][2]] == [plain["Statement"][0], plain["Statement"][2]]
    ((_, roles),) = gcs_boundary(Scope("src", moves=True))
    assert roles == ["inRole:roles/storage.objectUser"]
    assert azure_permissions(Scope("a/c", moves=True)) == "rdl"


def test_the_policy_of_a_destination() -> None:
    assert json.loads(s3_policy(Scope("dst", "in/", writes=True, copies_from="src"), "aws-cn") or "") == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"],
                "Resource": "arn:aws-cn:s3:::dst",
            },
            {"Effect": "Allow", "Action": [*READS, *WRITES], "Resource": "arn:aws-cn:s3:::dst/in/*"},
            {"Effect": "Allow", "Action": READS, "Resource": "arn:aws-cn:s3:::src/*"},
            {"Effect": "Allow", "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": "*", "Condition": KMS},
        ],
    }


def test_a_google_boundary() -> None:
    src, dst = ("//storage.googleapis.com/projects/_/buckets/" + name for name in ("src", "dst"))
    assert gcs_boundary(Scope("src", "data/")) == [(src, ["inRole:roles/storage.objectViewer"])]
    assert gcs_boundary(Scope("dst", writes=True, copies_from="src")) == [
        (dst, ["inRole:roles/storage.objectAdmin"]),
        (src, ["inRole:roles/storage.objectViewer"]),
    ]
    assert len(gcs_boundary(Scope("dst", writes=True, copies_from="dst"))) == 1


def test_the_permissions_of_a_container() -> None:
    assert azure_permissions(Scope("a/c")) == "rl"
    assert azure_permissions(Scope("a/c", writes=True)) == "rcwdl"


@pytest.mark.parametrize("name", ["arn:aws:s3:us-east-1:1:accesspoint/p", "p-s3alias", "b--use1-az4--x-s3", "o--ol-s3"])
def test_what_goes_by_another_name_is_left_alone(name: str) -> None:
    assert s3_policy(Scope(name)) is None
    assert s3_policy(Scope("dst", writes=True, copies_from=name)) is None


@given(prefix=keys, rest=keys, other=keys)
def test_what_begins_with_the_prefix_is_allowed_and_nothing_else(prefix: str, rest: str, other: str) -> None:
    document = json.loads(s3_policy(Scope("b", prefix)) or "")
    (pattern,) = (s["Resource"] for s in document["Statement"] if s["Action"] == READS)
    allowed = as_iam_reads(pattern)
    assert allowed.fullmatch(f"arn:aws:s3:::b/{prefix}{rest}")
    assert bool(allowed.fullmatch(f"arn:aws:s3:::b/{other}")) == other.startswith(prefix)
    assert not allowed.fullmatch(f"arn:aws:s3:::bb/{prefix}")


def test_a_prefix_that_iam_cannot_read_is_left_out() -> None:
    for prefix in ("données/", "a\x00", "データ"):
        assert s3_policy(Scope("b", prefix)) == s3_policy(Scope("b"))


@given(strategies.text(max_size=1024), strategies.booleans())
def test_it_is_never_longer_than_aws_takes(prefix: str, writes: bool) -> None:
    policy = s3_policy(Scope("b" * 63, prefix, writes=writes, copies_from="c" * 63 if writes else ""))
    assert policy is not None
    assert len(policy) <= MAX_POLICY_CHARACTERS
    allowed = [action for statement in json.loads(policy)["Statement"] for action in statement["Action"]]
    changing = {action for action in allowed if not fnmatch.fnmatch(action, "*:[GL][ei][ts]*")} - {"kms:Decrypt"}
    assert bool(changing) == writes


ENDS = [
    ("s3://b/data/x", {}, Scope("b", "data/x")),
    ("s3://b/data/x", {"moved": True}, Scope("b", "data/x", moves=True)),
    ("s3://b/in", {"written": True, "directory": True}, Scope("b", "in/", writes=True)),
    ("s3://b", {"written": True, "directory": True}, Scope("b", "", writes=True)),
    ("s3://b/in/one", {"written": True}, Scope("b", "in/", writes=True)),
    ("s3://b/one", {"written": True}, Scope("b", "", writes=True)),
    ("s3://b/in/", {"written": True, "copies_from": "s3://a/x"}, Scope("b", "in/", writes=True, copies_from="a")),
    ("gs://b/in/", {"written": True, "copies_from": "gs://a/x"}, Scope("b", "in/", writes=True, copies_from="a")),
    ("gs://b/in/", {"written": True, "copies_from": "s3://a/x"}, Scope("b", "in/", writes=True)),
    ("r2://b/in/", {"written": True, "copies_from": "s3://a/x"}, Scope("b", "in/", writes=True)),
    ("az://acc/con/in/", {"written": True}, Scope("acc/con", "in/", writes=True)),
]


@pytest.mark.parametrize(("uri", "how", "scope"), ENDS, ids=str)
def test_an_end_of_a_transfer_has_the_scope(uri: str, how: dict[str, Any], scope: Scope) -> None:
    assert scope_of(parse(uri), **how) == scope
