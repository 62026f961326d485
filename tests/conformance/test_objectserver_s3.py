"""The object server's S3 side, vouched for by boto3."""

# ruff: noqa: S310, TID253 - the SDKs are what is used here, and every URL is our own.
from __future__ import annotations

import base64
import hashlib
import io
import os
import time
import urllib.error
import urllib.request

import boto3
import pytest
from awscrt import checksums as crt
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer

MIB = 1 << 20

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


def b64crc32c(data: bytes) -> str:
    return base64.b64encode(crt.crc32c(data).to_bytes(4, "big")).decode()


def code(error) -> tuple[str, int]:
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.fixture(scope="module")
def shared():
    with ObjectServer("s3", buckets=["b"], credentials={"AK": "SK"}) as server:
        yield server


@pytest.fixture
def s3(shared):
    for key in shared.list("b"):
        shared.delete("b", key)
    return client(shared)


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


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_right_checksums_are_attested_and_wrong_ones_refused(s3, shared, algorithm):
    data = b"some bytes"
    s3.put_object(Bucket="b", Key="k", Body=data, ChecksumAlgorithm=algorithm)
    head = s3.head_object(Bucket="b", Key="k", ChecksumMode="ENABLED")
    value = head[f"Checksum{algorithm}"]
    assert head["ChecksumType"] == "FULL_OBJECT"
    if algorithm.startswith("SHA"):
        assert value == base64.b64encode(hashlib.new(algorithm.lower(), data).digest()).decode()
    assert "ChecksumCRC32" not in s3.head_object(Bucket="b", Key="k")
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket="b", Key="k", Body=b"other bytes", **{f"Checksum{algorithm}": value})
    assert code(error) == ("BadDigest", 400)
    assert shared.get("b", "k") == data


def test_content_md5(s3):
    right = base64.b64encode(hashlib.md5(b"x").digest()).decode()
    s3.put_object(Bucket="b", Key="k", Body=b"x", ContentMD5=right)
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket="b", Key="k", Body=b"y", ContentMD5=right)
    assert code(error) == ("BadDigest", 400)
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket="b", Key="k", Body=b"y", ContentMD5="nonsense")
    assert code(error) == ("InvalidDigest", 400)


def test_without_a_checksum_crc64nvme_is_attested_as_s3_does(shared, s3):
    quiet = client(shared, request_checksum_calculation="when_required")
    quiet.put_object(Bucket="b", Key="k", Body=b"123456789")
    head = quiet.head_object(Bucket="b", Key="k", ChecksumMode="ENABLED")
    assert head["ChecksumCRC64NVME"] == base64.b64encode(bytes.fromhex("ae8b14860a799888")).decode()


def test_md5_etags_are_an_option():
    with ObjectServer("s3", buckets=["b"], md5=True) as server:
        s3 = client(server)
        assert s3.put_object(Bucket="b", Key="k", Body=b"x")["ETag"] == f'"{hashlib.md5(b"x").hexdigest()}"'
        upload = s3.create_multipart_upload(Bucket="b", Key="m")["UploadId"]
        part = s3.upload_part(Bucket="b", Key="m", UploadId=upload, PartNumber=1, Body=b"x")
        parts = [{"PartNumber": 1, **{k: v for k, v in part.items() if k == "ETag" or k.startswith("Checksum")}}]
        done = s3.complete_multipart_upload(Bucket="b", Key="m", UploadId=upload, MultipartUpload={"Parts": parts})
        assert done["ETag"] == f'"{hashlib.md5(hashlib.md5(b"x").digest()).hexdigest()}-1"'


def test_managed_transfer_both_ways(s3, shared):
    data = os.urandom(21 * MIB + 7)
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=4)
    s3.upload_fileobj(io.BytesIO(data), "b", "big", Config=config, ExtraArgs={"Metadata": {"a": "b"}})
    assert shared.get("b", "big") == data
    assert shared.head("b", "big")["crc32c"] == crt.crc32c(data)
    assert shared.head("b", "big")["part_sizes"] == [5 * MIB] * 4 + [MIB + 7]
    target = io.BytesIO()
    s3.download_fileobj("b", "big", target, Config=config)
    assert target.getvalue() == data
    part = s3.get_object(Bucket="b", Key="big", PartNumber=5)
    assert part["PartsCount"] == 5
    assert part["Body"].read() == data[20 * MIB :]


class Multipart:
    """Two parts of one upload with CRC32C over the full object."""

    first, last = b"a" * (5 * MIB), b"end"
    whole = first + last

    def __init__(self, s3, key="m", checksum_type="FULL_OBJECT"):
        self.s3, self.place = s3, {"Bucket": "b", "Key": key}
        made = s3.create_multipart_upload(
            **self.place, ChecksumAlgorithm="CRC32C", ChecksumType=checksum_type, Metadata={"x": "y"}
        )
        self.place["UploadId"] = made["UploadId"]

    def part(self, number, data):
        made = self.s3.upload_part(**self.place, PartNumber=number, Body=data, ChecksumAlgorithm="CRC32C")
        assert made["ChecksumCRC32C"] == b64crc32c(data)
        return {"PartNumber": number, "ETag": made["ETag"], "ChecksumCRC32C": made["ChecksumCRC32C"]}

    def parts(self):
        last = self.part(2, self.last)
        return [self.part(1, self.first), last]

    def complete(self, parts, **more):
        return self.s3.complete_multipart_upload(**self.place, MultipartUpload={"Parts": parts}, **more)


