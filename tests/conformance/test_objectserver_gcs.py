"""The object server's GCS side, vouched for by google-cloud-storage."""

# ruff: noqa: S310, TID253 - the SDKs are what is used here, and every URL is our own.
from __future__ import annotations

import base64
import datetime
import gzip
import io
import os
import urllib.error
import urllib.request

import boto3
import pytest
import requests
from awscrt import checksums as crt
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from google.cloud.storage import transfer_manager
from google.oauth2 import credentials as oauth2
from google.oauth2 import service_account

from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer

MIB = 1 << 20


def bucket_of(server: ObjectServer, credentials=None):
    client = storage.Client(
        project="p",
        credentials=credentials or AnonymousCredentials(),
        client_options={"api_endpoint": server.endpoint_url},
    )
    return client.bucket("b")


def b64crc32c(data: bytes) -> str:
    return base64.b64encode(crt.crc32c(data).to_bytes(4, "big")).decode()


@pytest.fixture(scope="module")
def shared():
    with ObjectServer("gcs", buckets=["b"]) as server:
        yield server


@pytest.fixture
def bucket(shared):
    for key in shared.list("b"):
        shared.delete("b", key)
    made = bucket_of(shared)
    yield made
    made.client.close()


def test_class_and_key_come_back_and_wrong_ones_are_refused(bucket, shared):
    key = "projects/p/locations/eu/keyRings/r/cryptoKeys/k"
    blob = bucket.blob("cold", kms_key_name=key)
    blob.storage_class = "NEARLINE"
    blob.upload_from_string(b"hello")
    got = bucket.get_blob("cold")
    assert (got.storage_class, got.kms_key_name) == ("NEARLINE", key)
    assert got.download_as_bytes() == b"hello"
    bucket.blob("plain").upload_from_string(b"hello")
    plain = bucket.get_blob("plain")
    assert (plain.storage_class, plain.kms_key_name) == ("STANDARD", None)
    for wrong in ({"storage_class": "COLD"}, {"kms_key_name": "k"}):
        blob = bucket.blob("wrong", kms_key_name=wrong.get("kms_key_name"))
        if "storage_class" in wrong:
            blob.storage_class = wrong["storage_class"]
        with pytest.raises(exceptions.BadRequest):
            blob.upload_from_string(b"x")
    assert "wrong" not in shared.list("b")


def test_a_bucket_whose_requester_pays_wants_a_project_to_bill():
    with ObjectServer("gcs", buckets=["b"], requester_pays=["b"]) as server:
        bucket = bucket_of(server)
        with pytest.raises(exceptions.BadRequest, match="requester pays"):
            bucket.blob("k").upload_from_string(b"x")
        billed = bucket.client.bucket("b", user_project="billed")
        billed.blob("k").upload_from_string(b"x")
        assert billed.get_blob("k").download_as_bytes() == b"x"
        bucket.client.close()


def test_bytes_and_attributes_come_back(bucket, shared):
    blob = bucket.blob("a b/ü%+//x")
    blob.metadata, blob.cache_control = {"m": "ü"}, "no-cache"
    blob.upload_from_string(b"hello", content_type="text/x", checksum="crc32c")
    assert shared.get("b", "a b/ü%+//x") == b"hello"
    got = bucket.get_blob("a b/ü%+//x")
    assert (got.content_type, got.cache_control, got.metadata, got.size) == ("text/x", "no-cache", {"m": "ü"}, 5)
    assert got.crc32c == b64crc32c(b"hello")
    assert got.md5_hash is None
    assert got.download_as_bytes() == b"hello"
    assert got.download_as_bytes(start=1, end=2) == b"el"


def test_keys_are_byte_exact(bucket, shared):
    keys = [
        "plain",
        "a b",
        "ü/é",
        "100%/50%25",
        "a+b",
        "a//b",
        "/leading",
        "trailing/",
        "q?x=1#z",
        "é" * 512,
        "😀",
        "o/x/compose",
    ]
    for key in keys:
        bucket.blob(key).upload_from_string(key.encode())
    assert [blob.name for blob in bucket.list_blobs(page_size=3)] == sorted(keys, key=str.encode) == shared.list("b")
    for key in keys:
        assert bucket.blob(key).download_as_bytes() == key.encode()
        bucket.blob(key).delete()
    assert shared.list("b") == []


