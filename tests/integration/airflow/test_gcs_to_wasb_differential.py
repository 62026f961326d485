"""The installed stock GCSToAzureBlobStorageOperator and ours, over one grid of arguments, against the same servers."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from airflow.providers.microsoft.azure.transfers.gcs_to_wasb import GCSToAzureBlobStorageOperator

from airflow_provider_skyplane.transfers.gcs_to_wasb import SkyplaneGCSToAzureBlobStorageOperator
from tests.servers.airflow_azure import OTHER_TYPE, Three
from tests.servers.differential import Case, Differs, Pair, case, names_of, world_of

PAIR = Pair(GCSToAzureBlobStorageOperator, SkyplaneGCSToAzureBlobStorageOperator, "gcs", "azure")
TREE = {"in/a": b"a" * 100, "in/b.csv": b"b" * 200, "in/sub/a": b"c" * 300, "in/sub/e": b"", "in/": b"", "top": b"x"}
ALL = {"gcs_bucket": "{src}", "container_name": "{dst}", "blob_prefix": "out"}
FLAT = {**ALL, "flatten_structure": True, "keep_directory_structure": False}
APPENDED = {**ALL, "prefix": "in/sub", "keep_directory_structure": False}
NEW = {"in/a": b"changed", "in/new": b"new"}

GRID: dict[str, Case] = {
    "all": case(TREE, ALL, ALL),
    "replace": case(TREE, ALL, {"put": NEW}, {**ALL, "replace": True}),
    "changed": case(TREE, ALL, {"put": NEW}, ALL),
    "prefix": case(TREE, {**ALL, "prefix": "in/"}),
    "prefix-in-a-name": case(TREE, {**ALL, "prefix": "in/s"}),
    "root": case(TREE, {**ALL, "blob_prefix": ""}, {**ALL, "blob_prefix": ""}),
    "slash": case(TREE, {**ALL, "blob_prefix": "out/"}, {**ALL, "blob_prefix": "out/"}),
    "prefix-appended": case(TREE, APPENDED, APPENDED),
    "prefix-appended-slash": case(TREE, {**APPENDED, "prefix": "in/sub/"}),
    "flat": case(TREE, FLAT, FLAT),
    "flat-replace": case(TREE, {**FLAT, "replace": True}, {"put": NEW}, {**FLAT, "replace": True}),
    "flat-prefix": case(TREE, {**FLAT, "prefix": "in/sub/"}),
    "flat-there": case(TREE, {"there": {"out/a": b"old"}}, FLAT),
    "flat-and-kept": case(TREE, {**FLAT, "keep_directory_structure": True}),
    "glob": case(TREE, {**ALL, "match_glob": "in/*"}, {**ALL, "match_glob": "**.csv", "replace": True}),
    "glob-flat": case(TREE, {**FLAT, "match_glob": "**/a"}),
    "nothing": case(TREE, {**ALL, "prefix": "none"}, {**ALL, "prefix": "none", "replace": True}),
    "only-markers": case({"in/": b"", "in/x/": b""}, ALL, {**ALL, "replace": True}),
    "create": case(TREE, {**ALL, "create_container": True, "replace": True}),
    "create-not-for-nothing": case(TREE, {**ALL, "prefix": "none", "create_container": True, "replace": True}),
    "user-project": case(TREE, {**ALL, "gcp_user_project": "who-pays"}),
    "odd-names": case(
        {name: name.encode() for name in ("a b", "a+b", "%2F", "ü", "a?b", "a#b", "q'\"&<>", "x//y")}, ALL
    ),
    "no-connection": case(TREE, {**ALL, "wasb_conn_id": "nowhere", "replace": True}),
    "unknown-argument": case(TREE, {**ALL, "no_such": 1}),
}
TO_CREATE = ("create", "create-not-for-nothing", "create-to-look")
COPIED = {f"out/{key}": body for key, body in TREE.items() if not key.endswith("/")}
# docs/migrating-azure.md has each of them.
DIFFERENCES: dict[str, Differs] = {
    "create-to-look": Differs(
        case(TREE, {**ALL, "create_container": True}), "ResourceNotFoundError", sorted(COPIED), COPIED
    ),
    "name-of-another-blob": Differs(
        case({"outer/a": b"1"}, {"there": {"outer/a": b"2"}}, ALL),
        [],
        ["out/outer/a"],
        {"outer/a": b"2", "out/outer/a": b"1"},
    ),
    "leading-slash": Differs(case({"/a": b"1"}, ALL), ["/a"], ["out//a"], {"out//a": b"1"}),
    "blank": Differs(case({" ": b"1"}, ALL), [], ["out/ "], {"out/ ": b"1"}),
    "no-such-bucket": Differs(case(TREE, {**ALL, "gcs_bucket": "nowhere"}), "NotFound", "gs://nowhere", {}),
    "no-such-container": Differs(
        case(TREE, {**ALL, "container_name": "nowhere"}), "ResourceNotFoundError", "create the container", {}
    ),
    "empty-container-name": Differs(case(TREE, {**ALL, "container_name": ""}), "ValueError", "container_name is", {}),
}


@pytest.fixture(scope="module")
def world() -> Iterator[Three]:
    with world_of(PAIR, [*GRID, *DIFFERENCES, "kept", "duplicates-False", "duplicates-True"], TO_CREATE) as found:
        yield found


@pytest.mark.parametrize("name", GRID)
def test_ours_does_what_the_stock_operator_does(world: Three, name: str) -> None:
    PAIR.check_same(world, name, GRID[name])


@pytest.mark.parametrize("name", DIFFERENCES)
def test_differences_on_purpose(world: Three, name: str) -> None:
    PAIR.check_difference(world, name, DIFFERENCES[name])


@pytest.mark.parametrize("replace", [False, True])
def test_duplicates_are_told_in_the_same_words(
    world: Three, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, replace: bool
) -> None:
    # Airflow's own logger goes where its configuration says.
    log = logging.getLogger("a-task")
    monkeypatch.setattr(log, "handlers", [caplog.handler])
    monkeypatch.setattr(log, "propagate", False)
    duplicates = case(TREE, *[{**FLAT, "replace": replace}] * 2)
    told = []
    for who, cls in (("stock", PAIR.stock), ("ours", PAIR.ours)):
        monkeypatch.setattr(cls, "log", log)
        caplog.clear()
        PAIR.run_all(world, cls, duplicates, *names_of(who, f"duplicates-{replace}"))
        told.append([message for message in caplog.messages if message.startswith("Skipping")])
    # Once the name is at the destination, nothing is skipped for being a duplicate.
    assert told == [["Skipping duplicate file in/sub/a (transforms to a)"] * (2 if replace else 1)] * 2


def test_the_opt_ins(world: Three) -> None:
    source, destination = names_of("ours", "kept")
    world.put("gcs", source, TREE)
    step = {**ALL, "prefix": "in/sub", "preserve_metadata": True, "compare": "exact", "receipt_path": "receipts"}
    assert PAIR.run(PAIR.ours, step, source, destination).returned == ["out/in/sub/a", "out/in/sub/e"]
    assert PAIR.run(PAIR.ours, step, source, destination).returned == []
    world.put("gcs", source, {"in/sub/a": b"changed"})
    assert PAIR.run(PAIR.ours, step, source, destination).returned == ["out/in/sub/a"]
    kind, _, metadata, body = (world.objects("azure", destination) or {})["out/in/sub/a"]
    assert (kind, metadata["a"], body) == (OTHER_TYPE, "b", b"changed")
