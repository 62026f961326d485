"""Manifests: files that name the objects to transfer. See docs/sync.md."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from skyplane_core.errors import UsageError

KEY_COLUMNS = ("key", "name", "blob")
"""What the column with the keys is called in an inventory's header; the first of them that is there counts."""


def read_manifest(path: Path) -> tuple[str, ...]:
    """The keys that a file names, ascending: one a line, or in a CSV (``.csv``) those of its key column.

    Keys are taken as they stand, never unquoted; empty lines are left out.

    Raises:
        UsageError: it cannot be read, names no key, or is a CSV without a key column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                return manifest_keys(_column(csv.reader(file, strict=True), path), str(path))
            return manifest_keys((line.removesuffix("\n").removesuffix("\r") for line in file), str(path))
    except OSError as error:
        raise UsageError("the manifest cannot be read", where=str(path), why=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise UsageError("the manifest is not UTF-8", where=str(path)) from error
    except csv.Error as error:
        raise UsageError("the manifest is not CSV", where=str(path), why=str(error)) from error


def manifest_keys(keys: Iterable[str], where: str = "") -> tuple[str, ...]:
    """Keys as a transfer takes them: ascending, each once.

    Raises:
        UsageError: there is none.
    """
    found = tuple(sorted({key for key in keys if key}))
    if not found:
        raise UsageError("the manifest names no object", where=where)
    return found


def _column(rows: Iterable[list[str]], path: Path) -> Iterable[str]:
    lines = iter(rows)
    header = [name.strip().casefold() for name in next(lines, [])]
    index = next((header.index(name) for name in KEY_COLUMNS if name in header), None)
    if index is None:
        raise UsageError(
            "the manifest has no column with keys",
            where=str(path),
            why=f"its first line names none of {', '.join(KEY_COLUMNS)}",
            next_step="Write a header line, or one key a line into a file that does not end in .csv.",
        )
    return (row[index] for row in lines if len(row) > index)
