"""Objects beyond one CopyObject: the store copies them part by part. With a limit that a test can reach."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from gateway.agent_store import DirectStore
from gateway.head import TransferRun
from skyplane_core.checksum import crc32c
from skyplane_core.coordinator.receipt import read_receipt
from skyplane_core.model import Attestation, Credentials, Lease, ObjectAttributes, Precondition, StoreConfig
from skyplane_core.spec import (
    SOURCE_VERSION_KEY,
    Destination,
    KeyMapping,
    MappingKind,
    Method,
    Progress,
    ReceiptLine,
    Route,
    Selection,
    TransferOptions,
    TransferSpec,
    TransferState,
)
from skyplane_core.stores.base import Capabilities, ObjectStore
from skyplane_core.stores.s3 import S3Store
from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer

MIB = 1024 * 1024
BODY = os.urandom(23 * MIB + 5)
STATE = "q/.skyplane/t/"


class LittleStore(S3Store):
    """Copies at most 6 MiB in one call."""

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]
        return msgspec.structs.replace(super().capabilities, max_copy=6 * MIB)


class Bench:
    """A head in this process, and no reader: whatever is leased stays out."""

    def __init__(self, server: ObjectServer) -> None:
        self.server = server
        self.stores = [self._open("src"), self._open("dst")]
        self.leased: list[Lease] = []

    def _open(self, bucket: str) -> LittleStore:
        keys = Credentials(access_key="AK", secret_key="SK")
        url = self.server.endpoint_url
        return LittleStore(StoreConfig("s3", bucket, endpoint_url=url, region="us-east-1", credentials=keys))

    def put(self, key: str, body: bytes) -> None:
        """With a CRC32C, as tools leave it that ask for one."""
        with contextlib.closing(self.stores[0].data()) as data:
            attributes = ObjectAttributes(content_type="text/x-a", metadata={"owner": "me"})
            data.put_object(
                key, memoryview(body), crc32c=crc32c(body), attributes=attributes, precondition=Precondition()
            )

    def copy(self) -> Progress:
        ends = [StoreConfig("s3", name, endpoint_url=self.server.endpoint_url) for name in ("src", "dst")]
        to = Destination(ends[1], KeyMapping(MappingKind.PREFIX, "p/", "q/"))
        options = TransferOptions(part_size=5 * MIB, multipart_threshold=6 * MIB, max_attempts=2, progress_timeout=20)
        spec = TransferSpec("t", ends[0], Selection("p/", tree=True), (to,), options, STATE, 0.0)

        def no_receipt() -> ObjectStore:
            raise AssertionError("no receipt was asked for")

        run = TransferRun(
            spec,
            [Route("r")],
            DirectStore(lambda: self.stores[0], 2),
            {0: DirectStore(lambda: self.stores[1], 2)},
            pool_bytes=64 * MIB,
            execute=lambda _reader, lease: self._leased(run, lease),
            report=lambda progress: None,
            renew=lambda: None,
            pulse=lambda: 0,
            receipt=no_receipt,
        )
        run.start()
        assert run.join(60)
        return run.progress()

    def _leased(self, run: TransferRun, lease: Lease) -> None:
        self.leased.append(lease)
        run.cancel()

    def lines(self) -> list[ReceiptLine]:
        return list(read_receipt(lambda key: self.server.get("dst", key), STATE)[1])

    def close(self) -> None:
        for store in self.stores:
            store.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    with (
        ObjectServer("s3", buckets=["src", "dst"], credentials={"AK": "SK"}) as server,
        contextlib.closing(Bench(server)) as found,
    ):
        yield found


def test_a_large_object_is_copied_part_by_part(bench: Bench) -> None:
    bench.put("p/large", BODY)
    bench.put("p/small", BODY[:100])
    progress = bench.copy()
    assert (progress.state, progress.objects_server_side) == (TransferState.DONE, 2)
    assert bench.leased == []
    requests = bench.server.requests
    assert (requests["UploadPartCopy"], requests["CopyObject"], requests["UploadPart"]) == (5, 1, 0)
    assert bench.server.get("dst", "q/large") == BODY
    told = bench.server.head("dst", "q/large")
    line = next(line for line in bench.lines() if line.key == "p/large")
    assert told["metadata"] == {"owner": "me", SOURCE_VERSION_KEY: line.source_version}
    assert told["part_sizes"] == [5 * MIB] * 4 + [3 * MIB + 5]
    assert (line.method, line.attestation, line.crc32c) == (Method.SERVER_SIDE, Attestation.WHOLE, None)
    assert line.source_crc32c == line.destination_crc32c == crc32c(BODY)
    assert bench.server.uploads("dst") == []


def test_parts_that_are_refused_are_leased_to_gateways(bench: Bench) -> None:
    bench.put("p/large", BODY)
    refusal = Fault("UploadPartCopy", "status", nth=tuple(range(3, 100)), status=403, code="AccessDenied")
    bench.server.set_faults(Faults(refusal))
    first = bench.copy()
    assert first.state is TransferState.CANCELLED, "gateways are asked for the parts that were refused"
    assert bench.leased
    assert "AccessDenied" in first.server_side_refused
    bench.server.set_faults(None)
    again = bench.copy()
    assert (again.state, again.objects_server_side) == (TransferState.DONE, 1)
    assert bench.server.get("dst", "q/large") == BODY


def test_a_source_that_changes_between_two_parts_fails_and_leaves_no_upload(bench: Bench) -> None:
    bench.put("p/large", BODY)
    bench.server.set_faults(Faults(Fault("UploadPartCopy", "hold-before", nth=(4,))))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(bench.copy)
        bench.server.wait_held()
        bench.put("p/large", BODY[::-1])
        bench.server.release()
        progress = running.result()
    assert progress.state is TransferState.FAILED
    ((key, reason),) = progress.failures
    assert key == "p/large"
    assert "no longer the one that was listed" in reason
    assert bench.server.list("dst", "q/large") == []
    assert bench.server.uploads("dst") == []


def test_parts_are_asked_for_again_when_the_store_fails_in_passing(bench: Bench) -> None:
    bench.put("p/large", BODY)
    bench.server.set_faults(Faults(Fault("UploadPartCopy", "reset-after", times=2)))
    progress = bench.copy()
    assert progress.state is TransferState.DONE
    assert bench.server.get("dst", "q/large") == BODY
