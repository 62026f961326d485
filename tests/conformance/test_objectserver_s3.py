"""The object server's S3 side, vouched for by boto3: objects, listings, versions, and who may."""

# ruff: noqa: S310, TID253 - the SDKs are what is used here, and every URL is our own.
from __future__ import annotations

import hashlib
import time
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.exceptions import ClientError

from skyplane_core.testing.objectserver import ObjectServer
from tests.conformance.s3_client import MIB, client, client_of_an_empty_bucket, code

AWKWARD_KEYS = [
    "plain",
    "a b",
    "ü/é/日本語",
    "100%/50%25",
    "a+b",
    "a//b",
    "/leading",
    "trailing/",
    "q?x=1&y=2#z",
    "~-_.!*'();:@&=$,",
    "é" * 512,
    "\U0001f600",
    ".",
    "..",
    "a/../b",
    "<xml>&amp;",
    "tab\tand\rcr",
]


@pytest.fixture(scope="module")
def shared():
    with ObjectServer("s3", buckets=["b"], credentials={"AK": "SK"}) as server:
        yield server


@pytest.fixture
def s3(shared):
    return client_of_an_empty_bucket(shared)


def test_bytes_and_attributes_come_back(s3, shared):
    put = s3.put_object(
        Bucket="b", Key="k", Body=b"hello", ContentType="text/x", CacheControl="no-cache", Metadata={"m": "1"}
    )
    got = s3.get_object(Bucket="b", Key="k")
    assert got["Body"].read() == b"hello" == shared.get("b", "k")
    assert (got["ContentType"], got["CacheControl"], got["Metadata"]) == ("text/x", "no-cache", {"m": "1"})
    assert got["ETag"] == put["ETag"] != f'"{hashlib.md5(b"hello").hexdigest()}"'
    assert got["ContentLength"] == 5


def test_keys_are_byte_exact(s3, shared):
    for key in AWKWARD_KEYS:
        s3.put_object(Bucket="b", Key=key, Body=key.encode())
    assert shared.list("b") == sorted(AWKWARD_KEYS, key=str.encode)
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="b", PaginationConfig={"PageSize": 3})
    assert [entry["Key"] for page in pages for entry in page["Contents"]] == sorted(AWKWARD_KEYS, key=str.encode)
    for key in AWKWARD_KEYS:
        assert s3.get_object(Bucket="b", Key=key)["Body"].read() == key.encode()
    deleted = s3.delete_objects(Bucket="b", Delete={"Objects": [{"Key": key} for key in AWKWARD_KEYS]})
    assert [entry["Key"] for entry in deleted["Deleted"]] == AWKWARD_KEYS
    assert shared.list("b") == []


def test_a_key_of_more_than_1024_bytes_is_refused(s3):
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket="b", Key="k" * 1025, Body=b"")
    assert code(error) == ("KeyTooLongError", 400)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=2-4", (2, 5)),
        ("bytes=7-", (7, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=0-99", (0, 10)),
        ("bytes=-99", (0, 10)),
    ],
)
def test_ranges(s3, shared, header, expected):
    shared.put("b", "k", b"0123456789")
    got = s3.get_object(Bucket="b", Key="k", Range=header)
    start, end = expected
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["ContentRange"] == f"bytes {start}-{end - 1}/10"
    assert got["Body"].read() == b"0123456789"[start:end]


def test_a_range_beyond_the_end_is_416(s3, shared):
    shared.put("b", "k", b"0123456789")
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket="b", Key="k", Range="bytes=10-")
    assert code(error) == ("InvalidRange", 416)


def test_conditional_reads(s3, shared):
    etag = shared.put("b", "k", b"x")["etag"]
    s3.get_object(Bucket="b", Key="k", IfMatch=f'"{etag}"')
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket="b", Key="k", IfMatch='"other"')
    assert code(error) == ("PreconditionFailed", 412)
    with pytest.raises(ClientError) as error:
        s3.head_object(Bucket="b", Key="k", IfNoneMatch=f'"{etag}"')
    assert code(error)[1] == 304


def test_conditional_writes(s3, shared):
    put = s3.put_object(Bucket="b", Key="k", Body=b"1", IfNoneMatch="*")
    for condition in ({"IfNoneMatch": "*"}, {"IfMatch": '"other"'}):
        with pytest.raises(ClientError) as error:
            s3.put_object(Bucket="b", Key="k", Body=b"2", **condition)
        assert code(error) == ("PreconditionFailed", 412)
    assert shared.get("b", "k") == b"1"
    s3.put_object(Bucket="b", Key="k", Body=b"3", IfMatch=put["ETag"])
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket="b", Key="absent", Body=b"4", IfMatch=put["ETag"])
    assert code(error) == ("NoSuchKey", 404)


