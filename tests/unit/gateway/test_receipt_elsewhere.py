"""A receipt in another store, on the head: when it is written, and what becomes of a transfer where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from skyplane_core.coordinator import receipt, retry
from skyplane_core.coordinator.receipt import read_receipt
from skyplane_core.errors import PermissionDenied
from skyplane_core.model import StoreConfig
from skyplane_core.spec import Progress, ReceiptPlace, TransferSpec, TransferState
from skyplane_core.stores.base import ObjectStore
from skyplane_core.stores.registry import open_store
from tests.unit.gateway.memory_agent import STATE, MemoryStore, Reader, objects, transfer


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BASE_DELAY", 0.01)
    monkeypatch.setattr(receipt, "SEGMENT_LINES", 50)


def asked(root: Path) -> TransferSpec:
    return msgspec.structs.replace(transfer(), receipt=ReceiptPlace(StoreConfig("local", str(root)), "r.jsonl"))


def run(root: Path, destination: MemoryStore, count: int = 120) -> tuple[Progress, Reader]:
    def store() -> ObjectStore:
        return open_store(StoreConfig("local", str(root)))

    reader = Reader(MemoryStore(objects(count)), destination, asked(root), store)
    return reader.finish(), reader


def test_it_is_there_before_the_transfer_is_done(tmp_path: Path) -> None:
    seen = []
    destination = MemoryStore()

    def look(call: str, key: str) -> None:
        if call == "put_bytes" and key.endswith("receipt.json"):
            seen.append((tmp_path / "r.jsonl").read_bytes())

    destination.refuse = look
    progress, reader = run(tmp_path, destination)
    assert (progress.state, progress.receipt) == (TransferState.DONE, f"file://{tmp_path}/r.jsonl")
    [content] = seen
    totals, *lines = content.splitlines()
    assert json.loads(totals)["totals"]["objects_copied"] == len(lines) == 120
    assert {report.state for report in reader.reports[:-1]} <= {TransferState.QUEUED, TransferState.RUNNING}


def test_a_segment_that_somebody_changed_is_not_copied(tmp_path: Path) -> None:
    destination = MemoryStore()

    def change(call: str, key: str) -> None:
        if call == "get_bytes" and "receipt-" in key:
            destination.state[key] = destination.state[key].replace(b"copied", b"skipped")

    destination.refuse = change
    progress, _ = run(tmp_path, destination)
    assert progress.state is TransferState.FAILED
    assert "was changed after it was stored" in progress.error
    assert not (tmp_path / "r.jsonl").exists()


def test_a_transfer_whose_receipt_cannot_be_written_has_failed_and_says_where_its_own_is(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").mkdir()
    destination = MemoryStore()
    progress, _ = run(tmp_path, destination)
    assert progress.state is TransferState.FAILED
    assert "r.jsonl" in progress.error
    assert progress.receipt.endswith(f"{STATE}receipt.json")
    told, lines = read_receipt(destination.get_bytes, STATE)
    assert told.state is TransferState.FAILED
    assert len(list(lines)) == 120


def test_where_no_receipt_can_be_kept_at_the_destination_none_is_claimed(tmp_path: Path) -> None:
    destination = MemoryStore()

    def deny(call: str, key: str) -> None:
        if call == "put_bytes" and "receipt" in key:
            raise PermissionDenied("no")

    destination.refuse = deny
    progress, _ = run(tmp_path, destination)
    assert (progress.state, progress.receipt) == (TransferState.FAILED, "")
    assert not (tmp_path / "r.jsonl").exists()
