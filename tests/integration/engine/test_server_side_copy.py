"""Transfers between buckets of one store, which copies by itself: no byte passes a gateway, unless it refuses."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from skyplane_core.checksum import crc32c
from skyplane_core.client import Location, SkyplaneClient
from skyplane_core.errors import TransferFailed
from skyplane_core.model import Attestation, AttributeRules, Credentials, StoreConfig
from skyplane_core.spec import (
    SOURCE_VERSION_KEY,
    Compare,
    Method,
    Outcome,
    ServerSideCopy,
    TransferOptions,
    Verification,
)
from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer

MIB = 1024 * 1024
SMALL, LARGE = os.urandom(3000), os.urandom(12 * MIB)
OPTIONS = TransferOptions(part_size=5 * MIB, multipart_threshold=6 * MIB)
BODIES = {"a": SMALL, "b/large": LARGE, "empty": b"", "odd +%ü": b"odd"}


class Service:
    """One server with a bucket at either end."""

    def __init__(self, kind: str, server: ObjectServer) -> None:
        self.kind = kind
        self.server = server

    def bucket(self, name: str) -> StoreConfig:
        url = self.server.endpoint_url
        if self.kind == "gcs":
            return StoreConfig("gcs", name, endpoint_url=url, credentials=Credentials(token="a-token"))
        keys = Credentials(access_key="AKTEST", secret_key="a-secret")
        return StoreConfig("s3", name, endpoint_url=url, region="us-east-1", path_style=True, credentials=keys)

    @property
    def ends(self) -> tuple[Location, Location]:
        return Location(self.bucket("src"), "p/"), Location(self.bucket("dst"), "q/")

    def fill(self) -> None:
        for key, body in BODIES.items():
            self.server.put("src", f"p/{key}", body, metadata={"owner": "me"}, attributes={"content-type": "text/x-a"})

    def requests(self, operation: str) -> int:
        return self.server.requests[operation]


@pytest.fixture(params=["s3", "gcs"])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    with _service(request.param) as found:
        yield found


@pytest.fixture
def s3_service() -> Iterator[Service]:
    with _service("s3") as found:
        yield found


@contextlib.contextmanager
def _service(kind: str) -> Iterator[Service]:
    secrets = {"credentials": {"AKTEST": "a-secret"}} if kind == "s3" else {"tokens": ["a-token"]}
    with ObjectServer(kind, buckets=["src", "dst"], **secrets) as server:  # type: ignore[arg-type]
        yield Service(kind, server)


def test_the_store_copies_everything_and_no_byte_is_read(service: Service, either_client: SkyplaneClient) -> None:
    service.fill()
    result = either_client.copy(*service.ends, recursive=True, options=OPTIONS)
    # Before the receipt is read, which is an object as well.
    assert service.requests("GetObject") == service.requests("UploadPart") == 0
    assert service.server.statistics["bytes_sent"] < len(LARGE)
    assert service.server.statistics["bytes_received"] < len(LARGE)
    lines = {line.key.removeprefix("p/"): line for line in result.lines()}
    assert service.requests("CopyObject") == len(BODIES)
    assert lines.keys() == BODIES.keys()
    for key, body in BODIES.items():
        assert service.server.get("dst", f"q/{key}") == body
        line = lines[key]
        assert (line.outcome, line.method, line.attestation) == (
            Outcome.COPIED,
            Method.SERVER_SIDE,
            Attestation.WHOLE,
        )
        assert line.crc32c is line.read_back_crc32c is None
        told = service.server.head("dst", f"q/{key}")
        assert told["metadata"] == {"owner": "me", SOURCE_VERSION_KEY: line.source_version}
        assert told["attributes"]["content-type"] == "text/x-a"
        if service.kind == "gcs":
            assert line.source_crc32c == line.destination_crc32c == crc32c(body)
        else:
            assert line.source_crc64nvme
    progress = result.progress
    size = sum(map(len, BODIES.values()))
    assert (progress.objects_server_side, progress.bytes_server_side) == (len(BODIES), size)
    assert (progress.bytes_copied, progress.bytes_acked, progress.wire_bytes) == (size, size, 0)
    assert progress.server_side_refused == ""
    again = either_client.copy(
        *service.ends,
        recursive=True,
        options=TransferOptions(compare=Compare.EXACT),
    )
    assert (again.progress.objects_copied, again.progress.objects_skipped) == (0, len(BODIES))


def test_never_means_never(service: Service, client: SkyplaneClient) -> None:
    service.fill()
    options = TransferOptions(server_side_copy=ServerSideCopy.NEVER)
    result = client.copy(*service.ends, recursive=True, options=options)
    assert service.requests("CopyObject") == 0
    assert {line.method for line in result.lines()} == {Method.GATEWAYS}
    assert result.progress.objects_server_side == 0


def test_after_one_refusal_gateways_move_everything(service: Service, either_client: SkyplaneClient) -> None:
    service.fill()
    for number in range(100):
        service.server.put("src", f"p/more/{number}", b"more")
    refusal = Fault("CopyObject", "status", status=403, code="AccessDenied" if service.kind == "s3" else "forbidden")
    service.server.set_faults(Faults(refusal))
    result = either_client.copy(*service.ends, recursive=True, options=OPTIONS)
    assert service.requests("CopyObject") < len(BODIES) + 100
    for key, body in BODIES.items():
        assert service.server.get("dst", f"q/{key}") == body
    assert {line.method for line in result.lines()} == {Method.GATEWAYS}
    assert result.progress.objects_copied == len(BODIES) + 100
    assert result.progress.objects_server_side == 0
    assert "denied" in result.progress.server_side_refused.lower() or "copy" in result.progress.server_side_refused
    assert service.server.uploads("dst") == []


def test_what_the_store_copied_is_read_back_with_full_verification(client: SkyplaneClient) -> None:
    with _service("gcs") as service:
        service.fill()
        options = TransferOptions(verify=Verification.FULL)
        result = client.copy(*service.ends, recursive=True, options=options)
        for line in result.lines():
            assert line.method is Method.SERVER_SIDE
            assert line.read_back_crc32c == line.source_crc32c == crc32c(BODIES[line.key.removeprefix("p/")])


def test_without_a_sum_in_common_gateways_move_it(s3_service: Service, client: SkyplaneClient) -> None:
    s3_service.fill()
    # The server vouches for CRC64NVME only, and what is read back is summed in CRC32C.
    result = client.copy(*s3_service.ends, recursive=True, options=TransferOptions(verify=Verification.FULL))
    assert s3_service.requests("CopyObject") == 0
    assert {line.method for line in result.lines()} == {Method.GATEWAYS}


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_an_object_that_has_another_checksum_is_compared_by_that(
    s3_service: Service, client: SkyplaneClient, algorithm: str
) -> None:
    with contextlib.closing(_boto3(s3_service.server.endpoint_url, "AKTEST", "a-secret")) as boto:
        boto.put_object(Bucket="src", Key="p/a", Body=LARGE, ChecksumAlgorithm=algorithm)
        (line,) = client.copy(*s3_service.ends, recursive=True, options=OPTIONS).lines()
        told = boto.head_object(Bucket="dst", Key="q/a", ChecksumMode="ENABLED")
    assert (line.method, line.attestation) == (Method.SERVER_SIDE, Attestation.WHOLE)
    assert line.source_checksum == f"{algorithm}:{told[f'Checksum{algorithm}']}"
    assert s3_service.server.get("dst", "q/a") == LARGE


def test_a_checksum_of_checksums_is_not_compared(s3_service: Service, client: SkyplaneClient) -> None:
    with contextlib.closing(_boto3(s3_service.server.endpoint_url, "AKTEST", "a-secret")) as boto:
        upload = {"Bucket": "src", "Key": "p/a"}
        upload["UploadId"] = boto.create_multipart_upload(**upload, ChecksumAlgorithm="CRC32")["UploadId"]
        part = boto.upload_part(**upload, PartNumber=1, Body=SMALL, ChecksumAlgorithm="CRC32")
        listed = {"PartNumber": 1, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]}
        boto.complete_multipart_upload(**upload, MultipartUpload={"Parts": [listed]})
    (line,) = client.copy(*s3_service.ends, recursive=True, options=OPTIONS).lines()
    assert (line.method, line.source_checksum) == (Method.GATEWAYS, "")


def test_tags_and_class_follow_the_rules(s3_service: Service, client: SkyplaneClient) -> None:
    s3_service.server.put("src", "p/a", SMALL, attributes={"x-amz-tagging": "team=a"})
    rules = AttributeRules(keep_tags=True, storage_class="STANDARD_IA", metadata={"via": "copy"})
    result = client.copy(*s3_service.ends, recursive=True, options=TransferOptions(attributes=rules))
    (line,) = result.lines()
    assert line.method is Method.SERVER_SIDE
    assert s3_service.requests("GetObjectTagging") == 0
    told = s3_service.server.head("dst", "q/a")
    assert told["attributes"]["x-amz-tagging"] == "team=a"
    assert told["attributes"]["x-amz-storage-class"] == "STANDARD_IA"
    assert told["metadata"]["via"] == "copy"


TAGS = {"p/a": "team=a", "p/b/large": "team=b", "p/empty": "", "p/odd +%ü": "x=y"}


def tagged(service: Service, client: SkyplaneClient, **how: Any) -> dict[str, tuple[Method, str]]:
    """Who copied each object, and the tags of its copy."""
    for key, body in BODIES.items():
        service.server.put("src", f"p/{key}", body, attributes={"x-amz-tagging": TAGS[f"p/{key}"]})
    options = msgspec.structs.replace(OPTIONS, **how)
    lines = list(client.copy(*service.ends, recursive=True, options=options).lines())
    told = {line.key: service.server.head("dst", line.destination_key)["attributes"] for line in lines}
    return {line.key: (line.method, told[line.key].get("x-amz-tagging", "")) for line in lines}


def test_tags_are_read_where_the_store_may_not_copy_them(s3_service: Service, client: SkyplaneClient) -> None:
    # Whoever writes the copies may not read tags: those are asked for with the source's own credentials.
    s3_service.server.set_faults(Faults(Fault("CopyObject", "status", status=403, code="AccessDenied", times=1)))
    found = tagged(s3_service, client, attributes=AttributeRules(keep_tags=True))
    assert found == {key: (Method.SERVER_SIDE, tags) for key, tags in TAGS.items()}
    assert 1 <= s3_service.requests("GetObjectTagging") <= len(TAGS)


@pytest.mark.parametrize("keep_attributes", [True, False])
def test_what_the_store_refuses_gets_its_tags_from_gateways(
    s3_service: Service, client: SkyplaneClient, *, keep_attributes: bool
) -> None:
    s3_service.server.set_faults(Faults(Fault("CopyObject", "status", status=403, code="AccessDenied")))
    found = tagged(s3_service, client, attributes=AttributeRules(keep_tags=True), keep_attributes=keep_attributes)
    assert found == {key: (Method.GATEWAYS, tags) for key, tags in TAGS.items()}


def test_tags_of_every_copy_come_beside_the_sources(s3_service: Service, client: SkyplaneClient) -> None:
    found = tagged(s3_service, client, attributes=AttributeRules(keep_tags=True, tags={"by": "us"}))
    assert found["p/a"] == (Method.SERVER_SIDE, "team=a&by=us")


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_a_copy_whose_answer_was_lost_is_recognised_by_its_checksum(
    s3_service: Service, client: SkyplaneClient, algorithm: str
) -> None:
    with contextlib.closing(_boto3(s3_service.server.endpoint_url, "AKTEST", "a-secret")) as boto:
        boto.put_object(Bucket="src", Key="p/a", Body=SMALL, ChecksumAlgorithm=algorithm)
    s3_service.server.set_faults(Faults(Fault("CopyObject", "reset-after", times=1)))
    options = TransferOptions(compare=Compare.EXACT, record_source=False)
    (line,) = client.copy(*s3_service.ends, recursive=True, options=options).lines()
    assert (line.method, line.attestation) == (Method.SERVER_SIDE, Attestation.WHOLE)


def test_a_copy_whose_answer_was_lost_is_recognised(service: Service, client: SkyplaneClient) -> None:
    service.fill()
    service.server.set_faults(Faults(Fault("CopyObject", "reset-after", times=3)))
    options = TransferOptions(compare=Compare.EXACT)
    result = client.copy(*service.ends, recursive=True, options=options)
    assert service.server.statistics["faults_fired"] == [3]
    assert result.progress.objects_server_side == len(BODIES)
    for key, body in BODIES.items():
        assert service.server.get("dst", f"q/{key}") == body


@pytest.mark.parametrize("changed", ["src", "dst"])
def test_what_changes_under_a_copy_fails_it_by_name(service: Service, client: SkyplaneClient, changed: str) -> None:
    service.server.put("src", "p/a", SMALL)
    service.server.set_faults(Faults(Fault("CopyObject", "hold-before")))
    with ThreadPoolExecutor(1) as pool:
        options = TransferOptions(compare=Compare.EXACT)
        running = pool.submit(client.copy, *service.ends, recursive=True, options=options)
        service.server.wait_held()
        service.server.put(changed, "p/a" if changed == "src" else "q/a", b"somebody else's")
        service.server.release()
        with pytest.raises(TransferFailed) as raised:
            running.result()
    ((key, reason),) = raised.value.failures
    assert key == "p/a"
    assert ("no longer the one that was listed" in reason) is (changed == "src")
    assert service.requests("GetObject") == 0
    if changed == "dst":
        assert service.server.get("dst", "q/a") == b"somebody else's"
    else:
        assert "q/a" not in service.server.list("dst")


def test_what_boto3_reads_of_a_copy(s3_service: Service, client: SkyplaneClient) -> None:
    """An independent reader of all that a copy has."""
    tags = {"x-amz-tagging": "team=a", "content-type": "text/x-a", "cache-control": "no-cache"}
    s3_service.server.put("src", "p/a", LARGE, attributes=tags, metadata={"owner": "me"})
    rules = AttributeRules(keep_tags=True)
    (line,) = client.copy(*s3_service.ends, recursive=True, options=TransferOptions(attributes=rules)).lines()
    assert line.method is Method.SERVER_SIDE
    with contextlib.closing(_boto3(s3_service.server.endpoint_url, "AKTEST", "a-secret")) as boto:
        got = boto.get_object(Bucket="dst", Key="q/a", ChecksumMode="ENABLED")
        assert got["Body"].read() == LARGE
        assert (got["ContentType"], got["CacheControl"]) == ("text/x-a", "no-cache")
        assert got["Metadata"] == {"owner": "me", SOURCE_VERSION_KEY: line.source_version}
        assert boto.get_object_tagging(Bucket="dst", Key="q/a")["TagSet"] == [{"Key": "team", "Value": "a"}]


def test_moto_copies_where_nothing_is_compared_and_is_not_asked_where_it_vouches_for_nothing(
    client: SkyplaneClient,
) -> None:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        url = "http://{}:{}".format(*moto.get_host_and_port())
        with contextlib.closing(_boto3(url, "AK", "SK")) as boto:
            for bucket in ("moto-src", "moto-dst"):
                boto.create_bucket(Bucket=bucket)
            boto.put_object(Bucket="moto-src", Key="p/a", Body=SMALL, ContentType="text/x-a", Metadata={"owner": "me"})
            stores = [
                StoreConfig("s3", name, endpoint_url=url, region="us-east-1", credentials=Credentials("AK", "SK"))
                for name in ("moto-src", "moto-dst")
            ]
            methods = {}
            for verify in (Verification.NONE, Verification.TRANSFERRED):
                ends = (Location(stores[0], "p/"), Location(stores[1], f"{verify.value}/"))
                (line,) = client.copy(*ends, recursive=True, options=TransferOptions(verify=verify)).lines()
                methods[verify] = line.method
                got = boto.get_object(Bucket="moto-dst", Key=f"{verify.value}/a")
                assert (got["Body"].read(), got["ContentType"]) == (SMALL, "text/x-a")
                assert got["Metadata"] == {"owner": "me", SOURCE_VERSION_KEY: line.source_version}
            assert methods == {Verification.NONE: Method.SERVER_SIDE, Verification.TRANSFERRED: Method.GATEWAYS}
    finally:
        moto.stop()


def _boto3(url: str, key: str, secret: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(s3={"addressing_style": "path"}),
    )


@pytest.mark.parametrize("how", ServerSideCopy)
def test_a_custom_time_is_carried_over(client: SkyplaneClient, how: ServerSideCopy) -> None:
    time = "2031-05-06T07:08:09.123Z"
    with ObjectServer("gcs", buckets=["src", "dst"]) as server:
        for key, body in (("p/small", SMALL), ("p/large", LARGE)):
            server.put("src", key, body, attributes={"x-goog-custom-time": time})
        server.put("src", "p/none", SMALL)
        server.put("src", "p/ü", SMALL, attributes={"x-goog-custom-time": time}, metadata={"ü": "ü"})
        options = msgspec.structs.replace(OPTIONS, server_side_copy=how)
        client.copy(*Service("gcs", server).ends, recursive=True, options=options)
        told = {key: server.head("dst", f"q/{key}")["attributes"] for key in ("small", "large", "ü", "none")}
    assert {key: found.get("x-goog-custom-time") for key, found in told.items()} == {
        "small": time, "large": time, "ü": time, "none": None,
    }  # fmt: skip


def test_what_googles_client_reads_of_a_copy(client: SkyplaneClient) -> None:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    with ObjectServer("gcs", buckets=["src", "dst"]) as server:
        service = Service("gcs", server)
        server.put("src", "p/a", LARGE, attributes={"content-type": "text/x-a"}, metadata={"owner": "me"})
        rules = AttributeRules(storage_class="NEARLINE")
        (line,) = client.copy(*service.ends, recursive=True, options=TransferOptions(attributes=rules)).lines()
        assert line.method is Method.SERVER_SIDE
        # Into another class it takes this server a call for each MiB.
        assert service.requests("CopyObject") == 12
        options = {"api_endpoint": server.endpoint_url}
        google = storage.Client(project="p", credentials=AnonymousCredentials(), client_options=options)
        blob = google.bucket("dst").get_blob("q/a")
        assert blob is not None
        assert blob.download_as_bytes() == LARGE
        assert (blob.content_type, blob.storage_class) == ("text/x-a", "NEARLINE")
        assert blob.metadata == {"owner": "me", SOURCE_VERSION_KEY: line.source_version}
        google.close()