def test_listing(bucket, shared):
    for key in ["a", "a/1", "a/2", "b/c/d", "b/e", "c"]:
        shared.put("b", key, b"")
    for size in (1, 2, 100):
        pages = bucket.list_blobs(delimiter="/", page_size=size)
        assert [blob.name for blob in pages] == ["a", "c"]
        assert pages.prefixes == {"a/", "b/"}
    assert [blob.name for blob in bucket.list_blobs(start_offset="a/2", end_offset="b/e")] == ["a/2", "b/c/d"]


def test_what_is_not_there(bucket):
    assert bucket.get_blob("absent") is None
    assert bucket.exists()
    assert not bucket.client.bucket("absent").exists()
    with pytest.raises(exceptions.NotFound):
        bucket.blob("absent").delete()
    with pytest.raises(exceptions.NotFound):
        bucket.blob("absent").download_as_bytes()


def test_generation_preconditions_are_honoured(bucket, shared):
    blob = bucket.blob("k")
    blob.upload_from_string(b"1", if_generation_match=0)
    first = blob.generation
    for call in [
        lambda: blob.upload_from_string(b"2", if_generation_match=0),
        lambda: blob.upload_from_string(b"2", if_generation_match=first + 1),
        lambda: bucket.blob("k", chunk_size=256 * 1024).upload_from_file(io.BytesIO(b"2"), if_generation_match=0),
        lambda: blob.delete(if_generation_match=first + 1),
        lambda: blob.download_as_bytes(if_generation_match=first + 1),
        lambda: blob.reload(if_metageneration_match=2),
        lambda: blob.patch(if_metageneration_match=2),
        lambda: bucket.blob("c").compose([blob], if_source_generation_match=[first + 1]),
        lambda: bucket.blob("k").compose([blob], if_generation_match=first + 1),
        lambda: bucket.blob("copy").rewrite(blob, if_source_generation_match=first + 1),
        lambda: bucket.blob("k").rewrite(blob, if_generation_match=0),
    ]:
        with pytest.raises(exceptions.PreconditionFailed):
            call()
    assert shared.get("b", "k") == b"1"
    assert shared.list("b") == ["k"]
    with pytest.raises(exceptions.NotModified):
        blob.reload(if_generation_not_match=first)
    blob.upload_from_string(b"2", if_generation_match=first)
    with pytest.raises(exceptions.NotFound):
        bucket.blob("k", generation=first).download_as_bytes()
    blob.metadata = {"a": "b"}
    blob.patch(if_metageneration_match=1)
    assert bucket.get_blob("k").metageneration == 2
    blob.delete(if_generation_match=blob.generation)


def test_wrong_checksums_are_refused(bucket, shared):
    blob = bucket.blob("k")
    blob.crc32c = b64crc32c(b"other")
    with pytest.raises(exceptions.BadRequest):
        blob.upload_from_string(b"x", checksum=None)
    blob = bucket.blob("k")
    blob.md5_hash = base64.b64encode(bytes(16)).decode()
    with pytest.raises(exceptions.BadRequest):
        blob.upload_from_string(b"x", checksum=None)
    answer = requests.put(
        f"{shared.endpoint_url}/b/k", data=b"x", headers={"x-goog-hash": f"crc32c={b64crc32c(b'y')}"}, timeout=5
    )
    assert answer.status_code == 400
    assert "BadDigest" in answer.text
    assert shared.list("b") == []


def test_resumable_upload_in_chunks(bucket, shared):
    data = os.urandom(3 * MIB + 5)
    blob = bucket.blob("big", chunk_size=MIB)
    blob.upload_from_file(io.BytesIO(data), checksum="crc32c")
    assert shared.get("b", "big") == data
    assert blob.crc32c == b64crc32c(data)
    assert bucket.blob("big").download_as_bytes() == data


