"""The installed stock AzureBlobStorageToS3Operator and ours, over one grid of arguments, against the same servers."""

# ruff: noqa: TID253  # this compares with the installed stock operator
from __future__ import annotations

from collections.abc import Iterator

import pytest
from airflow.providers.amazon.aws.transfers.azure_blob_to_s3 import AzureBlobStorageToS3Operator

from airflow_provider_skyplane.transfers.azure_blob_to_s3 import SkyplaneAzureBlobStorageToS3Operator
from tests.servers.airflow_azure import Three
from tests.servers.differential import Case, Differs, Pair, case, world_of

PAIR = Pair(AzureBlobStorageToS3Operator, SkyplaneAzureBlobStorageToS3Operator, "azure", "s3")
TREE = {"in/a": b"a" * 100, "in/b.csv": b"b" * 200, "in/sub/c.csv": b"c" * 300, "in/sub/d": b"", "top.csv": b"x"}
MARKERS = {**{key: key.encode() for key in ("a/b", "a/c/d", "abc", "abcdef")}, "a/": b"", "a/c/": b"", "lonely/": b""}
ALL = {"container_name": "{src}", "dest_s3_key": "s3://{dst}/out"}
NEW = {"in/a": b"changed", "in/new": b"new"}

GRID: dict[str, Case] = {
    "all": case(TREE, ALL, ALL),
    "replace": case(TREE, ALL, {"put": NEW}, {**ALL, "replace": True}),
    "changed": case(TREE, ALL, {"put": NEW}, ALL),
    "prefix": case(TREE, {**ALL, "prefix": "in/"}),
    "prefix-in-a-name": case(TREE, {**ALL, "prefix": "in/s"}),
    "ends": case(TREE, {**ALL, "delimiter": ".csv"}, {**ALL, "delimiter": ".csv"}),
    "ends-in-slash": case(MARKERS, {**ALL, "delimiter": "/"}),
    "ends-in-pattern": case({"a[*]": b"1", "ab": b"2", "a*": b"3"}, {**ALL, "delimiter": "[*]"}),
    "prefix-and-end": case(TREE, {**ALL, "prefix": "in/sub", "delimiter": "d"}),
    "nothing": case(TREE, {**ALL, "prefix": "none"}, {**ALL, "prefix": "none", "replace": True}),
    "slash": case(TREE, {**ALL, "dest_s3_key": "s3://{dst}/out/"}),
    "slashes": case(TREE, {**ALL, "dest_s3_key": "s3://{dst}//out//"}),
    "bucket": case(TREE, {**ALL, "dest_s3_key": "s3://{dst}"}),
    "bucket-slash": case(TREE, {**ALL, "dest_s3_key": "s3://{dst}/", "replace": True}),
    "capitals": case(TREE, {**ALL, "dest_s3_key": "S3://{dst}/out"}),
    "markers": case(MARKERS, ALL, ALL),
    "odd-names": case({name: name.encode() for name in ("a b", "a+b", "%2F", "ü", "q'\"&<>", "x//y", "~", "a#b")}, ALL),
    "extra-arguments": case(
        TREE,
        {**ALL, "dest_s3_extra_args": {"ContentType": "text/x-mine", "Metadata": {"team": "a"}}},
    ),
    "hook-arguments": case(
        TREE,
        {
            **ALL,
            "dest_verify": False,
            "s3_extra_args": {"region_name": "us-east-1", "transfer_config_args": {"use_threads": False}},
            "s3_acl_policy": "bucket-owner-full-control",
        },
    ),
    "no-bucket": case(TREE, {**ALL, "dest_s3_key": "s3:///out"}),
    "no-scheme": case(TREE, {**ALL, "dest_s3_key": "{dst}/out"}),
    "no-connection": case(TREE, {**ALL, "wasb_conn_id": "nowhere"}),
    "unknown-argument": case(TREE, {**ALL, "no_such": 1}),
}

COPIED = {f"out/{key}": body for key, body in TREE.items()}
# docs/migrating-azure.md has each of them.
DIFFERENCES: dict[str, Differs] = {
    "again-slash": Differs(case(TREE, *[{**ALL, "dest_s3_key": "s3://{dst}/out/"}] * 2), "ValueError", [], COPIED),
    "again-bucket": Differs(case(TREE, *[{**ALL, "dest_s3_key": "s3://{dst}"}] * 2), "ValueError", [], TREE),
    "name-of-another-object": Differs(
        case({"outer/a": b"1"}, {"there": {"outer/a": b"2"}}, ALL),
        [],
        ["outer/a"],
        {"outer/a": b"2", "out/outer/a": b"1"},
    ),
    "question-marks": Differs(
        case({"a?b": b"1", "a?c": b"2"}, {**ALL, "replace": True}),
        ["a?b", "a?c"],
        ["a?b", "a?c"],
        {"out/a?b": b"1", "out/a?c": b"2"},
    ),
    "leading-slash": Differs(case({"/a": b"1"}, ALL), "TypeError", ["/a"], {"out//a": b"1"}),
    "no-such-container": Differs(
        case(TREE, {**ALL, "container_name": "nowhere"}), "ResourceNotFoundError", "az://account/nowhere", {}
    ),
    "empty-container-name": Differs(case(TREE, {**ALL, "container_name": ""}), "ValueError", "container_name is", {}),
}


@pytest.fixture(scope="module")
def world() -> Iterator[Three]:
    with world_of(PAIR, [*GRID, *DIFFERENCES]) as found:
        yield found


@pytest.mark.parametrize("name", GRID)
def test_ours_does_what_the_stock_operator_does(world: Three, name: str) -> None:
    PAIR.check_same(world, name, GRID[name])


@pytest.mark.parametrize("name", DIFFERENCES)
def test_differences_on_purpose(world: Three, name: str) -> None:
    PAIR.check_difference(world, name, DIFFERENCES[name])