def test_multipart_with_a_checksum_over_the_full_object(s3, shared):
    upload = Multipart(s3)
    parts = upload.parts()
    listed = s3.list_parts(**upload.place, MaxParts=1)
    assert listed["IsTruncated"]
    assert listed["Parts"][0]["ChecksumCRC32C"] == b64crc32c(upload.first)
    rest = s3.list_parts(**upload.place, PartNumberMarker=listed["NextPartNumberMarker"])
    assert [part["PartNumber"] for part in rest["Parts"]] == [2]
    assert [entry["UploadId"] for entry in s3.list_multipart_uploads(Bucket="b")["Uploads"]] == [
        upload.place["UploadId"]
    ]
    for more, expected in [
        ({"ChecksumCRC32C": b64crc32c(b"other")}, "BadDigest"),
        ({"MpuObjectSize": 7}, "InvalidRequest"),
    ]:
        with pytest.raises(ClientError) as error:
            upload.complete(parts, ChecksumType="FULL_OBJECT", **more)
        assert code(error) == (expected, 400)
    done = upload.complete(
        parts,
        ChecksumType="FULL_OBJECT",
        ChecksumCRC32C=b64crc32c(upload.whole),
        MpuObjectSize=len(upload.whole),
        IfNoneMatch="*",
    )
    assert done["ChecksumCRC32C"] == b64crc32c(upload.whole)
    assert done["ChecksumType"] == "FULL_OBJECT"
    assert shared.get("b", "m") == upload.whole
    assert s3.head_object(Bucket="b", Key="m")["Metadata"] == {"x": "y"}
    assert shared.uploads("b") == []
    with pytest.raises(ClientError) as error:
        upload.complete(parts)
    assert code(error) == ("NoSuchUpload", 404)
    again = Multipart(s3)
    with pytest.raises(ClientError) as error:
        again.complete(again.parts(), IfNoneMatch="*")
    assert code(error) == ("PreconditionFailed", 412)
    s3.abort_multipart_upload(**again.place)
    assert shared.uploads("b") == []


def test_a_composite_checksum_is_that_of_the_parts_checksums(s3):
    upload = Multipart(s3, checksum_type="COMPOSITE")
    parts = upload.parts()
    with pytest.raises(ClientError) as error:
        upload.complete([{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in parts])
    assert code(error) == ("InvalidRequest", 400)
    done = upload.complete(parts)
    digests = b"".join(base64.b64decode(part["ChecksumCRC32C"]) for part in parts)
    assert done["ChecksumCRC32C"] == f"{b64crc32c(digests)}-2"


def test_completions_that_must_fail(s3, shared):
    upload = Multipart(s3)
    parts = upload.parts()
    small = Multipart(s3, key="small")
    too_small = [small.part(1, b"x"), small.part(2, b"y")]
    for attempt, expected in [
        (lambda: upload.complete(parts[::-1]), "InvalidPartOrder"),
        (lambda: upload.complete([{**parts[0], "ETag": '"wrong"'}]), "InvalidPart"),
        (lambda: upload.complete([{**parts[0], "ChecksumCRC32C": b64crc32c(b"")}, parts[1]]), "InvalidPart"),
        (lambda: upload.complete([*parts, {"PartNumber": 9, "ETag": '"x"'}]), "InvalidPart"),
        (lambda: small.complete(too_small), "EntityTooSmall"),
    ]:
        with pytest.raises(ClientError) as error:
            attempt()
        assert code(error) == (expected, 400)
    assert shared.list("b") == []
    for one in (upload, small):
        s3.abort_multipart_upload(**one.place)


def test_a_part_with_a_wrong_or_foreign_checksum_is_refused(s3):
    upload = Multipart(s3)
    with pytest.raises(ClientError) as error:
        s3.upload_part(**upload.place, PartNumber=1, Body=b"x", ChecksumCRC32C=b64crc32c(b"y"))
    assert code(error) == ("BadDigest", 400)
    with pytest.raises(ClientError) as error:
        s3.upload_part(**upload.place, PartNumber=1, Body=b"x", ChecksumAlgorithm="SHA256")
    assert code(error) == ("InvalidRequest", 400)
    assert "Parts" not in s3.list_parts(**upload.place)
    s3.abort_multipart_upload(**upload.place)


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


def test_a_signed_payload_that_is_changed_on_the_way_is_refused(shared, s3):
    signing = client(shared, request_checksum_calculation="when_required")
    shared.set_faults(Faults(Fault("PutObject", "flip-upload", at=3)))
    try:
        with pytest.raises(ClientError) as error:
            signing.put_object(Bucket="b", Key="k", Body=b"0123456789")
        assert code(error) == ("XAmzContentSHA256Mismatch", 400)
        with pytest.raises(ClientError) as error:
            s3.put_object(Bucket="b", Key="k", Body=b"0123456789", ChecksumAlgorithm="CRC32C")
        assert code(error)[1] == 400
    finally:
        shared.set_faults(None)
    assert "k" not in shared.list("b")


def test_a_dropped_bucket_gives_back_what_its_objects_and_uploads_held(tmp_path) -> None:
    def held() -> int:
        return sum(file.stat().st_blocks * 512 for file in tmp_path.rglob("*") if file.is_file())

    with ObjectServer("s3", root=str(tmp_path), in_process=False) as server:
        s3 = client(server)
        for _ in range(6):
            server.create_bucket("b")
            server.put("b", "whole", os.urandom(8 * MIB))
            upload = s3.create_multipart_upload(Bucket="b", Key="open")["UploadId"]
            s3.upload_part(Bucket="b", Key="open", UploadId=upload, PartNumber=1, Body=os.urandom(8 * MIB))
            server.drop_bucket("b")
        with pytest.raises(KeyError):
            server.list("b")
        assert held() <= 40 * MIB
