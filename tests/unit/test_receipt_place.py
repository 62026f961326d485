"""Where a receipt may go, and what its name says."""

from __future__ import annotations

import importlib.util

import pytest

from skyplane_core.errors import UsageError
from skyplane_core.locations import Location
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.prepare import prepare
from skyplane_core.receipt_place import ReceiptFormat, at_hand, check_format, format_of, receipt_name
from skyplane_core.spec import TransferOptions

SRC = StoreConfig("s3", "src", credentials=Credentials("id", "source-secret"))
DST = StoreConfig("gcs", "dst", credentials=Credentials(token="destination-token"))
LOG = StoreConfig("s3", "log", credentials=Credentials("id", "log-secret"))
ID = "0" * 32


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("r.jsonl", ReceiptFormat.LINES),
        ("r", ReceiptFormat.LINES),
        ("runs/r.jsonl.gz", ReceiptFormat.GZIP),
        ("r.gz", ReceiptFormat.GZIP),
        ("r.parquet", ReceiptFormat.PARQUET),
        ("parquet", ReceiptFormat.LINES),
    ],
)
def test_a_name_says_the_format_by_its_ending(name: str, expected: ReceiptFormat) -> None:
    assert format_of(name) is expected


def test_parquet_is_not_packed_twice() -> None:
    with pytest.raises(UsageError, match="compressed already"):
        format_of("r.parquet.gz")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("", f"{ID}.jsonl"), ("runs/", f"runs/{ID}.jsonl"), ("runs/r.parquet", "runs/r.parquet"), ("runs", "runs")],
)
def test_a_prefix_gets_the_transfers_id(name: str, expected: str) -> None:
    assert receipt_name(name, ID) == expected


def test_parquet_needs_its_library_and_a_gateway_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    check_format("r.parquet", remote=False)
    check_format("r.jsonl.gz", remote=True)
    with pytest.raises(UsageError, match="other hosts"):
        check_format("r.parquet", remote=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"airflow-provider-skyplane\[parquet\]"):
        check_format("r.parquet", remote=False)


def test_in_a_bucket_of_an_end_it_has_the_credentials_of_that_end() -> None:
    there, here = Location(DST, "in/"), Location(SRC, "data/")
    assert at_hand("gs://dst/r.jsonl", there, here) == Location(DST, "r.jsonl")
    assert at_hand("s3://src/r.jsonl", there, here) == Location(SRC, "r.jsonl")
    assert at_hand("s3://log/r.jsonl", there, here) is None
    assert at_hand("file:///tmp/r", there, here) is None


def place(receipt: Location, *, source: str = "data/", destination: str = "in/", recursive: bool = True) -> str:
    here, there = Location(SRC, source), Location(DST, destination)
    prepared = prepare(here, there, options=TransferOptions(), recursive=recursive, transfer_id=ID, receipt=receipt)
    assert prepared.receipt == receipt.store
    assert prepared.spec.receipt is not None
    assert prepared.spec.receipt.store.credentials == Credentials()
    return prepared.spec.receipt.store.object_uri(prepared.spec.receipt.key)


@pytest.mark.parametrize(
    ("receipt", "expected"),
    [
        (Location(LOG, "runs/"), f"s3://log/runs/{ID}.jsonl"),
        (Location(LOG, "in/r.parquet"), "s3://log/in/r.parquet"),
        (Location(DST, "runs/"), f"gs://dst/runs/{ID}.jsonl"),
        (Location(DST, "in/.skyplane/r.jsonl"), "gs://dst/in/.skyplane/r.jsonl"),
        (Location(SRC, "database"), "s3://src/database"),
        (Location(StoreConfig("local", "/var/receipts"), ""), f"file:///var/receipts/{ID}.jsonl"),
    ],
)
def test_a_receipt_may_be_anywhere_beside_the_objects(receipt: Location, expected: str) -> None:
    assert place(receipt) == expected


@pytest.mark.parametrize("receipt", [Location(DST, "in/r.jsonl"), Location(SRC, "data/"), Location(DST, "in/a/")])
def test_a_receipt_is_never_among_the_objects(receipt: Location) -> None:
    with pytest.raises(UsageError, match="among the objects"):
        place(receipt)


def test_a_receipt_does_not_replace_the_one_object_that_is_copied() -> None:
    for receipt in (Location(DST, "in/x"), Location(SRC, "data/x")):
        with pytest.raises(UsageError, match="among the objects"):
            place(receipt, source="data/x", recursive=False)
    place(Location(DST, "in/x.jsonl"), source="data/x", recursive=False)


@pytest.mark.parametrize(
    ("root", "name", "refused"),
    [("/dst/in", "r.jsonl", True), ("/dst", "in/r.jsonl", True), ("/dst", "r.jsonl", False), ("/", "dst/in/r", True)],
)
def test_directories_are_compared_by_path(root: str, name: str, refused: bool) -> None:
    here, there = Location(StoreConfig("local", "/src"), ""), Location(StoreConfig("local", "/dst/in"), "")
    receipt = Location(StoreConfig("local", root), name)

    def ask() -> object:
        return prepare(here, there, options=TransferOptions(), recursive=True, receipt=receipt)

    if refused:
        with pytest.raises(UsageError, match="among the objects"):
            ask()
    else:
        ask()


def test_a_renewal_brings_fresh_credentials_for_the_receipt_wherever_it_is() -> None:
    here, there = Location(SRC, "data/"), Location(DST, "in/")
    fresh_dst = StoreConfig("gcs", "dst", credentials=Credentials(token="new-token", expires_at=7.0))
    fresh_log = StoreConfig("s3", "log", credentials=Credentials("id", "new-secret", expires_at=5.0))

    def renewed(receipt: StoreConfig, **how: object) -> StoreConfig | None:
        prepared = prepare(
            here,
            there,
            options=TransferOptions(),
            recursive=True,
            receipt=Location(receipt, "r/"),
            refresh=lambda: (SRC, fresh_dst),
            **how,  # type: ignore[arg-type]
        ).renewed()
        assert prepared.destinations == (fresh_dst,)
        assert prepared.credentials_expire_at == (5.0 if prepared.receipt == fresh_log else 7.0)
        return prepared.receipt

    assert renewed(DST) == fresh_dst
    assert renewed(LOG, refresh_receipt=lambda: fresh_log) == fresh_log
    assert renewed(LOG) == LOG
