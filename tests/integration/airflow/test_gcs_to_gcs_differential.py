"""The installed stock operator and ours, over one grid of arguments, against the same server.

Each case has its own buckets for either operator. Compared: names, bodies, types and metadata in both buckets
afterwards, what is returned, what is raised (type and text), what is warned of.
"""

# ruff: noqa: TID253  # this compares with the installed stock operator
from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from airflow.providers.google.cloud.transfers.gcs_to_gcs import GCSToGCSOperator

from airflow_provider_skyplane.transfers.gcs_to_gcs import SkyplaneGCSToGCSOperator
from tests.integration.airflow.differential import Did, run, world_of
from tests.servers.airflow_clouds import Clouds

Moment = Callable[[Callable[[str], datetime.datetime]], datetime.datetime]
Objects = dict[str, bytes]

TREE = {
    "data/f0": b"0",
    "data/f1.csv": b"11",
    "data/a/f2": b"222",
    "data/a/f3.csv": b"3333",
    "data/sub/deep/f4.csv": b"44444",
    "database.csv": b"d",
    "one/only": b"1",
}
MARKERS = {"m/": b"", "m/a": b"a", "m/s/": b"", "m/s/b": b"b"}
ODD_NAMES = {f"odd/{name}": name.encode() for name in ("a b", "a+b", "%2F", "ü", "a#b", "a?b", "q'\"&<>", "x//y", "~")}
OTHER = {"destination_bucket": "{dst}"}
NAIVE = datetime.datetime(2020, 1, 1)  # noqa: DTZ001  # a naive time is what is meant
UTC = datetime.datetime(2040, 1, 1, 12, tzinfo=datetime.timezone.utc)
ZONED = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=5)))
MICROSECOND = datetime.timedelta(microseconds=1)


class Case(NamedTuple):
    """Source objects, and arguments for one run after the other."""

    objects: Objects
    steps: list[dict[str, Any]]


def case(objects: Objects, *steps: dict[str, Any]) -> Case:
    return Case(objects, [{**OTHER, **step} for step in steps])


def to(name: str | None, **arguments: Any) -> dict[str, Any]:
    return {"destination_object": name, **arguments}


def updated(key: str, later: datetime.timedelta = datetime.timedelta()) -> Moment:
    return lambda when: when(key) + later