def test_class_encryption_and_tags_come_back_as_s3_gives_them(s3, shared):
    placed = {"StorageClass": "STANDARD_IA", "ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key/1"}
    s3.put_object(Bucket="b", Key="put", Body=b"1", Tagging="a=1&b%20c=%C3%BC", **placed)
    upload = s3.create_multipart_upload(Bucket="b", Key="striped", Tagging="a=1&b%20c=%C3%BC", **placed)["UploadId"]
    named = {"Bucket": "b", "Key": "striped", "UploadId": upload}
    part = s3.upload_part(**named, PartNumber=1, Body=b"1")
    s3.complete_multipart_upload(**named, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    for key in ("put", "striped"):
        got = s3.get_object(Bucket="b", Key=key)
        assert placed.items() <= got.items()
        assert got["ResponseMetadata"]["HTTPHeaders"]["x-amz-tagging-count"] == "2"
        assert s3.get_object_tagging(Bucket="b", Key=key)["TagSet"] == [
            {"Key": "a", "Value": "1"},
            {"Key": "b c", "Value": "ü"},
        ]
    s3.put_object(Bucket="b", Key="plain", Body=b"1", StorageClass="STANDARD")
    assert "StorageClass" not in s3.head_object(Bucket="b", Key="plain")
    assert s3.get_object_tagging(Bucket="b", Key="plain")["TagSet"] == []


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"StorageClass": "COLD"}, "InvalidStorageClass"),
        ({"ServerSideEncryption": "rot13"}, "InvalidArgument"),
        ({"ServerSideEncryption": "AES256", "SSEKMSKeyId": "k"}, "InvalidArgument"),
        ({"Tagging": "&".join(f"t{number}=1" for number in range(11))}, "BadRequest"),
        ({"Tagging": "a=1&a=2"}, "InvalidTag"),
    ],
)
def test_a_placement_that_s3_does_not_know_is_refused(s3, shared, wrong, expected):
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket="b", Key="k", Body=b"1", **wrong)
    assert code(error) == (expected, 400)


def test_an_archived_object_is_looked_at_and_not_read(s3, shared):
    s3.put_object(Bucket="b", Key="cold", Body=b"1", StorageClass="GLACIER")
    assert s3.head_object(Bucket="b", Key="cold")["StorageClass"] == "GLACIER"
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket="b", Key="cold")
    assert code(error) == ("InvalidObjectState", 403)


def test_what_is_not_there_has_its_own_name(s3):
    calls = [
        (lambda: s3.get_object(Bucket="b", Key="absent"), ("NoSuchKey", 404)),
        (lambda: s3.get_object(Bucket="absent", Key="k"), ("NoSuchBucket", 404)),
        (lambda: s3.list_objects_v2(Bucket="absent"), ("NoSuchBucket", 404)),
        (lambda: s3.head_bucket(Bucket="absent"), ("404", 404)),
        (lambda: s3.abort_multipart_upload(Bucket="b", Key="k", UploadId="absent"), ("NoSuchUpload", 404)),
        (lambda: s3.create_bucket(Bucket="b"), ("BucketAlreadyOwnedByYou", 409)),
        (lambda: s3.get_object_tagging(Bucket="b", Key="absent"), ("NoSuchKey", 404)),
        (lambda: s3.delete_object_tagging(Bucket="b", Key="k"), ("NotImplemented", 501)),
    ]
    for call, expected in calls:
        with pytest.raises(ClientError) as error:
            call()
        assert code(error) == expected


def test_listing_with_delimiter_and_pages(s3, shared):
    keys = ["a", "a/1", "a/2", "b/c/d", "b/e", "c", "ü"]
    for key in keys:
        shared.put("b", key, b"")
    for size in (1, 2, 3, 1000):
        found, prefixes = [], []
        for page in s3.get_paginator("list_objects_v2").paginate(
            Bucket="b", Delimiter="/", PaginationConfig={"PageSize": size}
        ):
            found += [entry["Key"] for entry in page.get("Contents", [])]
            prefixes += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        assert (found, prefixes) == (["a", "c", "ü"], ["a/", "b/"])
    one = s3.list_objects_v2(Bucket="b", Prefix="b/", Delimiter="/")
    assert [entry["Prefix"] for entry in one["CommonPrefixes"]] == ["b/c/"]
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="b", StartAfter="b/e")["Contents"]] == ["c", "ü"]
    first = s3.list_objects(Bucket="b", MaxKeys=2)
    assert [
        entry["Key"] for entry in s3.list_objects(Bucket="b", Marker=first["Contents"][-1]["Key"])["Contents"]
    ] == keys[2:]


