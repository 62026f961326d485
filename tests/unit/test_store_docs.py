"""docs/adding-a-store.md names what is there."""

from __future__ import annotations

import re
from pathlib import Path

from skyplane_core.stores.base import CopyingStore, DataPath, ObjectStore, TaggedStore

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "adding-a-store.md").read_text()


def test_the_calls_of_the_protocol_are_listed() -> None:
    for protocol in (ObjectStore, DataPath, TaggedStore, CopyingStore):
        [row] = [line for line in TEXT.splitlines() if line.startswith(f"| `{protocol.__name__}` |")]
        calls = {name for name in vars(protocol) if not name.startswith("_")}
        assert set(re.findall("`([a-z_]+)`", row.rpartition("|")[0].rpartition("|")[2])) == calls


def test_the_files_that_are_named_are_there() -> None:
    named = set(re.findall(r"`((?:skyplane_core|airflow_provider_skyplane|tests|stores)/[a-z0-9_/.]+)`", TEXT))
    assert len(named) > 10
    for name in named:
        path = ROOT / (f"skyplane_core/{name}" if name.startswith("stores/") else name)
        assert path.exists(), name


def test_where_a_kind_is_registered_is_where_it_says() -> None:
    rows = re.findall(r"^\| [^|]+ \| (`[^|]+) \|$", TEXT.partition("## Where a kind")[2], re.MULTILINE)
    assert len(rows) == 6
    for row in rows:
        for names, path in re.findall(r"((?:`[\w.]+`(?:, )?)+) in `([\w/.]+\.py)`", row):
            source = (ROOT / path).read_text()
            for name in re.findall(r"`([\w.]+)`", names):
                assert re.search(rf"\b{name.rpartition('.')[2]}\b", source), (name, path)
