"""The installed stock S3ToAzureBlobStorageOperator and ours, over one grid of arguments, against the same servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from airflow.providers.microsoft.azure.transfers.s3_to_wasb import S3ToAzureBlobStorageOperator

from airflow_provider_skyplane.transfers.s3_to_wasb import SkyplaneS3ToAzureBlobStorageOperator
from tests.servers.airflow_azure import Three
from tests.servers.differential import Case, Differs, Pair, case, world_of

PAIR = Pair(S3ToAzureBlobStorageOperator, SkyplaneS3ToAzureBlobStorageOperator, "s3", "azure")
TREE = {"in/a": b"a" * 100, "in/b.csv": b"b" * 200, "in/sub/c": b"c" * 300, "in/sub/deep/d": b"", "other": b"x"}
ENDS = {"s3_bucket": "{src}", "container_name": "{dst}", "s3_verify": True}
ALL = {**ENDS, "s3_prefix": "in", "blob_prefix": "out"}
ONE = {**ENDS, "s3_key": "in/b.csv", "blob_name": "x/y.csv"}

GRID: dict[str, Case] = {
    "directory": case(TREE, ALL, unordered=True),
    "directory-replace": case(TREE, {**ALL, "replace": True}),
    "blob-prefix-slash": case(TREE, {**ALL, "blob_prefix": "out/"}, unordered=True),
    "nested-markers": case({**TREE, "in/sub/": b""}, {**ALL, "replace": True}),
    "nothing": case(TREE, {**ALL, "s3_prefix": "none"}, {**ALL, "s3_prefix": "none", "replace": True}),
    "key": case(TREE, ONE),
    "key-replace": case(TREE, {**ONE, "replace": True}),
    "key-wins": case(TREE, {**ONE, "s3_prefix": "none", "blob_prefix": "none"}),
    "key-to-prefix": case(TREE, {**ENDS, "s3_key": "in/sub/c", "blob_prefix": "out"}),
    "key-of-a-marker": case({"in/": b""}, {**ENDS, "s3_key": "in/", "blob_prefix": "out"}),
    "marker-by-name": case({"in/": b""}, {**ENDS, "s3_key": "in/", "blob_name": "x/"}),
    "key-there": case(TREE, {"there": {"x/b.csv": b"old"}}, {**ONE, "blob_name": "x/b.csv"}),
    "one-key-under-prefix": case(TREE, {**ALL, "s3_prefix": "in/sub/deep", "blob_name": "x/y"}),
    "no-key-under-prefix": case(TREE, {**ALL, "s3_prefix": "none", "blob_name": "x/y"}),
    "too-many": case(TREE, {**ALL, "blob_name": "x"}, {**ALL, "blob_name": "x", "replace": True}),
    "no-destination": case(TREE, {**ENDS, "s3_prefix": "in"}, {**ENDS, "s3_key": "in/a"}),
    "no-destination-replace": case(TREE, {**ENDS, "s3_prefix": "in", "replace": True}),
    "no-source": case(TREE, {**ENDS, "blob_prefix": "out"}, {**ENDS, "blob_prefix": "out", "replace": True}),
    "create": case(TREE, {**ONE, "blob_name": "b.csv", "create_container": True}),
    "create-twice": case(TREE, *[{**ONE, "blob_name": "b.csv", "create_container": True}] * 2),
    "create-not-for-nothing": case(TREE, {**ALL, "s3_prefix": "no", "create_container": True, "replace": True}),
    "hook-arguments": case(
        TREE,
        {**ALL, "s3_extra_args": {"region_name": "us-east-1", "transfer_config_args": {"use_threads": False}}},
        unordered=True,
    ),
    "odd-names": case(
        {f"in/{name}": name.encode() for name in ("a b", "a+b", "%2F", "ü", "a?b", "a#b", "q'\"&<>", "x//y", "~")},
        ALL,
        unordered=True,
    ),
    "no-connection": case(TREE, {**ONE, "wasb_conn_id": "nowhere"}),
    "unknown-hook-argument": case(TREE, {**ONE, "no_such": 1}),
}
TO_CREATE = ("create", "create-twice", "create-not-for-nothing", "create-to-prefix")


COPIED = {"out/a": b"a" * 100, "out/b.csv": b"b" * 200, "out/sub/c": b"c" * 300, "out/sub/deep/d": b""}
NAMES = sorted(name.removeprefix("out/") for name in COPIED)
# docs/migrating-azure.md has each of them.
DIFFERENCES: dict[str, Differs] = {
    "prefix-slash": Differs(case(TREE, {**ALL, "s3_prefix": "in/"}), "ClientError", NAMES, COPIED),
    "again": Differs(case(TREE, ALL, ALL), "ResourceExistsError", [], COPIED),
    "changed": Differs(case(TREE, ALL, {"put": {"in/a": b"new"}}, ALL), "ResourceExistsError", [], COPIED),
    "replace-there": Differs(
        case(TREE, {"there": {"out/a": b"old"}}, {**ALL, "replace": True}), "ResourceExistsError", NAMES, COPIED
    ),
    "key-there-by-another-name": Differs(
        case(TREE, {"there": {"x/y.csv": b"old"}}, ONE), "ResourceExistsError", [], {"x/y.csv": b"old"}
    ),
    "key-there-under-prefix": Differs(
        case(TREE, {"there": {"out/c": b"old"}}, {**ENDS, "s3_key": "in/sub/c", "blob_prefix": "out"}),
        "ResourceExistsError",
        [],
        {"out/c": b"old"},
    ),
    "name-of-another-blob": Differs(
        case({"in/out/x": b"1"}, {"there": {"out/x": b"2"}}, ALL), [], ["out/x"], {"out/x": b"2", "out/out/x": b"1"}
    ),
    "own-marker": Differs(case({"in/": b"", "in/a": b"1"}, ALL), "InvalidKeyComponents", ["a"], {"out/a": b"1"}),
    "own-marker-slash": Differs(
        case({"in/": b"", "in/a": b"1"}, {**ALL, "s3_prefix": "in/"}), "ClientError", ["a"], {"out/a": b"1"}
    ),
    "create-to-prefix": Differs(case(TREE, {**ALL, "create_container": True}), "ResourceNotFoundError", NAMES, COPIED),
    "prefix-in-a-name": Differs(
        case({"in2/a": b"1"}, {**ALL, "replace": True}), "ClientError", "let the source's prefix end in a slash", {}
    ),
    "prefix-is-an-object": Differs(
        case({"in": b"1"}, {**ALL, "replace": True}), "ClientError", "the key 'in' is not under 'in/'", {}
    ),
    "no-source-but-a-name": Differs(
        case(TREE, {**ENDS, "blob_name": "x"}), "TooManyFilesToMoveException", "InvalidKeyComponents", {}
    ),
    "names-that-azure-changes": Differs(
        case({"in/a.": b"1", "in/b": b"2"}, {**ALL, "replace": True}), ["a.", "b"], "in/a.: ", {"out/b": b"2"}
    ),
    "wasb-arguments": Differs(
        case(TREE, {**ONE, "wasb_extra_args": {"public_read": False}}), "TypeError", ["b.csv"], {"x/y.csv": b"b" * 200}
    ),
    "no-such-key": Differs(case(TREE, {**ONE, "s3_key": "none"}), "ClientError", "s3://{src}/none", {}),
    "no-such-container": Differs(
        case(TREE, {**ALL, "container_name": "nowhere"}), "ResourceNotFoundError", "create the container", {}
    ),
    "empty-container-name": Differs(case(TREE, {**ALL, "container_name": ""}), "ValueError", "container_name is", {}),
}


@pytest.fixture(scope="module")
def world() -> Iterator[Three]:
    with world_of(PAIR, [*GRID, *DIFFERENCES], TO_CREATE) as found:
        yield found


@pytest.mark.parametrize("name", GRID)
def test_ours_does_what_the_stock_operator_does(world: Three, name: str) -> None:
    PAIR.check_same(world, name, GRID[name])


@pytest.mark.parametrize("name", DIFFERENCES)
def test_differences_on_purpose(world: Three, name: str) -> None:
    PAIR.check_difference(world, name, DIFFERENCES[name])
