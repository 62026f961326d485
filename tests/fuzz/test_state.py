"""State objects that somebody has changed at the destination: journals and receipts."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given

from skyplane_core.coordinator.deletions import read_deletions
from skyplane_core.coordinator.journal import decode, replay
from skyplane_core.coordinator.receipt import read_receipt
from skyplane_core.errors import StoreRejected
from tests.fuzz.mutation import CORPUS, corpus, effort, mutated

SUMMARY = (CORPUS / "receipt" / "summary").read_bytes()
LINES = (CORPUS / "receipt" / "lines").read_bytes()
DOOMED = b'{"key":"to/a","version":"etag:1","size":5}\n{"key":"to/\\u00fc","version":"2","size":0}\n'


@effort(500)
@given(mutated(corpus("journal")))
def test_a_journal(data: bytes) -> None:
    try:
        found = replay(decode(data))
    except StoreRejected:
        return
    assert sum(map(len, found.values())) <= data.count(b"\n") + data.count(b"\r") + 1


@effort(500)
@given(mutated([DOOMED]))
def test_a_list_of_deletions(data: bytes) -> None:
    with contextlib.suppress(StoreRejected):
        for doomed in read_deletions(lambda _key: data, ["state/deletions-1-000000.jsonl"]):
            assert isinstance(doomed.key, str)


@effort(500)
@given(mutated([SUMMARY]), mutated([LINES]))
def test_a_receipt(summary: bytes, lines: bytes) -> None:
    asked: list[str] = []

    def get(key: str) -> bytes:
        asked.append(key)
        return summary if key == "state/receipt.json" else lines

    with contextlib.suppress(StoreRejected):
        list(read_receipt(get, "state/")[1])
    assert all(key.startswith("state/receipt") for key in asked)


def test_the_seeds_are_what_they_should_be() -> None:
    assert replay(decode(corpus("journal")[0])) == {}
    assert [doomed.key for doomed in read_deletions(lambda _key: DOOMED, ["x"])] == ["to/a", "to/ü"]
    progress, lines = read_receipt(lambda key: SUMMARY if key.endswith("receipt.json") else LINES, "state/")
    assert progress.transfer_id == "t1"
    assert len(list(lines)) == 2


def test_a_receipt_reads_nothing_but_its_own_segments() -> None:
    foreign = SUMMARY.replace(b"state/receipt-", b"other/object-")
    with pytest.raises(StoreRejected, match="segment"):
        read_receipt(lambda _key: foreign, "state/")