ALL = {"source_object": "data/"}
WILD = {"source_object": "data/*.csv"}
GRID: dict[str, Case] = {
    "directory": case(TREE, ALL, ALL),
    "directory-to": case(TREE, {**ALL, **to("out/")}),
    "directory-to-no-slash": case(TREE, {**ALL, **to("out")}),
    "directory-to-nothing": case(TREE, {**ALL, **to("")}),
    "directory-of-one": case(TREE, {"source_object": "one/", **to("out/")}),
    "directory-of-one-to-name": case(TREE, {"source_object": "one/", **to("out")}),
    "directory-of-one-kept": case(TREE, {"source_object": "one/"}),
    "no-slash": case(TREE, {"source_object": "data", **to("out/")}),
    "no-slash-but-directory": case(TREE, {"source_object": "data/a", **to("out/")}),
    "no-slash-kept": case(TREE, {"source_object": "data"}),
    "in-directory-no-slash": case(TREE, {"source_object": "data/f", **to("out")}),
    "everything": case(TREE, {"source_object": "", "source_objects": [""], **to("out/")}),
    "everything-kept": case(TREE, {"source_objects": [""]}),
    "one": case(TREE, {"source_object": "data/f0", **to("x")}),
    "one-to-directory": case(TREE, {"source_object": "data/f0", **to("out/")}),
    "one-kept": case(TREE, {"source_object": "data/f0"}),
    "one-that-is-a-prefix": case({"a": b"a", "ab": b"b"}, {"source_object": "a", **to("out/")}),
    "exact": case({"a": b"a", "ab": b"b"}, {"source_object": "a", "exact_match": True, **to("out/")}),
    "exact-kept": case({"a": b"a", "ab": b"b"}, {"source_object": "a", "exact_match": True}),
    "exact-missing": case(TREE, {"source_object": "data/f", "exact_match": True, **to("out/")}),
    "several": case(TREE, {"source_objects": ["data/f1.csv", "data/f0"], **to("out/")}),
    "several-kept": case(TREE, {"source_objects": ["one/only", "data/f0"]}),
    "several-mixed": case(TREE, {"source_objects": ["one/", "data/a/", "data/f0"], **to("out/")}),
    "several-overlapping": case(TREE, {"source_objects": ["data/a/", "data/", "data/a/f2"]}),
    "markers": case(MARKERS, {"source_object": "m/", **to("out/")}, {"source_object": "m", **to("out2/")}),
    "markers-kept": case(MARKERS, {"source_object": "m/"}),
    "odd-names": case(ODD_NAMES, {"source_object": "odd/", **to("out/")}),
    "wildcard": case(TREE, {**WILD, **to("out/")}),
    "wildcard-kept": case(TREE, WILD),
    "wildcard-end": case(TREE, {"source_object": "data/*", **to("out/")}),
    "wildcard-alone": case(TREE, {"source_object": "*.csv", **to("out/")}),
    "wildcards": case(TREE, {"source_objects": ["data/*.csv", "one/*"], **to("out/")}),
    "wildcard-and-name": case(TREE, {"source_objects": ["data/*.csv", "one/only"], **to("out/")}),
    "two-wildcards": case(TREE, {"source_object": "d*/*.csv"}),
    "delimiter": case(TREE, {**ALL, "delimiter": ".csv", **to("out/")}),
    "delimiter-slash": case({"d/a": b"a", "d/b": b"b"}, {"source_object": "d/", "delimiter": "/", **to("out/")}),
    "match-glob": case(TREE, {**ALL, "match_glob": "**/*.csv", **to("out/")}),
    "match-glob-kept": case(TREE, {"source_object": "", "source_objects": [""], "match_glob": "data/*"}),
    "match-glob-nothing": case(TREE, {**ALL, "match_glob": "*.none", **to("out/")}),
    "match-glob-and-delimiter": case(TREE, {**ALL, "match_glob": "*", "delimiter": ".csv"}),
    "match-glob-leaves-the-name": case(TREE, {"source_object": "data/f0", "match_glob": "*.csv", **to("x")}),
    "keep-what-is-there": case(TREE, {**ALL, "replace": False}, {**ALL, "replace": False}),
    "keep-what-is-there-to": case(TREE, {**ALL, **to("out/")}, {**ALL, **to("out/"), "replace": False}),
    "keep-new": case(TREE, {"source_object": "data/a/", **to("out/")}, {**ALL, **to("out/"), "replace": False}),
    "keep-wildcard": case(TREE, {**WILD, **to("out/"), "replace": False}, {**WILD, **to("out/"), "replace": False}),
    "keep-one": case(
        TREE,
        {"source_object": "data/f0", **to("x"), "replace": False},
        {"source_object": "data/f0", **to("x"), "replace": False},
    ),
    "replace-again": case(TREE, {**ALL, **to("out/")}, {**ALL, **to("out/")}),
    "move": case(TREE, {**ALL, **to("out/"), "move_object": True}, {**ALL, **to("out/"), "move_object": True}),
    "move-one": case(TREE, {"source_object": "data/f0", **to("x"), "move_object": True}),
    "move-wildcard": case(TREE, {**WILD, "move_object": True}),
    "move-not-what-is-there": case(TREE, {"source_object": "data/a/"}, {**ALL, "replace": False, "move_object": True}),
    "after": case(TREE, {**ALL, **to("o/"), "last_modified_time": updated("data/f1.csv")}),
    "just-before": case(TREE, {**ALL, **to("o/"), "last_modified_time": updated("data/f1.csv", -MICROSECOND)}),
    "before": case(TREE, {**ALL, **to("o/"), "maximum_modified_time": updated("data/a/f2")}),
    "between": case(
        TREE,
        {
            **ALL,
            **to("o/"),
            "last_modified_time": updated("data/f1.csv"),
            "maximum_modified_time": updated("data/sub/deep/f4.csv"),
        },
    ),
    "between-nothing": case(TREE, {**ALL, "last_modified_time": updated("one/only"), "maximum_modified_time": NAIVE}),
    "naive": case(TREE, {**ALL, "last_modified_time": NAIVE}, {**ALL, "maximum_modified_time": NAIVE}),
    "zoned": case(TREE, {**ALL, "last_modified_time": ZONED}),
    "older": case(TREE, {**ALL, "is_older_than": 3600}, {**ALL, "is_older_than": -3600, "last_modified_time": ZONED}),
    "one-in-time": case(TREE, {"source_object": "data/f0", "maximum_modified_time": NAIVE}),
    "required-missing": case(TREE, {"source_object": "none", "source_object_required": True}),
    "required-there": case(TREE, {"source_object": "data/f0", "source_object_required": True}),
    "nothing": case(TREE, {"source_object": "none"}, {"source_objects": ["none", "no/"], **to("out/")}),
    "same-bucket": case(TREE, {**ALL, **to("out/"), "destination_bucket": None}),
    "same-bucket-move": case(TREE, {**ALL, **to("out/"), "destination_bucket": "{src}", "move_object": True}),
    "same-bucket-inside": case(TREE, {**ALL, **to("data/backup/"), "destination_bucket": None}),
    "same-bucket-everything": case(TREE, {"source_objects": [""], **to("b/"), "destination_bucket": None}),
    "same-bucket-same-name": case(TREE, {**ALL, "destination_bucket": None}),
    "same-bucket-one-same-name": case(TREE, {"source_object": "data/f0", **to("data/"), "destination_bucket": None}),
    "none": case(TREE, {}),
    "both": case(TREE, {"source_object": "a", "source_objects": ["b"]}),
    "not-a-string": case(TREE, {"source_objects": ["a", 1]}),
    "two-empty": case(TREE, {"source_objects": ["", ""]}),
    "empty-list": case(TREE, {"source_objects": []}),
    "no-connection": case(TREE, {**ALL, "gcp_conn_id": "nowhere"}),
    "unknown": case(TREE, {**ALL, "no_such_argument": 1}),
    "retained": case(TREE, {**ALL, **to("out/"), "retain_until_time": UTC}),
    "retained-locked": case(TREE, {**WILD, "retain_until_time": NAIVE, "retention_mode": "Locked"}),
    "mode-without-retention": case(TREE, {**ALL, "retention_mode": "Locked"}),
    "wrong-retention": case(TREE, {**ALL, "retain_until_time": ZONED, "retention_mode": "Maybe"}),
}


