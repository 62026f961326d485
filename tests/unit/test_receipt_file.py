"""Receipts as files: what is written is what can be read, and little of it is in memory at once."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet  # noqa: TID253 - what others read these files with

from skyplane_core import receipt_file
from skyplane_core.model import Attestation
from skyplane_core.receipt_file import TOTALS, columns, write_receipt
from skyplane_core.receipt_place import ReceiptFormat
from skyplane_core.spec import Outcome, Progress, ReceiptLine, TransferState, Verification

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
CRCS = st.none() | st.integers(0, 2**32 - 1)
LINES = st.lists(
    st.builds(
        ReceiptLine,
        key=TEXTS,
        destination=st.integers(0, 63),
        destination_key=TEXTS,
        size=st.integers(0, 2**53),
        source_version=TEXTS,
        outcome=st.sampled_from(Outcome),
        reason=TEXTS,
        crc32c=CRCS,
        attestation=st.none() | st.sampled_from(Attestation),
        crc64nvme=st.sampled_from(["", "ffffffffffffffff"]),
        verify=st.sampled_from(Verification),
    ),
    max_size=8,
)
DONE = Progress("t", TransferState.DONE, objects_copied=3)


def written(how: ReceiptFormat, lines: list[ReceiptLine]) -> bytes:
    file = io.BytesIO()
    write_receipt(file, how, DONE, iter(lines))
    return file.getvalue()


@settings(deadline=None, max_examples=60)
@given(LINES)
def test_every_format_holds_the_totals_and_every_line(lines: list[ReceiptLine]) -> None:
    plain = written(ReceiptFormat.LINES, lines)
    first, *rest = plain.splitlines()
    assert msgspec.json.decode(msgspec.json.encode(json.loads(first)["totals"]), type=Progress) == DONE
    assert [msgspec.json.decode(line, type=ReceiptLine) for line in rest] == lines
    packed = written(ReceiptFormat.GZIP, lines)
    assert gzip.decompress(packed) == plain
    assert packed == written(ReceiptFormat.GZIP, lines)
    file = parquet.ParquetFile(io.BytesIO(written(ReceiptFormat.PARQUET, lines)))
    assert msgspec.json.decode(file.schema_arrow.metadata[TOTALS.encode()], type=Progress) == DONE
    rows = file.read().to_pylist()
    assert [msgspec.convert(row, ReceiptLine) for row in rows] == lines


def test_the_columns_are_the_fields_of_a_line() -> None:
    found = dict(columns())
    assert list(found) == list(ReceiptLine.__struct_fields__)
    assert {name for name, kind in found.items() if kind == "integer"} >= {"size", "destination", "crc32c"}
    assert {name for name, kind in found.items() if kind == "text"} >= {"key", "outcome", "attestation", "verify"}


@pytest.mark.parametrize(
    ("how", "most"), [(ReceiptFormat.LINES, 51), (ReceiptFormat.GZIP, 400), (ReceiptFormat.PARQUET, 51)]
)
def test_few_lines_are_in_memory_at_once(how: ReceiptFormat, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipt_file, "GROUP_LINES", 50)
    random_bytes, file, held = random.Random(1).randbytes, io.BytesIO(), []

    def lines() -> Iterator[ReceiptLine]:
        written = last = 0
        for number in range(2000):
            if file.tell() > written:
                written, last = file.tell(), number
            held.append(number - last)
            yield ReceiptLine(random_bytes(400).hex(), 0, "k", number, "v", Outcome.COPIED, "new")

    write_receipt(file, how, DONE, lines())
    assert max(held) < most
    if how is ReceiptFormat.PARQUET:
        assert parquet.ParquetFile(file).num_row_groups == 40