def test_an_interrupted_resumable_upload_goes_on_where_it_was(bucket, shared):
    data = os.urandom(MIB)
    address = bucket.blob("r").create_resumable_upload_session(size=len(data))

    def send(body, content_range):
        return requests.put(
            address, data=body, headers={"Content-Range": content_range}, allow_redirects=False, timeout=5
        )

    assert send(b"", f"bytes */{len(data)}").headers.get("Range") is None
    first = send(data[: 512 * 1024], f"bytes 0-{512 * 1024 - 1}/{len(data)}")
    assert (first.status_code, first.headers["Range"]) == (308, f"bytes=0-{512 * 1024 - 1}")
    shared.set_faults(Faults(Fault("UploadPart", "reset-during", nth=(1,), at=300 * 1024)))
    with pytest.raises(requests.ConnectionError):
        send(data[512 * 1024 :], f"bytes {512 * 1024}-{len(data) - 1}/{len(data)}")
    shared.set_faults(None)
    status = send(b"", f"bytes */{len(data)}")
    assert (status.status_code, status.headers["Range"]) == (308, f"bytes=0-{768 * 1024 - 1}")
    assert send(b"x" * 100, f"bytes {768 * 1024}-{768 * 1024 + 99}/{len(data)}").status_code == 400
    done = send(data[768 * 1024 :], f"bytes {768 * 1024}-{len(data) - 1}/{len(data)}")
    assert done.status_code == 200
    assert send(b"", f"bytes */{len(data)}").json()["crc32c"] == b64crc32c(data)
    assert shared.get("b", "r") == data


def test_compose_and_rewrite(bucket, shared):
    for name in "xyz":
        shared.put("b", name, name.encode() * 1000)
    made = bucket.blob("whole")
    made.compose([bucket.blob(name) for name in "xyz"])
    assert shared.get("b", "whole") == b"x" * 1000 + b"y" * 1000 + b"z" * 1000
    assert made.crc32c == b64crc32c(shared.get("b", "whole"))
    assert (made.component_count, made.md5_hash) == (3, None)
    copy = bucket.blob("copy/ü")
    copy.rewrite(made)
    assert copy.crc32c == made.crc32c
    with pytest.raises(exceptions.BadRequest):
        bucket.blob("many").compose([made] * 33)


def test_transfer_manager_uses_the_xml_multipart_api(bucket, shared, tmp_path):
    data = os.urandom(12 * MIB + 3)
    (tmp_path / "f").write_bytes(data)
    blob = bucket.blob("mp u/ü")
    transfer_manager.upload_chunks_concurrently(
        str(tmp_path / "f"),
        blob,
        chunk_size=5 * MIB,
        worker_type=transfer_manager.THREAD,
        max_workers=3,
        checksum="crc32c",
    )
    assert shared.get("b", "mp u/ü") == data
    assert shared.head("b", "mp u/ü")["part_sizes"] == [5 * MIB, 5 * MIB, 2 * MIB + 3]
    assert shared.uploads("b") == []
    blob.reload()
    assert blob.crc32c == b64crc32c(data)
    transfer_manager.download_chunks_concurrently(
        blob, str(tmp_path / "g"), chunk_size=5 * MIB, worker_type=transfer_manager.THREAD, max_workers=3
    )
    assert (tmp_path / "g").read_bytes() == data