class Differs(NamedTuple):
    """A difference on purpose: what each returns in the last step, and leaves at the destination."""

    case: Case
    stock: Any
    stock_left: list[str]
    ours: Any
    ours_left: list[str]


# docs/migrating.md has each of them.
DIFFERENCES: dict[str, Differs] = {
    "a-pattern-that-matches-nothing": Differs(
        case(TREE, {"source_object": "data/a/*.none", **to("out/")}),
        ["gs://{dst}/out/f2", "gs://{dst}/out/f3.csv"],
        ["out/f2", "out/f3.csv"],
        [],
        [],
    ),
    "what-is-there-is-not-overwritten": Differs(
        case(
            TREE,
            {"source_object": "data/f0", **to("out/")},
            {"source_object": "data/f0", **to("out/"), "replace": False},
        ),
        ["gs://{dst}/out/f0"],
        ["out/f0"],
        [],
        ["out/f0"],
    ),
    "where-a-copy-goes-does-not-depend-on-what-is-there": Differs(
        case(
            {"d/x/a": b"a", "d/x/b": b"b"},
            {"source_object": "d/x/a", **to("out/x/a")},
            {"source_object": "d/", **to("out/"), "replace": False},
        ),
        ["gs://{dst}/out/b"],
        ["out/b", "out/x/a"],
        ["gs://{dst}/out/x/b"],
        ["out/x/a", "out/x/b"],
    ),
    "in-sync-is-not-missing": Differs(
        case(TREE, ALL, {**ALL, "replace": False, "source_object_required": True}),
        "data/ does not exist in bucket {src}",
        [key for key in sorted(TREE) if key.startswith("data/")],
        [],
        [key for key in sorted(TREE) if key.startswith("data/")],
    ),
    "two-objects-of-one-name": Differs(
        case({"a": b"a", "b": b"b"}, {"source_objects": ["a", "b"], **to("x")}),
        ["gs://{dst}/x"],
        ["x"],
        "2 objects would get the one name 'x'",
        [],
    ),
    "two-objects-of-one-basename": Differs(
        case({"a/x": b"a", "b/x": b"b"}, {"source_objects": ["a/x", "b/x"], **to("out/")}),
        ["gs://{dst}/out/x"],
        ["out/x"],
        "another source object has the same destination key",
        ["out/x"],
    ),
    "the-uri-of-a-name-that-the-glob-leaves": Differs(
        case(TREE, {"source_object": "data/f0", "match_glob": "*.csv"}),
        ["gs://{dst}/None"],
        ["data/f0"],
        ["gs://{dst}/data/f0"],
        ["data/f0"],
    ),
    "match-glob-with-a-wildcard-beside-a-prefix": Differs(
        case(TREE, {"source_objects": ["one/*", "data/a/"], "match_glob": "**.csv"}),
        ["gs://{dst}/one/only", "gs://{dst}/data/a/f3.csv"],
        ["data/a/f3.csv", "one/only"],
        "match_glob does not apply to names with a wildcard",
        [],
    ),
}


@pytest.fixture(scope="module")
def world() -> Iterator[Clouds]:
    names = [f"{who}-{name}" for name in [*GRID, *DIFFERENCES, "own"] for who in ("stock", "ours")]
    with world_of([], [f"{name}-{end}" for name in names for end in ("src", "dst")]) as found:
        yield found


