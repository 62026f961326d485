"""The installed stock AzureBlobStorageToGCSOperator and ours, over one grid of arguments, against the same servers."""

# ruff: noqa: TID253  # this compares with the installed stock operator
from __future__ import annotations

import gzip
import os
from collections.abc import Iterator

import pytest
from airflow.providers.google.cloud.transfers.azure_blob_to_gcs import AzureBlobStorageToGCSOperator

from airflow_provider_skyplane.transfers.azure_blob_to_gcs import SkyplaneAzureBlobStorageToGCSOperator
from tests.servers.airflow_azure import OTHER_TYPE, Three
from tests.servers.differential import Case, Differs, Pair, case, names_of, world_of

PAIR = Pair(AzureBlobStorageToGCSOperator, SkyplaneAzureBlobStorageToGCSOperator, "azure", "gcs")
TREE = {"in/a": b"a" * 100, "empty": b"", "a b/ü?#%2F": b"odd", "dir/": b"marker"}
ONE = {
    "container_name": "{src}",
    "blob_name": "in/a",
    "bucket_name": "{dst}",
    "object_name": "out/x",
    "filename": "unused",
    "gzip": False,
    "unwrap_single": True,
}

GRID: dict[str, Case] = {
    "plain": case(TREE, {**ONE, "unwrap_single": None}),
    "again": case(TREE, ONE, {"put": {"in/a": b"changed"}}, {**ONE, "unwrap_single": False}),
    "there": case(TREE, {"there": {"out/x": b"old"}}, ONE),
    "empty": case(TREE, {**ONE, "blob_name": "empty"}),
    "odd-names": case(TREE, {**ONE, "blob_name": "a b/ü?#%2F", "object_name": "q'\"&<> ü/?#%2F"}),
    "marker": case(TREE, {**ONE, "blob_name": "dir/", "object_name": "to/"}),
    "leading-slash": case(TREE, {**ONE, "object_name": "/x//y"}),
    "no-azure-connection": case(TREE, {**ONE, "wasb_conn_id": "nowhere"}),
    "no-gcp-connection": case(TREE, {**ONE, "gcp_conn_id": "nowhere"}),
    "unknown-argument": case(TREE, {**ONE, "no_such": 1}),
    "gzip-no-such-blob": case(TREE, {**ONE, "gzip": True, "blob_name": "none"}),
}
# docs/migrating-azure.md has each of them.
DIFFERENCES: dict[str, Differs] = {
    "no-such-blob": Differs(case(TREE, {**ONE, "blob_name": "none"}), "ResourceNotFoundError", "/none", {}),
    "no-such-container": Differs(
        case(TREE, {**ONE, "container_name": "nowhere"}), "ResourceNotFoundError", "az://account/nowhere", {}
    ),
    "no-such-bucket": Differs(case(TREE, {**ONE, "bucket_name": "nowhere"}), "NotFound", "gs://nowhere", {}),
    "a-directory": Differs(
        case({"in/a": b"1"}, {**ONE, "blob_name": "in"}), "ResourceNotFoundError", "a prefix with objects under it", {}
    ),
    "empty-object-name": Differs(case(TREE, {**ONE, "object_name": ""}), "BadRequest", "object_name is empty", {}),
}


@pytest.fixture(scope="module")
def world() -> Iterator[Three]:
    with world_of(PAIR, [*GRID, *DIFFERENCES, "gzip", "kept"]) as found:
        yield found


@pytest.mark.parametrize("name", GRID)
def test_ours_does_what_the_stock_operator_does(world: Three, name: str) -> None:
    PAIR.check_same(world, name, GRID[name])


@pytest.mark.parametrize("name", DIFFERENCES)
def test_differences_on_purpose(world: Three, name: str) -> None:
    PAIR.check_difference(world, name, DIFFERENCES[name])


def test_gzip_gives_the_same_object(world: Three) -> None:
    """The header may hold a time and a file name; the rest is what counts. Large enough for several requests."""
    body = os.urandom(9_000_000)
    compressed = case({"in/a": body}, {**ONE, "gzip": True}, {**ONE, "gzip": True, "unwrap_single": False})
    found = []
    for who, cls in (("stock", PAIR.stock), ("ours", PAIR.ours)):
        source, destination = names_of(who, "gzip")
        outcomes = PAIR.run_all(world, cls, compressed, source, destination)
        kind, encoding, metadata, stored = (world.objects("gcs", destination) or {})["out/x"]
        assert stored.startswith(b"\x1f\x8b\x08")
        assert gzip.decompress(stored) == body
        found.append((outcomes, kind, encoding, metadata))
    assert found[0] == found[1]


def test_the_opt_ins(world: Three) -> None:
    source, destination = names_of("ours", "kept")
    world.put("azure", source, TREE)
    step = {**ONE, "preserve_metadata": True, "return_summary": True, "receipt_path": "receipts"}
    outcome = PAIR.run(PAIR.ours, step, source, destination)
    assert outcome.raised is None
    assert (outcome.returned["objects_copied"], outcome.returned["bytes_copied"]) == (1, 100)
    found = world.objects("gcs", destination) or {}
    assert found.pop("out/x") == (OTHER_TYPE, None, {"a": "b"}, b"a" * 100)
    assert [name.split("/")[0] for name in found] == ["receipts"]
