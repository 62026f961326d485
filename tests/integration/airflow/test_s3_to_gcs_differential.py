"""The installed stock operator and ours, over one grid of arguments, against the same servers.

Each case has its own source and destination buckets. Compared: destination names, bodies, content types, what is
returned, what is raised (type and text), what is warned.
"""

# ruff: noqa: TID253  # this compares with the installed stock operator
from __future__ import annotations

import gzip
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.providers.google.cloud.transfers.s3_to_gcs import S3ToGCSOperator

from airflow_provider_skyplane.transfers.s3_to_gcs import SkyplaneS3ToGCSOperator
from skyplane_core.client import SkyplaneClient
from tests.integration.airflow.differential import world_of
from tests.servers.airflow_clouds import Clouds

OWN_GATEWAYS = SkyplaneClient.dataplane
TREE = {
    "data/f000000": b"0" * 100,
    "data/f000001": b"1" * 200,
    "data/a/f000000": b"a" * 300,
    "data/a/f000001": b"b" * 400,
    "data/sub/deep/f000000": b"c" * 500,
}
MARKERS = {**{key: key.encode() for key in ("a/b", "a/c/d", "abc", "abcdef")}, "a/": b"", "a/c/": b"", "lonely/": b""}
ODD_NAMES = {f"odd/{name}": name.encode() for name in ("a b", "a+b", "%2F", "ü", "a?b", "a#b", "q'\"&<>", "x//y", "~")}
CHANGE = {"data/f000000": b"changed and longer" * 10, "data/new": b"new"}

IN = {"prefix": "data/", "dest_gcs": "gs://{dst}/in/"}
# name -> (source objects, steps); a step is the operator's arguments, or objects to write to the source.
GRID: dict[str, tuple[dict[str, bytes], list[dict[str, Any]]]] = {
    "plain": (TREE, [IN]),
    "again": (TREE, [IN, IN]),
    "replace": (TREE, [IN, {**IN, "replace": True}]),
    "changed-source": (TREE, [IN, {"_put": CHANGE}, IN]),
    "changed-source-replace": (TREE, [IN, {"_put": CHANGE}, {**IN, "replace": True}]),
    "apply-prefix": (TREE, [{"prefix": "data/", "dest_gcs": "gs://{dst}/ap/", "apply_gcs_prefix": True}] * 2),
    "apply-prefix-no-slash": (TREE, [{"prefix": "data", "dest_gcs": "gs://{dst}/ns/", "apply_gcs_prefix": True}] * 2),
    "apply-prefix-empty": (TREE, [{"prefix": "", "dest_gcs": "gs://{dst}/ep/", "apply_gcs_prefix": True}] * 2),
    "apply-prefix-wildcard": (
        TREE,
        [{"prefix": "data/*0", "dest_gcs": "gs://{dst}/aw/", "apply_gcs_prefix": True, "apply_wildcard": True}],
    ),
    "apply-prefix-root": (TREE, [{"prefix": "data/", "dest_gcs": "gs://{dst}", "apply_gcs_prefix": True}]),
    "delimiter": (TREE, [{**IN, "delimiter": "/"}]),
    "delimiter-top": (TREE, [{"delimiter": "/", "dest_gcs": "gs://{dst}/"}]),
    "wildcard": (TREE, [{**IN, "prefix": "data/*0", "apply_wildcard": True, "region_name": "us-east-1"}] * 2),
    "wildcard-off": (TREE, [{**IN, "prefix": "data/*0"}]),
    "wildcard-without-star": (TREE, [{**IN, "apply_wildcard": True}]),
    "botocore-config": (TREE, [{**IN, "botocore_config": {"s3": {"addressing_style": "path"}}, "verify": False}]),
    "uris": (TREE, [{**IN, "return_gcs_uris": True}, {**IN, "return_gcs_uris": True}]),
    "uris-apply-prefix": (TREE, [{**IN, "return_gcs_uris": True, "apply_gcs_prefix": True, "replace": True}]),
    "root": (TREE, [{"prefix": "data/", "dest_gcs": "gs://{dst}"}]),
    "double-slash": (TREE, [{"prefix": "data/", "dest_gcs": "gs://{dst}//x/"}]),
    "one-object": (TREE, [{"prefix": "data/f000000", "dest_gcs": "gs://{dst}/in/"}]),
    "whole-bucket": (TREE, [{"dest_gcs": "gs://{dst}/in/"}]),
    "markers": (MARKERS, [{"dest_gcs": "gs://{dst}/m/"}] * 2),
    "odd-names": (ODD_NAMES, [{"prefix": "odd/", "dest_gcs": "gs://{dst}/o/"}] * 2),
    "empty-object": ({"data/empty": b""}, [IN]),
    "nothing": (TREE, [{**IN, "prefix": "none/"}]),
    "nothing-uris": (TREE, [{**IN, "prefix": "none/", "return_gcs_uris": True}]),
    "gzip": (TREE, [{**IN, "gzip": True}, {**IN, "gzip": True}]),
    "gzip-replace-uris": (TREE, [{**IN, "gzip": True, "replace": True, "return_gcs_uris": True}]),
    "gzip-markers": (MARKERS, [{"dest_gcs": "gs://{dst}/m/", "gzip": True}]),
    "no-slash": (TREE, [{**IN, "dest_gcs": "gs://{dst}/x"}]),
    "no-scheme": (TREE, [{**IN, "dest_gcs": "{dst}/x/"}]),
    "no-destination": (TREE, [{"prefix": "data/"}]),
    "other-scheme": (TREE, [{**IN, "dest_gcs": "s3://{dst}/x/"}]),
    "no-gcp-connection": (TREE, [{**IN, "gcp_conn_id": "nowhere"}]),
}