def put(world: Clouds, bucket: str, objects: Objects) -> None:
    """Each in a millisecond of its own, which is what the server tells."""
    target = world.gcs().bucket(bucket)
    last = datetime.datetime.min.replace(tzinfo=datetime.timezone.utc)
    for key, body in objects.items():
        blob = None
        while blob is None or blob.updated <= last:
            # A blob sends what was set only once.
            blob = target.blob(key)
            blob.metadata = {"owner": "me"}
            blob.cache_control = "no-store"
            blob.custom_time = UTC
            blob.upload_from_string(body, content_type="text/x-source")
        last = blob.updated


def stored(world: Clouds, bucket: str) -> dict[str, Any]:
    return {
        blob.name: (
            blob.content_type,
            blob.cache_control,
            blob.storage_class,
            blob.metadata,
            blob.custom_time,
            (blob.retention.mode, blob.retention.retain_until_time),
            blob.download_as_bytes(raw_download=True),
        )
        for blob in world.gcs().list_blobs(bucket)
    }


def run_all(world: Clouds, cls: type, who: str, case: Case) -> list[Did]:
    source, destination = f"{who}-src", f"{who}-dst"
    put(world, source, case.objects)
    bucket = world.gcs().bucket(source)

    def when(key: str) -> datetime.datetime:
        found: datetime.datetime = bucket.get_blob(key).updated
        return found

    did = []
    for step in case.steps:
        given = {name: value(when) if callable(value) else value for name, value in step.items()}
        did.append(run(cls, {"source_bucket": source, **given}, destination, src=source))
    return did


@pytest.mark.parametrize("name", GRID)
def test_ours_does_what_the_stock_operator_does(world: Clouds, name: str) -> None:
    stock = run_all(world, GCSToGCSOperator, f"stock-{name}", GRID[name])
    ours = run_all(world, SkyplaneGCSToGCSOperator, f"ours-{name}", GRID[name])
    # The stock operator returns a set's order where it does not replace, or has a delimiter.
    unordered = any(
        not step.get("replace", True) or step.get("delimiter") or "*" in str(step) for step in GRID[name].steps
    )
    assert comparable(ours, unordered=unordered) == comparable(stock, unordered=unordered)
    for end in ("src", "dst"):
        assert stored(world, f"ours-{name}-{end}") == stored(world, f"stock-{name}-{end}")


def comparable(did: list[Did], *, unordered: bool) -> list[Did]:
    return [one._replace(returned=sorted(one.returned)) if unordered and one.returned else one for one in did]


@pytest.mark.parametrize("name", DIFFERENCES)
def test_what_differs_on_purpose(world: Clouds, name: str) -> None:
    differs = DIFFERENCES[name]
    for cls, who, expected, left in (
        (GCSToGCSOperator, "stock", differs.stock, differs.stock_left),
        (SkyplaneGCSToGCSOperator, "ours", differs.ours, differs.ours_left),
    ):
        last = run_all(world, cls, f"{who}-{name}", differs.case)[-1]
        if isinstance(expected, str):
            assert last.raised is not None
            assert expected in last.raised[1]
        else:
            assert last.raised is None
            assert sorted(last.returned) == sorted(expected)
        # What fails leaves its receipt.
        assert [key for key in stored(world, f"{who}-{name}-dst") if ".skyplane" not in key] == left


def test_retention_is_until_the_moment_that_was_meant(world: Clouds) -> None:
    put(world, "ours-own-src", {"zoned": b"z"})
    arguments = {"source_object": "zoned", "retain_until_time": ZONED, "destination_bucket": "ours-own-dst"}
    assert run(SkyplaneGCSToGCSOperator, {"source_bucket": "ours-own-src", **arguments}).raised is None
    found = world.gcs().bucket("ours-own-dst").get_blob("zoned").retention.retain_until_time
    assert found == ZONED


def test_gcs_copies_by_itself_and_no_byte_passes_the_gateway(world: Clouds) -> None:
    put(world, "ours-own-src", {"a/large": bytes(4 * 1024 * 1024), "a/small": b"s"})
    before = world.destination.requests["GetObject"]
    did = run(
        SkyplaneGCSToGCSOperator,
        {
            "source_bucket": "ours-own-src",
            "source_object": "a/",
            "destination_bucket": "ours-own-dst",
            "return_summary": True,
        },
    )
    assert did.returned["objects_copied"] == 2
    assert world.destination.requests["CopyObject"] >= 2
    assert world.destination.requests["GetObject"] == before
