"""The object server's S3 side, vouched for by boto3: what is uploaded is compared, whole or in parts."""

# ruff: noqa: TID253 - the SDK is what is used here.
from __future__ import annotations

import base64
import hashlib
import io
import os

import pytest
from awscrt import checksums as crt
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer
from tests.conformance.s3_client import MIB, client, client_of_an_empty_bucket, code


@pytest.fixture(scope="module")
def shared():
    with ObjectServer("s3", buckets=["b"], credentials={"AK": "SK"}) as server:
        yield server


@pytest.fixture
def s3(shared):
    return client_of_an_empty_bucket(shared)


def b64crc32c(data: bytes) -> str:
    return base64.b64encode(crt.crc32c(data).to_bytes(4, "big")).decode()


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
