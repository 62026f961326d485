"""The installed stock operator and ours, over one grid of arguments, against the same servers.

Each case has its own source and destination buckets. Compared: destination names, bodies, headers, metadata, tags,
storage classes and access control lists, what is returned, what is raised (type and text), what is logged as a warning.
"""

# ruff: noqa: TID253  # this compares with the installed stock operator
from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.providers.amazon.aws.transfers.gcs_to_s3 import GCSToS3Operator

from airflow_provider_skyplane.transfers.gcs_to_s3 import SkyplaneGCSToS3Operator
from tests.integration.airflow.differential import Did, run, seen_in_s3, world_of
from tests.servers.airflow_clouds import Clouds
from tests.servers.airflow_logging import a_logger_heard_by

TREE = {
    "data/f0": b"0" * 100,
    "data/f1": b"1" * 200,
    "data/a/f0": b"a" * 300,
    "data/a/f1.csv": b"b" * 400,
    "data/sub/deep/f0": b"c" * 500,
    "database": b"d",
}
MARKERS = {**{key: key.encode() for key in ("a/b", "a/c/d", "abc", "abcdef")}, "a/": b"", "a/c/": b"", "lonely/": b""}
ODD_NAMES = {f"odd/{name}": name.encode() for name in ("a b", "a+b", "%2F", "ü", "a#b", "q'\"&<>", "x//y", "~")}
CHANGE = {"data/f0": b"changed and longer" * 10, "data/new": b"new"}
EXTRA = {
    "ContentType": "text/csv",
    "CacheControl": "no-store",
    "ContentDisposition": "inline",
    "ContentLanguage": "en",
    "Metadata": {"team": "a"},
    "Tagging": "x=1&y=2",
    "StorageClass": "STANDARD_IA",
}

IN = {"prefix": "data/", "dest_s3_key": "s3://{dst}/in/"}
# name -> (source objects, steps); a step is the operator's arguments, or objects to write to the source.
GRID: dict[str, tuple[dict[str, bytes], list[dict[str, Any]]]] = {
    "again": (TREE, [IN, IN]),
    "replace": (TREE, [IN, {**IN, "replace": True}]),
    "changed-source": (TREE, [IN, {"_put": CHANGE}, IN]),
    "changed-source-replace": (TREE, [IN, {"_put": CHANGE}, {**IN, "replace": True}]),
    "no-slash": (TREE, [{**IN, "dest_s3_key": "s3://{dst}/in"}] * 2),
    "bucket": (TREE, [{**IN, "dest_s3_key": "s3://{dst}"}] * 2),
    "bucket-slash": (TREE, [{**IN, "dest_s3_key": "s3://{dst}/"}] * 2),
    "double-slash": (TREE, [{**IN, "dest_s3_key": "s3://{dst}//x/"}] * 2),
    "no-prefix": (TREE, [{"dest_s3_key": "s3://{dst}/in/"}] * 2),
    "prefix-no-slash": (TREE, [{**IN, "prefix": "data"}] * 2),
    "do-not-keep": (TREE, [{**IN, "keep_directory_structure": False}] * 2),
    "do-not-keep-no-prefix": (TREE, [{"dest_s3_key": "s3://{dst}/in", "keep_directory_structure": False}] * 2),
    "flatten": (TREE, [{**IN, "flatten_structure": True}] * 2),
    "flatten-do-not-keep": (TREE, [{**IN, "flatten_structure": True, "keep_directory_structure": False}] * 2),
    "flatten-replace": (
        {"a/x": b"x", "b/y": b"y", "c/": b""},
        [{"dest_s3_key": "s3://{dst}/in", "flatten_structure": True, "replace": True}] * 2,
    ),
    "flatten-markers": (MARKERS, [{"dest_s3_key": "s3://{dst}/in", "flatten_structure": True}] * 2),
    "match-glob": (TREE, [{**IN, "match_glob": "**/*.csv"}] * 2),
    "match-glob-nothing": (TREE, [{**IN, "match_glob": "*.csv"}]),
    "match-glob-one-level": (TREE, [{"dest_s3_key": "s3://{dst}/", "match_glob": "data/*"}]),
    "user-project": (TREE, [{**IN, "gcp_user_project": "test-project"}]),
    "markers": (MARKERS, [{"dest_s3_key": "s3://{dst}/m/"}] * 2),
    "odd-names": (ODD_NAMES, [{"prefix": "odd/", "dest_s3_key": "s3://{dst}/o/"}] * 2),
    "empty-object": ({"data/empty": b""}, [IN]),
    "nothing": (TREE, [{**IN, "prefix": "none/"}]),
    "extra-args": (TREE, [{**IN, "dest_s3_extra_args": EXTRA}]),
    "acl": (TREE, [{**IN, "s3_acl_policy": "public-read"}]),
    "acl-in-extra-args": (TREE, [{**IN, "dest_s3_extra_args": {"ACL": "public-read"}, "s3_acl_policy": "private"}]),
    "encrypted": (TREE, [{**IN, "dest_s3_extra_args": {"ServerSideEncryption": "AES256"}}]),
    "verify": (TREE, [{**IN, "dest_verify": False}]),
    "no-scheme": (TREE, [{**IN, "dest_s3_key": "{dst}/x/"}]),
    "other-scheme": (TREE, [{**IN, "dest_s3_key": "gs://{dst}/x/"}]),
    "no-bucket": (TREE, [{**IN, "dest_s3_key": "s3:///x/"}]),
    "no-gcp-connection": (TREE, [{**IN, "gcp_conn_id": "nowhere"}]),
}


HAVE_DUPLICATES = ("flatten", "flatten-do-not-keep")
"""Cases in which a first step finds names that become the same."""


@pytest.fixture(scope="module")
def world() -> Iterator[Clouds]:
    sources = [f"src-{name}" for name in [*GRID, "own"]]
    destinations = [f"{who}-{name}" for name in [*GRID, "own"] for who in ("stock", "ours")]
    with world_of(destinations, sources) as found:
        yield found


def put(world: Clouds, bucket: str, objects: dict[str, bytes]) -> None:
    target = world.gcs().bucket(bucket)
    for key, body in objects.items():
        blob = target.blob(key)
        blob.metadata = {"owner": "me"}
        blob.upload_from_string(body, content_type="text/x-source")


def heard(cls: Any, caplog: pytest.LogCaptureFixture) -> Any:
    """The operator with a logger that is heard, whatever Airflow does with that of its own."""
    return type(cls.__name__, (cls,), {"log": a_logger_heard_by(caplog)})


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return sorted(
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING and "Skipping duplicate" in record.getMessage()
    )


@pytest.mark.parametrize("case", GRID)
def test_ours_does_what_the_stock_operator_does(world: Clouds, case: str, caplog: pytest.LogCaptureFixture) -> None:
    objects, steps = GRID[case]
    source = f"src-{case}"
    put(world, source, objects)
    for number, step in enumerate(steps):
        if "_put" in step:
            put(world, source, step["_put"])
            continue
        did: list[tuple[Did, list[str]]] = []
        for cls, destination in ((GCSToS3Operator, f"stock-{case}"), (SkyplaneGCSToS3Operator, f"ours-{case}")):
            caplog.clear()
            did.append((run(heard(cls, caplog), {"gcs_bucket": source, **step}, destination), warned(caplog)))
        assert did[1] == did[0], number
        assert bool(did[0][1]) == (case in HAVE_DUPLICATES and number == 0)
    assert seen_in_s3(world, f"ours-{case}") == seen_in_s3(world, f"stock-{case}")
