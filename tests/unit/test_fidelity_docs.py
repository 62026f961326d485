"""The tables of docs/fidelity.md are what the code does."""

from __future__ import annotations

from pathlib import Path

import msgspec

from skyplane_core.fidelity import MODE, fit
from skyplane_core.model import AttributeRules, ObjectAttributes, Unfit
from skyplane_core.mtimes import MTIME, recorded
from skyplane_core.stores.holding import AWS, AZURE, COS, GCS, LOCAL, R2, S3_COMPATIBLE, Holding

DOCUMENT = Path(__file__).parents[2] / "docs" / "fidelity.md"
STORES = (AWS, S3_COMPATIBLE, R2, COS, GCS, AZURE, LOCAL)
ALL_RULES = AttributeRules(keep_storage_class=True, keep_tags=True, keep_mtime=True, keep_mode=True, unfit=Unfit.RENAME)
MTIME_NS = 1_484_931_135_123_456_789


def probe(source: Holding) -> ObjectAttributes:
    """An object that has everything that its store can give it."""
    file = ObjectAttributes(mtime_ns=MTIME_NS, mode=0o640)
    if source is LOCAL:
        return file
    recorded_there = fit(file, ALL_RULES, source).attributes.metadata
    return ObjectAttributes(
        content_type="text/csv",
        cache_control="no-cache",
        metadata={"owner": "me", **recorded_there},
        tags={"team": "a"} if source.tags else {},
        storage_class=source.storage_classes[1] if source.storage_classes else "STANDARD_IA" if source.classes else "",
    )


def cells(source: Holding, destination: Holding) -> list[str]:
    """What becomes of each attribute, as seen."""
    before = probe(source)
    after = fit(before, ALL_RULES, destination).attributes
    headers = "-" if not before.content_type else "kept" if after.content_type == before.content_type else "dropped"
    metadata = "-" if "owner" not in before.metadata else "kept" if "owner" in after.metadata else "dropped"
    tags = "-"
    if before.tags:
        tags = (
            "kept"
            if after.tags == before.tags
            else "metadata"
            if {"tag-team", "tag_team"} & after.metadata.keys()
            else "dropped"
        )
    classes = "-"
    if before.storage_class:
        classes = "kept" if after.storage_class == before.storage_class else "dropped"
    mtime = "set" if after.mtime_ns == MTIME_NS else "dropped"
    if recorded(after.metadata) == MTIME_NS:
        mtime = f"`{MTIME}`"
    mode = "set" if after.mode == 0o640 else f"`{MODE}`" if after.metadata.get(MODE) == "0640" else "dropped"
    return [headers, metadata, tags, classes, mtime, mode]


def pairs() -> str:
    header = "| from | to | content headers | metadata | tags | storage class | time | permissions |"
    rows = [
        f"| {source.name} | {destination.name} | {' | '.join(cells(source, destination))} |"
        for source in STORES
        for destination in STORES
    ]
    return "\n".join([header, "|---" * 8 + "|", *rows])


def limits() -> str:
    header = "| store | metadata | tags | storage classes | encryption |"
    rows = []
    for store in STORES:
        size = (
            f"{store.metadata_bytes} bytes, names in lower case"
            if store.lower_case
            else f"{store.metadata_bytes} bytes"
        )
        classes = ", ".join(f"`{name}`" for name in store.storage_classes) or ("any" if store.classes else "none")
        encryptions = ", ".join(f"`{name}`" for name in store.encryptions) or "-"
        metadata = size if store.metadata else "none"
        rows.append(f"| {store.name} | {metadata} | {store.tags or 'none'} | {classes} | {encryptions} |")
    return "\n".join([header, "|---" * 5 + "|", *rows])


def test_the_table_of_pairs_is_what_the_code_does() -> None:
    assert pairs() in DOCUMENT.read_text(), f"docs/fidelity.md has another table of pairs; this is right:\n{pairs()}"


def test_the_table_of_stores_is_what_the_code_knows() -> None:
    assert limits() in DOCUMENT.read_text(), f"docs/fidelity.md has another table of stores; this is right:\n{limits()}"


def test_every_rule_is_documented() -> None:
    text = DOCUMENT.read_text()
    for field in msgspec.structs.fields(AttributeRules):
        assert f"| `{field.name}` |" in text, field.name
