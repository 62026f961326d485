"""Receipts in stores of their own: written by real gateways, read from the servers' own state."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from pyarrow import parquet  # noqa: TID253 - what others read these files with

from skyplane_core.client import ClientConfig, Location, SkyplaneClient
from skyplane_core.errors import BucketNotFound, InvalidURI, StoreError, TransferFailed, UsageError
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.provision.hosts import SshHost
from skyplane_core.spec import Outcome, Progress, ReceiptLine, TransferState
from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer
from tests.integration.engine.test_secrets import holds, processes

At = Callable[..., Location]
KEYS = [f"p/{number:02d}" for number in range(12)]
AUDIT = b"audit-canary-secret"


@pytest.fixture
def audit() -> Iterator[ObjectServer]:
    with ObjectServer("s3", buckets=["log"], credentials={"AKAUDIT": AUDIT.decode()}) as server:
        yield server


@pytest.fixture
def at_audit(audit: ObjectServer) -> At:
    credentials = Credentials(access_key="AKAUDIT", secret_key=AUDIT.decode())
    store = StoreConfig("s3", "log", endpoint_url=audit.endpoint_url, path_style=True, credentials=credentials)
    return lambda key="": Location(store, key)


@pytest.fixture(autouse=True)
def objects(s3: ObjectServer) -> None:
    for key in KEYS:
        s3.put("src", key, os.urandom(100))


def read(name: str, content: bytes) -> tuple[Progress, list[ReceiptLine]]:
    if name.endswith(".parquet"):
        file = parquet.ParquetFile(io.BytesIO(content))
        rows = [msgspec.convert(row, ReceiptLine) for row in file.read().to_pylist()]
        return msgspec.json.decode(file.schema_arrow.metadata[b"skyplane.totals"], type=Progress), rows
    first, *rest = (gzip.decompress(content) if name.endswith(".gz") else content).splitlines()
    totals = msgspec.convert(json.loads(first)["totals"], Progress)
    return totals, [msgspec.json.decode(line, type=ReceiptLine) for line in rest]


@pytest.mark.parametrize("name", ["runs/r.jsonl", "r.jsonl.gz", "r.parquet"])
def test_a_receipt_in_a_third_store_holds_every_line_when_the_transfer_is_done(
    audit: ObjectServer, at_audit: At, source: At, destination: At, either_client: SkyplaneClient, name: str
) -> None:
    result = either_client.copy(source("p/"), destination("q/"), recursive=True, receipt=at_audit(name))
    assert result.receipt == result.progress.receipt == f"s3://log/{name}"
    assert audit.list("log") == [name]
    totals, lines = read(name, audit.get("log", name))
    assert (totals.state, totals.objects_copied, totals.receipt) == (TransferState.DONE, 12, result.receipt)
    assert sorted(line.key for line in lines) == KEYS
    assert lines == list(result.lines())


def test_a_prefix_gets_a_receipt_for_each_transfer(
    audit: ObjectServer, at_audit: At, source: At, destination: At, client: SkyplaneClient
) -> None:
    ids = []
    for _ in range(2):
        result = client.sync(source("p/"), destination("q/"), receipt=at_audit("runs/"))
        ids.append(result.progress.transfer_id)
    assert audit.list("log") == sorted(f"runs/{transfer}.jsonl" for transfer in ids)
    _, lines = read("", audit.get("log", f"runs/{ids[1]}.jsonl"))
    assert {line.outcome for line in lines} == {Outcome.SKIPPED}


def test_a_uri_in_the_destinations_bucket_has_the_destinations_credentials(
    gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    result = client.copy(source("p/"), destination("q/"), recursive=True, receipt="gs://dst/receipts/one.jsonl")
    assert result.receipt == "gs://dst/receipts/one.jsonl"
    assert len(read("", gcs.get("dst", "receipts/one.jsonl"))[1]) == 12


def test_a_receipt_on_the_local_disk(source: At, destination: At, client: SkyplaneClient, tmp_path: Path) -> None:
    place = tmp_path / "new" / "r.jsonl.gz"
    client.copy(source("p/"), destination("q/"), recursive=True, receipt=f"file://{place}")
    assert len(read(place.name, place.read_bytes())[1]) == 12
    assert [path.name for path in place.parent.iterdir() if path.name != ".skyplane"] == [place.name]


def test_only_the_head_holds_the_credentials_of_the_receipts_store(
    gcs: ObjectServer, at_audit: At, source: At, destination: At, client: SkyplaneClient
) -> None:
    gcs.set_faults(Faults(Fault("PutObject", "hold-before", key="q/*")))
    dataplane = client.dataplane()
    with dataplane.auto_deprovision():
        dataplane.provision()
        dataplane.submit(client.prepare(source("p/"), destination("q/"), recursive=True, receipt=at_audit("r")))
        head, writer = processes(dataplane, 0), processes(dataplane, 1)
        assert any(holds(process, AUDIT) for process in head), "the search itself must be able to find something"
        assert not any(holds(process, AUDIT) for process in writer)
        gcs.release()


def test_a_transfer_whose_receipt_cannot_be_written_is_not_done_and_runs_again(
    audit: ObjectServer, at_audit: At, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    audit.set_faults(Faults(Fault("PutObject", "status", status=403, code="AccessDenied")))
    with pytest.raises(TransferFailed, match=r"s3://log/r.jsonl") as caught:
        client.copy(source("p/"), destination("q/"), recursive=True, receipt=at_audit("r.jsonl"))
    # It says where the list of everything is all the same: at the destination.
    assert "gs://dst/q/.skyplane/" in str(caught.value)
    summary = next(key for key in gcs.list("dst") if key.endswith("receipt.json"))
    assert json.loads(gcs.get("dst", summary))["progress"]["state"] == "failed"
    audit.set_faults(Faults(Fault("PutObject", "status", times=2)))
    result = client.sync(source("p/"), destination("q/"), receipt=at_audit("r.jsonl"))
    assert (result.progress.objects_copied, result.progress.objects_skipped) == (0, 12)
    assert len(read("", audit.get("log", "r.jsonl"))[1]) == 12


def test_a_transfer_with_failures_leaves_its_receipt_there_too(
    audit: ObjectServer, at_audit: At, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    gcs.set_faults(Faults(Fault("PutObject", "status", key="q/07", status=403, code="AccessDenied")))
    with pytest.raises(TransferFailed, match=r"s3://log/r.parquet"):
        client.copy(source("p/"), destination("q/"), recursive=True, receipt=at_audit("r.parquet"))
    totals, lines = read("r.parquet", audit.get("log", "r.parquet"))
    assert (totals.state, totals.objects_failed) == (TransferState.FAILED, 1)
    assert [line.key for line in lines if line.outcome is Outcome.FAILED] == ["p/07"]


def test_what_cannot_hold_a_receipt_is_refused_before_anything_is_written(
    s3: ObjectServer, gcs: ObjectServer, at_audit: At, source: At, destination: At, client: SkyplaneClient
) -> None:
    store = at_audit().store
    missing = Location(msgspec.structs.replace(store, bucket="none"), "r")
    stranger = Location(msgspec.structs.replace(store, credentials=Credentials("AKAUDIT", "wrong")), "r")
    for place, kind in (
        (missing, BucketNotFound),
        (stranger, StoreError),
        (destination("q/r.jsonl"), UsageError),
        (at_audit("r.parquet.gz"), UsageError),
        ("gs://dst/q/", UsageError),
        ("sftp://log/r", InvalidURI),
        ("s3://", InvalidURI),
    ):
        with pytest.raises(kind):
            client.copy(source("p/"), destination("q/"), recursive=True, receipt=place)
    assert gcs.list("dst") == []
    remote = SkyplaneClient(ClientConfig(hosts=(SshHost("nowhere"),)))
    for place, why in ((at_audit("r.parquet"), "Parquet"), ("file:///tmp/r.jsonl", "this machine")):
        with pytest.raises(UsageError, match=why):
            remote.prepare(source("p/"), destination("q/"), recursive=True, receipt=place)