def xml(server, method, path, data=b"", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.request(method, server.endpoint_url + path, data=data, headers=named, timeout=5)


def test_xml_objects(shared, bucket):
    put = xml(
        shared,
        "PUT",
        "/b/k%20%C3%BC",
        b"hello",
        x_goog_if_generation_match="0",
        x_goog_meta_m="1",
        content_type="text/x",
        x_goog_hash=f"crc32c={b64crc32c(b'hello')}",
    )
    assert put.status_code == 200
    generation = put.headers["x-goog-generation"]
    got = xml(shared, "GET", "/b/k%20%C3%BC", x_goog_if_generation_match=generation, range="bytes=1-2")
    assert (got.status_code, got.content, got.headers["x-goog-meta-m"]) == (206, b"el", "1")
    assert got.headers["x-goog-hash"] == f"crc32c={b64crc32c(b'hello')}"
    assert got.headers["x-goog-stored-content-length"] == "5"
    assert xml(shared, "GET", f"/b/k%20%C3%BC?generation={generation}").content == b"hello"
    assert xml(shared, "GET", "/b/k%20%C3%BC?generation=1").status_code == 404
    for method, data in [("GET", b""), ("HEAD", b""), ("PUT", b"2"), ("DELETE", b"")]:
        assert xml(shared, method, "/b/k%20%C3%BC", data, x_goog_if_generation_match="1").status_code == 412
    assert xml(shared, "GET", "/b/k%20%C3%BC", range="bytes=9-").status_code == 416
    assert xml(shared, "DELETE", "/b/k%20%C3%BC", x_goog_if_generation_match=generation).status_code == 204
    assert xml(shared, "DELETE", "/b/k%20%C3%BC").status_code == 404


def test_xml_listings(shared, bucket):
    for key in ["a b", "c/1", "c/2", "d"]:
        shared.put("b", key, b"")
    first = xml(shared, "GET", "/b?delimiter=/&max-keys=2").text
    assert "<Key>a b</Key>" in first
    assert "<NextMarker>c/</NextMarker>" in first
    assert "<Key>d</Key>" in xml(shared, "GET", "/b?delimiter=/&marker=c/").text
    second = xml(shared, "GET", "/b?list-type=2&max-keys=1&prefix=c/").text
    token = second.partition("<NextContinuationToken>")[2].partition("<")[0]
    assert "<Key>c/2</Key>" in xml(shared, "GET", f"/b?list-type=2&prefix=c/&continuation-token={token}").text


def test_xml_multipart_refusals(shared, bucket):
    begun = xml(shared, "POST", "/b/m?uploads").text
    upload = begun.partition("<UploadId>")[2].partition("<")[0]
    wrong = xml(shared, "PUT", f"/b/m?partNumber=1&uploadId={upload}", b"x", x_goog_hash=f"crc32c={b64crc32c(b'y')}")
    assert (wrong.status_code, "BadDigest" in wrong.text) == (400, True)
    tags = []
    for number in (1, 2):
        part = xml(
            shared, "PUT", f"/b/m?partNumber={number}&uploadId={upload}", b"x", x_goog_hash=f"crc32c={b64crc32c(b'x')}"
        )
        assert part.headers["x-goog-hash"] == f"crc32c={b64crc32c(b'x')}"
        tags.append(part.headers["ETag"])

    def complete(chosen, **headers):
        parts = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>" for n, tag in chosen)
        document = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"
        return xml(shared, "POST", f"/b/m?uploadId={upload}", document.encode(), **headers)

    assert "EntityTooSmall" in complete([(1, tags[0]), (2, tags[1])]).text
    assert "InvalidPart<" in complete([(1, '"x"')]).text
    shared.put("b", "m", b"older")
    assert complete([(1, tags[0])], x_goog_if_generation_match="0").status_code == 412
    listed = xml(shared, "GET", f"/b/m?uploadId={upload}&max-parts=1").text
    assert "<IsTruncated>true</IsTruncated>" in listed
    assert f"<UploadId>{upload}</UploadId>" in xml(shared, "GET", "/b?uploads").text
    assert xml(shared, "DELETE", f"/b/m?uploadId={upload}").status_code == 204
    assert "NoSuchUpload" in complete([(1, tags[0])]).text
    assert shared.get("b", "m") == b"older"


def test_decompressive_transcoding(shared, bucket):
    packed = gzip.compress(b"hello" * 1000)
    shared.put("b", "z", packed, attributes={"content-encoding": "gzip"})
    plain = xml(shared, "GET", "/b/z", accept_encoding="identity")
    assert plain.content == b"hello" * 1000
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["x-goog-stored-content-encoding"] == "gzip"
    assert plain.headers["x-goog-stored-content-length"] == str(len(packed))
    raw = requests.get(f"{shared.endpoint_url}/b/z", headers={"Accept-Encoding": "gzip"}, stream=True, timeout=5)
    assert raw.raw.read(decode_content=False) == packed
    assert bucket.blob("z").download_as_bytes() == b"hello" * 1000
    assert bucket.blob("z").download_as_bytes(raw_download=True) == packed
    raw.close()


def test_md5_and_versions_are_options():
    with ObjectServer("gcs", buckets=["b"], md5=True, versioning=True) as server:
        bucket = bucket_of(server)
        blob = bucket.blob("k")
        blob.upload_from_string(b"old")
        old = blob.generation
        assert blob.md5_hash is not None
        blob.upload_from_string(b"new")
        assert bucket.blob("k", generation=old).download_as_bytes() == b"old"
        assert [found.generation for found in bucket.list_blobs(versions=True)] == [old, blob.generation]
        bucket.blob("k").delete()
        assert list(bucket.list_blobs()) == []
        assert len(list(bucket.list_blobs(versions=True))) == 2
        bucket.blob("k", generation=old).delete()
        assert [found.generation for found in bucket.list_blobs(versions=True)] == [blob.generation]
        assert bucket.get_blob("k") is None
        bucket.client.close()


def test_bearer_tokens():
    with ObjectServer("gcs", buckets=["b"], tokens=["good"], faults=Faults(Fault("DeleteObject", "expire"))) as server:
        good = bucket_of(server, oauth2.Credentials("good"))
        good.blob("k").upload_from_string(b"x")
        for credentials in (oauth2.Credentials("bad"), None):
            with pytest.raises((exceptions.Unauthorized, GoogleAuthError)):
                bucket_of(server, credentials).blob("k").upload_from_string(b"y", retry=None)
        assert xml(server, "GET", "/b/k").status_code == 401
        assert xml(server, "GET", "/b/k", authorization="Bearer good").content == b"x"
        assert xml(server, "DELETE", "/b/k", authorization="Bearer good").status_code == 401
        assert xml(server, "GET", "/b/k", authorization="Bearer good").status_code == 401
        server.set_credentials(tokens=["fresh"])
        assert xml(server, "GET", "/b/k", authorization="Bearer fresh").content == b"x"


def fetch(url):
    with urllib.request.urlopen(url) as response:
        return response.read()


def test_rsa_signed_urls_are_checked():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    info = {
        "client_email": "robot@p.iam",
        "private_key": private.decode(),
        "token_uri": "http://127.0.0.1:9/",
        "type": "service_account",
    }
    signer = service_account.Credentials.from_service_account_info(info)
    with ObjectServer("gcs", buckets=["b"], public_keys={"robot@p.iam": public.decode()}) as server:
        server.put("b", "a b/ü", b"hello")
        blob = bucket_of(server, signer).blob("a b/ü")
        options = {
            "version": "v4",
            "expiration": datetime.timedelta(minutes=1),
            "api_access_endpoint": server.endpoint_url,
        }
        url = blob.generate_signed_url(**options)
        assert fetch(url) == b"hello"
        for bad in (
            url[:-2] + ("00" if url[-2:] != "00" else "11"),
            url.replace("a%20b", "a%20c"),
            f"{server.endpoint_url}/b/k",
        ):
            with pytest.raises(urllib.error.HTTPError) as error:
                fetch(bad)
            assert error.value.code in (401, 403)
            error.value.close()


def test_hmac_keys_through_an_s3_client():
    def s3(secret):
        return boto3.client(
            "s3",
            endpoint_url=server.endpoint_url,
            aws_access_key_id="GOOG1",
            aws_secret_access_key=secret,
            region_name="auto",
            config=Config(
                s3={"addressing_style": "path"},
                signature_version="s3v4",
                request_checksum_calculation="when_required",
                retries={"total_max_attempts": 1},
            ),
        )

    with ObjectServer("gcs", buckets=["b"], credentials={"GOOG1": "secret"}) as server:
        good = s3("secret")
        good.put_object(Bucket="b", Key="a b/ü", Body=b"hello")
        assert good.get_object(Bucket="b", Key="a b/ü")["Body"].read() == b"hello"
        assert [entry["Key"] for entry in good.list_objects_v2(Bucket="b")["Contents"]] == ["a b/ü"]
        assert fetch(good.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "a b/ü"})) == b"hello"
        with pytest.raises(ClientError) as error:
            s3("wrong").put_object(Bucket="b", Key="k", Body=b"x")
        assert error.value.response["Error"]["Code"] == "SignatureDoesNotMatch"
        assert server.list("b") == ["a b/ü"]
