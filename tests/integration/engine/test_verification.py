"""Bytes that go wrong between a store's disk and us, on either side: found, ridden out once, or failed by name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from skyplane_core.checksum import crc32c
from skyplane_core.client import Location, SkyplaneClient
from skyplane_core.errors import TransferFailed
from skyplane_core.model import Attestation, Credentials, ObjectAttributes, Precondition, StoreConfig
from skyplane_core.spec import Outcome, ReceiptLine, TransferOptions, Verification
from skyplane_core.stores.s3 import open_store
from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer

MIB = 1024 * 1024
STRIPED = TransferOptions(part_size=5 * MIB, multipart_threshold=6 * MIB)
FULL = TransferOptions(part_size=5 * MIB, multipart_threshold=6 * MIB, verify=Verification.FULL)
NONE = TransferOptions(part_size=5 * MIB, multipart_threshold=6 * MIB, verify=Verification.NONE)
SMALL, LARGE = 3000, 12 * MIB


class Pair:
    """A source of one kind, a destination of the other, and a client between them."""

    def __init__(self, kind: str, client: SkyplaneClient, opened: contextlib.ExitStack) -> None:
        kinds = (kind, "gcs" if kind == "s3" else "s3")
        servers = [opened.enter_context(_server(name, bucket)) for name, bucket in zip(kinds, "sd", strict=True)]
        self.source, self.destination = servers
        self.places = [_config(name, bucket, server) for name, bucket, server in zip(kinds, "sd", servers, strict=True)]
        self._client = client

    def copy(self, options: TransferOptions = STRIPED) -> list[ReceiptLine]:
        here, there = self.places
        result = self._client.copy(Location(here, "p/"), Location(there, "q/"), recursive=True, options=options)
        return list(result.lines())


def _server(kind: str, bucket: str) -> ObjectServer:
    secrets = {"credentials": {"AKTEST": "a-secret"}} if kind == "s3" else {"tokens": ["a-token"]}
    return ObjectServer(kind, buckets=[bucket], **secrets)  # type: ignore[arg-type]


def _config(kind: str, bucket: str, server: ObjectServer) -> StoreConfig:
    if kind == "gcs":
        return StoreConfig(kind, bucket, endpoint_url=server.endpoint_url, credentials=Credentials(token="a-token"))
    credentials = Credentials(access_key="AKTEST", secret_key="a-secret")
    url = server.endpoint_url
    return StoreConfig(kind, bucket, endpoint_url=url, region="us-east-1", path_style=True, credentials=credentials)


@pytest.fixture(params=["s3", "gcs"], ids=["from-s3", "from-gcs"])
def pair(request: pytest.FixtureRequest, either_client: SkyplaneClient) -> Iterator[Pair]:
    with contextlib.ExitStack() as opened:
        yield Pair(request.param, either_client, opened)


@pytest.fixture
def s3_to_gcs(client: SkyplaneClient) -> Iterator[Pair]:
    with contextlib.ExitStack() as opened:
        yield Pair("s3", client, opened)


@pytest.mark.parametrize(("size", "nth"), [(SMALL, 1), (LARGE, 2)], ids=["small", "striped"])
def test_a_bit_that_flips_on_the_way_from_the_source_is_ridden_out(pair: Pair, size: int, nth: int) -> None:
    body = os.urandom(size)
    pair.source.put("s", "p/a", body)
    pair.source.set_faults(Faults(Fault("GetObject", "flip", key="p/a", nth=(nth,), at=1234)))
    (line,) = pair.copy()
    assert pair.source.statistics["faults_fired"] == [1]
    assert pair.destination.get("d", "q/a") == body
    assert pair.destination.uploads("d") == []
    assert line.attestation is Attestation.WHOLE
    assert line.crc32c == line.destination_crc32c == crc32c(body)
    assert line.source_crc32c == (crc32c(body) if pair.places[0].kind == "gcs" else None)
    assert line.source_crc64nvme == line.crc64nvme
    assert bool(line.source_crc64nvme) is (pair.places[0].kind == "s3")


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "striped"])
def test_a_source_that_never_sends_what_it_vouches_for_fails_by_name(pair: Pair, size: int) -> None:
    pair.source.put("s", "p/a", os.urandom(size))
    pair.source.put("s", "p/good", b"good")
    pair.source.set_faults(Faults(Fault("GetObject", "flip", key="p/a", at=1234)))
    with pytest.raises(TransferFailed) as raised:
        pair.copy()
    ((key, reason),) = raised.value.failures
    assert key == "p/a"
    assert "the source vouches for CRC" in reason
    assert "what was read has" in reason
    assert [key for key in pair.destination.list("d", "q/") if ".skyplane" not in key] == ["q/good"]
    assert pair.destination.uploads("d") == []
    # Three readings of a part, two of an object in three parts.
    assert pair.source.statistics["faults_fired"] == [3 if size == SMALL else 6]


def test_small_objects_of_s3_cost_no_head_and_striped_ones_one_each(s3_to_gcs: Pair) -> None:
    for number in range(20):
        s3_to_gcs.source.put("s", f"p/{number}", os.urandom(SMALL))
    s3_to_gcs.source.put("s", "p/large", os.urandom(LARGE))
    lines = s3_to_gcs.copy(TransferOptions(part_size=5 * MIB, multipart_threshold=6 * MIB, keep_attributes=False))
    assert all(line.source_crc64nvme for line in lines)
    assert s3_to_gcs.source.requests["HeadObject"] == 1


def test_objects_that_s3_sums_by_crc32c_are_compared_by_that(s3_to_gcs: Pair) -> None:
    store = open_store(s3_to_gcs.places[0])
    bodies = {"p/large": os.urandom(LARGE), "p/small": os.urandom(SMALL)}
    with contextlib.closing(store), contextlib.closing(store.data()) as data:
        for key, body in bodies.items():
            data.put_object(
                key,
                memoryview(body),
                crc32c=crc32c(body),
                attributes=ObjectAttributes(),
                precondition=Precondition(),
            )
    s3_to_gcs.source.set_faults(Faults(Fault("GetObject", "flip", nth=(1, 2), at=77)))
    lines = {line.key: line for line in s3_to_gcs.copy()}
    for key, body in bodies.items():
        assert s3_to_gcs.destination.get("d", key.replace("p/", "q/")) == body
        assert lines[key].source_crc32c == crc32c(body)
        assert lines[key].source_crc64nvme == ""


@pytest.mark.parametrize(("size", "operation"), [(SMALL, "PutObject"), (LARGE, "UploadPart")], ids=["small", "striped"])
def test_what_rots_at_the_destination_is_found_by_full_verification_and_deleted(
    pair: Pair, size: int, operation: str
) -> None:
    pair.source.put("s", "p/a", os.urandom(size))
    pair.destination.set_faults(Faults(Fault(operation, "flip-stored", key="q/a", at=1234, times=1)))
    with pytest.raises(TransferFailed, match="reading the object back gave other bytes"):
        pair.copy(FULL)
    assert "q/a" not in pair.destination.list("d")


def test_full_verification_reads_every_object_back_whatever_is_attested(pair: Pair) -> None:
    bodies = {"p/a": os.urandom(SMALL), "p/large": os.urandom(LARGE), "p/zero": b""}
    for key, body in bodies.items():
        pair.source.put("s", key, body)
    for line in pair.copy(FULL):
        assert line.outcome is Outcome.COPIED
        assert line.read_back_crc32c == line.crc32c == crc32c(bodies[line.key])
        assert line.attestation is Attestation.WHOLE
        assert line.verify is Verification.FULL


def test_a_bit_that_flips_on_the_way_to_the_destination_is_refused_there_and_sent_again(pair: Pair) -> None:
    bodies = {"p/a": os.urandom(SMALL), "p/large": os.urandom(LARGE)}
    for key, body in bodies.items():
        pair.source.put("s", key, body)
    pair.destination.set_faults(
        Faults(
            Fault("PutObject", "flip-upload", key="q/a", at=1234, times=1),
            Fault("UploadPart", "flip-upload", key="q/large", at=1234, times=1),
        )
    )
    pair.copy(NONE)
    assert pair.destination.statistics["faults_fired"] == [1, 1]
    for key, body in bodies.items():
        assert pair.destination.get("d", key.replace("p/", "q/")) == body


def test_without_verification_the_source_is_believed_and_the_receipt_says_so(s3_to_gcs: Pair) -> None:
    s3_to_gcs.source.put("s", "p/a", os.urandom(LARGE))
    s3_to_gcs.source.set_faults(Faults(Fault("GetObject", "flip", nth=(2,), at=1234)))
    (line,) = s3_to_gcs.copy(NONE)
    assert (line.verify, line.source_crc64nvme, line.source_crc32c) == (Verification.NONE, "", None)
    assert line.attestation is Attestation.WHOLE
    assert s3_to_gcs.destination.get("d", "q/a") != s3_to_gcs.source.get("s", "p/a")
