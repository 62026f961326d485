"""The installed stock operator and ours, over one grid of arguments, against the same server.

Each case has its own destination bucket for either operator. Compared: names, bodies, headers, metadata, tags, storage
classes, encryption and access control lists, what is returned, what is raised (type and text).
"""

# ruff: noqa: TID253  # this compares with the installed stock operator
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from airflow.providers.amazon.aws.operators.s3 import S3CopyObjectOperator

from airflow_provider_skyplane.transfers.s3_copy_object import SkyplaneS3CopyObjectOperator
from tests.integration.airflow.differential import run, seen_in_s3, world_of
from tests.servers.airflow_clouds import Clouds

FROM = {"source_bucket_key": "s3://src/a/x y+ü"}
PAIR = {"source_bucket_name": "src", "source_bucket_key": "a/x y+ü", "dest_bucket_name": "{dst}"}
TO = {**FROM, "dest_bucket_key": "s3://{dst}/b/y"}
GRID: dict[str, dict[str, Any]] = {
    "urls": TO,
    "pairs": {**PAIR, "dest_bucket_key": "b/y"},
    "pair-to-url": {**FROM, "dest_bucket_name": "{dst}", "dest_bucket_key": "b/y"},
    "https": {**FROM, "dest_bucket_key": "https://{dst}.s3.us-east-1.amazonaws.com/b/y"},
    "to-a-slash": {**PAIR, "dest_bucket_key": "b/"},
    "leading-slash": {**PAIR, "dest_bucket_key": "/b"},
    "copy": {**TO, "meta_data_directive": "COPY"},
    "replace": {**TO, "meta_data_directive": "REPLACE"},
    "acl": {**TO, "acl_policy": "public-read"},
    "no-acl": {**TO, "acl_policy": "no-acl"},
    "kms": {**TO, "kms_key_id": "key", "kms_encryption_type": "aws:kms"},
    "kms-dsse": {**TO, "kms_key_id": "key", "kms_encryption_type": "aws:kms:dsse"},
    "arguments-of-the-base": {**TO, "region_name": "us-east-1", "verify": False, "botocore_config": {}},
    "empty": {"source_bucket_key": "s3://src/empty", "dest_bucket_key": "s3://{dst}/e"},
    "large": {"source_bucket_key": "s3://src/large", "dest_bucket_key": "s3://{dst}/l"},
    "version": {**TO, "source_version_id": "{version}"},
    "version-is-current": {**TO, "source_version_id": "{current}"},
    "kms-key-alone": {**TO, "kms_key_id": "key"},
    "kms-type-alone": {**TO, "kms_encryption_type": "aws:kms"},
    "url-and-bucket": {**TO, "dest_bucket_name": "{dst}"},
    "no-bucket": {**TO, "source_bucket_key": "a/x"},
    "other-scheme": {**TO, "dest_bucket_key": "gs://{dst}/b"},
    "unknown": {**TO, "no_such_argument": 1},
}
KEPT = {"ContentType": "text/x-source", "CacheControl": "no-store", "Metadata": {"owner": "me"}, "Tagging": "t=1"}


@pytest.fixture(scope="module")
def world() -> Iterator[Clouds]:
    destinations = [f"{who}-{name}" for name in [*GRID, "missing", "itself"] for who in ("stock", "ours")]
    with world_of(["src", *destinations], [], versioning=True) as found:
        yield found


@pytest.fixture(scope="module")
def versions(world: Clouds) -> dict[str, str]:
    client = world.s3()
    old = client.put_object(Bucket="src", Key="a/x y+ü", Body=b"old", ContentType="text/old", Tagging="old=1")
    new = client.put_object(Bucket="src", Key="a/x y+ü", Body=b"new one", **KEPT)
    client.put_object(Bucket="src", Key="empty", Body=b"", **KEPT)
    client.put_object(Bucket="src", Key="large", Body=bytes(20 * 1024 * 1024), ChecksumAlgorithm="CRC32C", **KEPT)
    return {"{version}": old["VersionId"], "{current}": new["VersionId"]}


@pytest.mark.parametrize("case", GRID)
def test_ours_does_what_the_stock_operator_does(world: Clouds, versions: dict[str, str], case: str) -> None:
    arguments = dict(GRID[case])
    if "source_version_id" in arguments:
        arguments["source_version_id"] = versions[arguments["source_version_id"]]
    stock, ours = f"stock-{case}", f"ours-{case}"
    assert run(SkyplaneS3CopyObjectOperator, arguments, ours) == run(S3CopyObjectOperator, arguments, stock)
    assert seen_in_s3(world, ours) == seen_in_s3(world, stock)


def test_a_source_that_is_not_there_fails_and_is_named(world: Clouds, versions: dict[str, str]) -> None:
    arguments = {"source_bucket_key": "s3://src/none", "dest_bucket_key": "s3://ours-missing/x"}
    stock, ours = (run(cls, arguments) for cls in (S3CopyObjectOperator, SkyplaneS3CopyObjectOperator))
    assert (stock.raised or (None,))[0].__name__ == "NoSuchKey"  # type: ignore[union-attr]
    assert (ours.raised or (None,))[0].__name__ == "AirflowException"  # type: ignore[union-attr]
    assert "s3://src/none" in str(ours.raised)
    assert seen_in_s3(world, "ours-missing") == {}


def test_an_object_gets_other_metadata_in_place(world: Clouds) -> None:
    client = world.s3()
    for bucket, cls in (("stock-itself", S3CopyObjectOperator), ("ours-itself", SkyplaneS3CopyObjectOperator)):
        client.put_object(Bucket=bucket, Key="x", Body=b"x", **KEPT)
        url = f"s3://{bucket}/x"
        did = run(cls, {"source_bucket_key": url, "dest_bucket_key": url, "meta_data_directive": "REPLACE"})
        assert did.raised is None
    assert seen_in_s3(world, "ours-itself") == seen_in_s3(world, "stock-itself")


def test_the_store_copies_by_itself(world: Clouds, versions: dict[str, str]) -> None:
    before = world.source.requests["CopyObject"]
    summary = run(
        SkyplaneS3CopyObjectOperator,
        {"source_bucket_key": "s3://src/large", "dest_bucket_key": "s3://ours-missing/l", "return_summary": True},
    ).returned
    assert summary["objects_copied"] == 1
    assert summary["bytes_copied"] == 20 * 1024 * 1024
    assert world.source.requests["CopyObject"] == before + 1
    assert list(seen_in_s3(world, "ours-missing")) == ["l"]


def test_what_boto3_has_written_is_copied_by_s3_and_its_tags_are_not_read(
    world: Clouds, versions: dict[str, str]
) -> None:
    client = world.s3()
    assert "ChecksumCRC32" in client.head_object(Bucket="src", Key="a/x y+ü", ChecksumMode="ENABLED")
    before = dict(world.source.requests)
    assert run(SkyplaneS3CopyObjectOperator, {**FROM, "dest_bucket_key": "s3://ours-missing/b"}).raised is None
    asked = {name: world.source.requests[name] - before.get(name, 0) for name in ("CopyObject", "GetObjectTagging")}
    assert asked == {"CopyObject": 1, "GetObjectTagging": 0}
    told = client.get_object_tagging(Bucket="ours-missing", Key="b")["TagSet"]
    assert told == [{"Key": "t", "Value": "1"}]
    client.delete_object(Bucket="ours-missing", Key="b")