@pytest.fixture(scope="module")
def world() -> Iterator[Clouds]:
    sources = [f"src-{name}" for name in GRID]
    destinations = [f"{who}-{name}" for name in GRID for who in ("stock", "ours")]
    with world_of(sources, destinations) as found:
        yield found


def run(cls: type, bucket: str, destination: str, arguments: dict[str, Any]) -> tuple[Any, Any, list[tuple[type, str]]]:
    """What it returned, what it raised, what it warned of."""
    given = {key: value.format(dst=destination) if key == "dest_gcs" else value for key, value in arguments.items()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        operator = cls(task_id="copy", bucket=bucket, **given)
        warned = [
            (w.category, str(w.message)) for w in caught if w.category is FutureWarning and "S3ToGCS" in str(w.message)
        ]
        try:
            returned, raised = operator.execute({}), None
        except Exception as error:  # noqa: BLE001  # whatever the stock operator raises is what is compared
            returned, raised = None, (type(error), str(error).replace(destination, "{dst}"))
    return returned, raised, warned


def comparable(returned: Any, destination: str, *, ordered: bool) -> Any:
    if returned is None:
        return None
    assert isinstance(returned, list)
    named = [item.replace(destination, "{dst}") for item in returned]
    return named if ordered else sorted(named)


@pytest.mark.parametrize("case", GRID)
def test_ours_does_what_the_stock_operator_does(world: Clouds, case: str) -> None:
    objects, steps = GRID[case]
    source, stock, ours = f"src-{case}", f"stock-{case}", f"ours-{case}"
    world.put(source, objects)
    for number, step in enumerate(steps):
        if "_put" in step:
            world.put(source, step["_put"])
            continue
        expected = run(S3ToGCSOperator, source, stock, step)
        got = run(SkyplaneS3ToGCSOperator, source, ours, step)
        # The stock operator returns a set's order unless it replaces.
        ordered = bool(step.get("replace"))
        assert comparable(got[0], ours, ordered=ordered) == comparable(expected[0], stock, ordered=ordered), number
        if got[0] is not None and not step.get("return_gcs_uris"):
            assert got[0] == sorted(got[0])
        assert got[1:] == expected[1:], number
    assert stored(world, ours, steps) == stored(world, stock, steps)


def stored(world: Clouds, bucket: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
    found = world.objects(bucket)
    if any(step.get("gzip") for step in steps):
        # The header may hold a time and a file name; the content is what counts.
        assert all(body.startswith(b"\x1f\x8b\x08") for _, _, body in found.values())
        return {name: (kind, encoding, gzip.decompress(body)) for name, (kind, encoding, body) in found.items()}
    return found


@pytest.fixture
def own_gateways(world: Clouds, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many gateways as are asked for, and not the one that all others share."""
    monkeypatch.setattr(SkyplaneClient, "dataplane", OWN_GATEWAYS)


@pytest.mark.usefixtures("own_gateways")
@pytest.mark.parametrize("gateways", [1, 2])
def test_the_opt_ins(world: Clouds, gateways: int) -> None:
    """With compare="exact" a changed object is copied again; metadata comes along where it was asked for."""
    source, destination = "src-plain", f"ours-nothing{'-uris' if gateways == 2 else ''}"
    world.put(source, TREE)
    arguments = {
        "prefix": "data/",
        "dest_gcs": "gs://{dst}/opt/",
        "compare": "exact",
        "preserve_metadata": True,
        "gateways": gateways,
        "receipt_path": "receipts",
    }
    first, raised, _ = run(SkyplaneS3ToGCSOperator, source, destination, arguments)
    assert raised is None
    assert first == sorted(TREE)
    assert run(SkyplaneS3ToGCSOperator, source, destination, arguments)[0] == []
    world.put(source, {"data/f000000": b"other"})
    assert run(SkyplaneS3ToGCSOperator, source, destination, arguments)[0] == ["data/f000000"]
    found = world.objects(destination)
    assert found["opt/data/f000000"] == ("text/csv", None, b"other")
    assert any(name.startswith("receipts/") for name in found)


def test_no_secret_is_left_anywhere(world: Clouds, caplog: pytest.LogCaptureFixture) -> None:
    from tests.servers.airflow_clouds import SECRET_KEY

    world.put("src-root", TREE)
    caplog.set_level("DEBUG")
    arguments = {"prefix": "data/", "dest_gcs": "gs://{dst}/canary/", "receipt_path": "kept/"}
    run(SkyplaneS3ToGCSOperator, "src-root", "ours-root", arguments)
    assert SECRET_KEY not in caplog.text
    state = [blob.download_as_bytes() for blob in world.gcs().list_blobs("ours-root", prefix="kept/")]
    assert state
    assert not [body for body in state if SECRET_KEY.encode() in body]
