"""A receipt as one file: the totals, then a line an object and destination, as a stream in bounded memory."""

from __future__ import annotations

import enum
import gzip
import io
import itertools
from collections.abc import Iterable, Iterator
from typing import IO, Any

import msgspec

from skyplane_core.receipt_place import ReceiptFormat
from skyplane_core.spec import Progress, ReceiptLine

GROUP_LINES = 10_000
"""Lines that are in memory at once, and of a Parquet file's row groups."""
GZIP_LEVEL = 6
"""As gzip itself: the highest level makes such lines 2 % smaller, in a quarter more time."""
TOTALS = "skyplane.totals"
"""The key of the totals in the metadata of a Parquet file."""

Sink = IO[bytes] | io.RawIOBase
"""A file to write to."""

_encoder = msgspec.json.Encoder()


def write_receipt(file: Sink, how: ReceiptFormat, totals: Progress, lines: Iterable[ReceiptLine]) -> None:
    """Write a receipt to ``file``, which stays open.

    JSON lines begin with ``{"totals": ...}``; a Parquet file has the totals as JSON in its metadata.
    """
    if how is ReceiptFormat.PARQUET:
        _write_parquet(file, totals, lines)
    elif how is ReceiptFormat.GZIP:
        # Without a name and a time the same receipt is the same bytes.
        with gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as packed:
            _write_lines(packed, totals, lines)
    else:
        _write_lines(file, totals, lines)


def _write_lines(file: Any, totals: Progress, lines: Iterable[ReceiptLine]) -> None:
    file.write(_encoder.encode({"totals": totals}) + b"\n")
    for group in _groups(lines):
        file.write(b"".join(_encoder.encode(line) + b"\n" for line in group))


def _write_parquet(file: Sink, totals: Progress, lines: Iterable[ReceiptLine]) -> None:
    import pyarrow
    import pyarrow.parquet

    types = {"integer": pyarrow.int64(), "text": pyarrow.string()}
    schema = pyarrow.schema(
        [pyarrow.field(name, types[kind]) for name, kind in columns()],
        metadata={TOTALS: _encoder.encode(totals)},
    )
    with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _groups(lines):
            table = {name: [_plain(getattr(line, name)) for line in group] for name in schema.names}
            writer.write_table(pyarrow.table(table, schema))


def columns() -> list[tuple[str, str]]:
    """The columns of a Parquet receipt: the fields of a line, each ``integer`` or ``text``."""
    fields = msgspec.structs.fields(ReceiptLine)
    return [(field.name, "integer" if field.type in {int, int | None} else "text") for field in fields]


def _plain(value: Any) -> Any:
    """Enums are their values, as in JSON."""
    return value.value if isinstance(value, enum.Enum) else value


def _groups(lines: Iterable[ReceiptLine]) -> Iterator[list[ReceiptLine]]:
    stream = iter(lines)
    while group := list(itertools.islice(stream, GROUP_LINES)):
        yield group