def test_copy(s3, shared):
    shared.put("b", "from é", b"0123456789" * MIB, metadata={"m": "1"})
    s3.copy_object(Bucket="b", Key="to", CopySource={"Bucket": "b", "Key": "from é"})
    assert shared.head("b", "to")["metadata"] == {"m": "1"}
    upload = s3.create_multipart_upload(Bucket="b", Key="parts")["UploadId"]
    place = {"Bucket": "b", "Key": "parts", "UploadId": upload}
    copied = s3.upload_part_copy(
        **place, PartNumber=1, CopySource={"Bucket": "b", "Key": "to"}, CopySourceRange="bytes=3-6"
    )
    s3.complete_multipart_upload(
        **place,
        MultipartUpload={
            "Parts": [
                {
                    "PartNumber": 1,
                    "ETag": copied["CopyPartResult"]["ETag"],
                    "ChecksumCRC32": copied["CopyPartResult"].get("ChecksumCRC32", ""),
                }
            ]
        },
    )
    assert shared.get("b", "parts") == b"3456"


def test_versions():
    with ObjectServer("s3", buckets=["b"], versioning=True) as server:
        s3 = client(server)
        assert s3.get_bucket_versioning(Bucket="b")["Status"] == "Enabled"
        old = s3.put_object(Bucket="b", Key="k", Body=b"old")["VersionId"]
        new = s3.put_object(Bucket="b", Key="k", Body=b"new")["VersionId"]
        assert s3.get_object(Bucket="b", Key="k", VersionId=old)["Body"].read() == b"old"
        marker = s3.delete_object(Bucket="b", Key="k")
        assert marker["DeleteMarker"]
        with pytest.raises(ClientError) as error:
            s3.get_object(Bucket="b", Key="k")
        assert code(error) == ("NoSuchKey", 404)
        listed = s3.list_object_versions(Bucket="b")
        assert [entry["VersionId"] for entry in listed["Versions"]] == [new, old]
        assert [entry["IsLatest"] for entry in listed["DeleteMarkers"]] == [True]
        s3.delete_object(Bucket="b", Key="k", VersionId=marker["VersionId"])
        assert s3.get_object(Bucket="b", Key="k")["Body"].read() == b"new"
        s3.delete_object(Bucket="b", Key="k", VersionId=new)
        assert server.get("b", "k") == b"old"


@pytest.mark.parametrize(
    ("access", "secret", "expected"),
    [("AK", "wrong", "SignatureDoesNotMatch"), ("other", "SK", "InvalidAccessKeyId")],
)
def test_wrong_credentials_are_refused(shared, access, secret, expected):
    with pytest.raises(ClientError) as error:
        client(shared, access, secret).put_object(Bucket="b", Key="k", Body=b"x")
    assert code(error) == (expected, 403)
    assert shared.list("b") == [] or "k" not in shared.list("b")


def test_session_tokens():
    with ObjectServer("s3", buckets=["b"], credentials={"AK": ("SK", "token")}) as server:

        def with_token(token):
            return boto3.client(
                "s3",
                endpoint_url=server.endpoint_url,
                aws_access_key_id="AK",
                aws_secret_access_key="SK",
                aws_session_token=token,
                region_name="us-east-1",
            )

        with_token("token").list_objects_v2(Bucket="b")
        with pytest.raises(ClientError) as error:
            with_token("other").list_objects_v2(Bucket="b")
        assert code(error) == ("InvalidToken", 400)


def fetch(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as response:
        return response.status, response.read()


def test_presigned_urls(s3, shared):
    shared.put("b", "a b/ü", b"0123456789")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "a b/ü"}, ExpiresIn=60)
    assert fetch(url) == (200, b"0123456789")
    assert fetch(url, Range="bytes=1-2") == (206, b"12")
    for bad in (
        url[:-1] + ("0" if url[-1] != "0" else "1"),
        url.replace("a%20b", "a%20c"),
        shared.endpoint_url + "/b/k",
    ):
        with pytest.raises(urllib.error.HTTPError) as error:
            fetch(bad)
        assert error.value.code == 403
        error.value.close()
    expired = s3.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "a b/ü"}, ExpiresIn=1)
    time.sleep(2.1)
    with pytest.raises(urllib.error.HTTPError) as error:
        fetch(expired)
    assert error.value.code == 403
    assert b"expired" in error.value.read()
    error.value.close()
