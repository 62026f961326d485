"""Every row of the table in docs/sync.md, through the engine, on servers and a disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from skyplane_core.client import ClientConfig, SkyplaneClient
from skyplane_core.errors import NothingToTransfer
from skyplane_core.filters import Filters
from skyplane_core.prepare import check
from skyplane_core.spec import Compare, DeleteCap, Outcome, Overwrite, TransferState
from skyplane_core.stores import local as local_store
from skyplane_core.stores.local_names import NameRules
from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer
from tests.integration.engine.sync_ends import ANYTHING, Bench, End, names

ROOT = Path(__file__).parents[3]
MIB = 1024 * 1024
PAIRS = ["s3-gcs", "gcs-s3", "s3-s3", "s3-local", "local-s3", "local-gcs"]
HOUR = 3600.0

EXACT, CHECKSUM, MTIME, SIZE, NAME, ALWAYS = Compare


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    client = SkyplaneClient(ClientConfig(pool_bytes=64 * MIB, control_secret=b"a control secret for tests, 32 bytes +"))
    dataplane = client.dataplane()
    with (
        ObjectServer("s3", buckets=["b"]) as s3,
        ObjectServer("gcs", buckets=["b"]) as gcs,
        dataplane.auto_deprovision(),
    ):
        dataplane.provision()
        yield Bench(client, dataplane, {"s3": s3, "gcs": gcs}, tmp_path_factory.mktemp("ends"))


@pytest.mark.parametrize("pair", PAIRS)
def test_new(bench: Bench, pair: str) -> None:
    source, destination = bench.ends(pair)
    source.put("a", b"one")
    source.put("d/b", b"")
    assert bench.told(source, destination) == {"a": "copy new", "d/b": "copy new"}
    assert (destination.get("a"), destination.get("d/b")) == (b"one", b"")


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("compare", [EXACT, SIZE, NAME])
def test_unchanged(bench: Bench, pair: str, compare: Compare) -> None:
    source, destination = bench.ends(pair)
    for key in ("a", "d/b", "empty"):
        source.put(key, key.encode() * (key != "empty"))
    bench.told(source, destination)
    reason = {EXACT: "skip same", SIZE: "skip same-size", NAME: "skip exists"}[compare]
    assert bench.told(source, destination, compare) == dict.fromkeys(["a", "d/b", "empty"], reason)


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("s3-gcs", "copy no-common-checksum"),
        ("gcs-s3", "skip same"),
        ("gcs-gcs", "skip same"),
        ("s3-local", "copy no-destination-checksum"),
        ("local-s3", "copy no-source-checksum"),
    ],
)
def test_unchanged_by_checksum(bench: Bench, pair: str, said: str) -> None:
    source, destination = bench.ends(pair)
    source.put("a", b"one")
    bench.told(source, destination)
    assert bench.told(source, destination, CHECKSUM) == {"a": said}


@pytest.mark.parametrize("pair", ["local-s3", "local-gcs", "local-local"])
def test_unchanged_by_time(bench: Bench, pair: str) -> None:
    source, destination = bench.ends(pair)
    source.put("a", b"one", age=HOUR)
    bench.told(source, destination)
    assert bench.told(source, destination, MTIME) == {"a": "skip not-newer"}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("compare", [EXACT, CHECKSUM, MTIME, SIZE])
def test_changed_in_size(bench: Bench, pair: str, compare: Compare) -> None:
    source, destination = bench.ends(pair)
    source.put("a", b"one")
    bench.told(source, destination)
    source.put("a", b"other")
    assert bench.told(source, destination, compare) == {"a": "copy changed-size"}
    assert destination.get("a") == b"other"


@pytest.mark.parametrize("pair", PAIRS)
def test_changed_with_the_same_size_in_the_same_second(bench: Bench, pair: str) -> None:
    source, destination = bench.ends(pair)
    source.put("a", b"one")
    bench.told(source, destination)
    source.put("a", b"two")
    if source.kind == "local":
        source.date("a", int(destination.modified("a")) + 0.5)
        assert bench.plan(source, destination, MTIME).__next__().reason == "same-second"
    assert next(bench.plan(source, destination, SIZE)).reason == "same-size"
    assert next(bench.plan(source, destination, NAME)).reason == "exists"
    assert next(bench.plan(source, destination, CHECKSUM)).action.value == "copy"
    assert bench.told(source, destination) in ({"a": "copy changed-version"}, {"a": "copy changed-checksum"})
    assert destination.get("a") == b"two"


@pytest.mark.parametrize("pair", ["local-s3", "local-gcs", "local-local"])
def test_changed_with_the_same_size_later(bench: Bench, pair: str) -> None:
    source, destination = bench.ends(pair)
    source.put("a", b"one", age=HOUR)
    bench.told(source, destination)
    source.put("a", b"two", age=-HOUR)
    assert bench.told(source, destination, MTIME) == {"a": "copy newer"}
    assert destination.get("a") == b"two"


@pytest.mark.parametrize("pair", PAIRS)
def test_deleted_at_the_source(bench: Bench, pair: str) -> None:
    source, destination = bench.ends(pair)
    for key in ("a", "d/b", "d/c/e"):
        source.put(key)
    bench.told(source, destination)
    source.delete("d/b")
    source.delete("d/c/e")
    assert bench.told(source, destination) == {"a": "skip same"}
    assert destination.listed() == ["a", "d/b", "d/c/e"]
    assert bench.told(source, destination, delete=True, max_delete=ANYTHING) == {
        "a": "skip same",
        "d/b": "delete extraneous",
        "d/c/e": "delete extraneous",
    }
    assert destination.listed() == ["a"]
    assert bench.told(source, destination, delete=True) == {"a": "skip same"}


def test_deleting_stops_at_its_cap(bench: Bench) -> None:
    source, destination = bench.ends("s3-gcs")
    for key in ("a", "b"):
        source.put(key)
        destination.put(f"old/{key}")
    planned = bench.plan(source, destination, delete=True, max_delete=DeleteCap(1))
    assert len(list(planned)) == 4
    assert "2 of 2 objects" in planned.totals.refused
    result = bench.sync(source, destination, delete=True, max_delete=DeleteCap(1))
    assert result.progress.state is TransferState.FAILED
    assert "2 of 2 objects" in result.progress.error
    assert destination.listed() == ["a", "b", "old/a", "old/b"]


def test_nothing_is_deleted_when_something_failed(bench: Bench) -> None:
    source, destination = bench.ends("s3-gcs")
    source.put("a")
    source.put("b")
    destination.put("old")
    bench.servers["s3"].set_faults(Faults(Fault("GetObject", "status", key=f"{source.location.key}b", status=403)))
    try:
        result = bench.sync(source, destination, delete=True, max_delete=ANYTHING)
    finally:
        bench.servers["s3"].set_faults(None)
    assert (result.progress.objects_failed, result.progress.objects_deleted) == (1, 0)
    assert destination.listed() == ["a", "old"]


def test_an_emptied_source_is_an_error(bench: Bench) -> None:
    source, destination = bench.ends("s3-gcs")
    destination.put("old")
    with pytest.raises(NothingToTransfer):
        bench.sync(source, destination, delete=True, max_delete=ANYTHING)
    assert destination.listed() == ["old"]


@pytest.mark.parametrize("pair", PAIRS)
def test_filters_protect_on_both_sides(bench: Bench, pair: str) -> None:
    source, destination = bench.ends(pair)
    for key in ("a.csv", "b.tmp", "big.csv"):
        source.put(key, b"x" * (100 if "big" in key else 1))
    for key in ("big.csv", "gone.csv", "gone.tmp", "tmp/x"):
        destination.put(key, b"yy")
    destination.put("large.csv", b"y" * 100)
    filters = msgspec.structs.replace(names("-*.tmp", "-tmp/"), max_size=50)
    told = bench.told(source, destination, filters=filters, delete=True, max_delete=ANYTHING)
    assert told == {"a.csv": "copy new", "gone.csv": "delete extraneous"}
    assert destination.listed() == ["a.csv", "big.csv", "gone.tmp", "large.csv", "tmp/x"]


@pytest.mark.parametrize("pair", PAIRS)
def test_changed_at_the_destination(bench: Bench, pair: str) -> None:
    source, destination = bench.ends(pair)
    source.put("a", b"one")
    bench.told(source, destination)
    destination.put("a", b"two")
    assert next(iter(bench.told(source, destination).values())).startswith("copy ")
    assert destination.get("a") == b"one"


@pytest.mark.parametrize("pair", ["local-s3", "local-gcs", "local-local"])
def test_if_newer_spares_what_was_written_later_at_the_destination(bench: Bench, pair: str) -> None:
    source, destination = bench.ends(pair)
    source.put("a", b"one", age=HOUR)
    destination.put("a", b"two")
    assert bench.told(source, destination, overwrite=Overwrite.IF_NEWER) == {"a": "skip not-newer"}
    source.put("a", b"three", age=-HOUR)
    assert bench.told(source, destination, overwrite=Overwrite.IF_NEWER) == {"a": "copy changed-size"}


@pytest.mark.parametrize("pair", PAIRS)
def test_never_and_always_overwrite(bench: Bench, pair: str) -> None:
    source, destination = bench.ends(pair)
    source.put("a", b"one")
    source.put("b", b"one")
    destination.put("a", b"kept")
    assert bench.told(source, destination, overwrite=Overwrite.NEVER) == {"a": "skip exists", "b": "copy new"}
    assert destination.get("a") == b"kept"
    told = bench.told(source, destination, overwrite=Overwrite.ALWAYS)
    assert told == {"a": "copy always", "b": "copy always"}
    assert destination.get("a") == b"one"


@pytest.mark.parametrize("kind", ["s3", "gcs", "local"])
def test_somebody_else_writes_first(bench: Bench, kind: str) -> None:
    source, destination = bench.end("s3"), bench.end(kind)
    source.put("a", b"ours")
    prepared = bench.prepared(source, destination, overwrite=Overwrite.NEVER)
    check(prepared, create_directory=True)
    server = bench.servers["s3"]
    read = Fault("GetObject", "hold-before", key=f"{source.location.key}a")
    # Between buckets of one server nothing is read.
    server.set_faults(Faults(read, Fault("CopyObject", "hold-before")))
    tracker = bench.dataplane.submit(prepared)
    server.wait_held()
    destination.put("a", b"theirs")
    server.set_faults(None)
    server.release()
    result = tracker.wait()
    assert [(line.outcome, line.key) for line in result.lines()] == [(Outcome.FAILED, f"{source.location.key}a")]
    assert destination.get("a") == b"theirs"


def test_a_file_and_a_directory_of_one_name(bench: Bench) -> None:
    source, destination = bench.ends("s3-local")
    for key in ("a", "a/b", "c"):
        source.put(key)
    destination.put("old")
    result = bench.sync(source, destination, delete=True, max_delete=ANYTHING)
    outcomes = {line.destination_key: line.outcome for line in result.lines()}
    assert sorted(outcomes[key].value for key in ("a", "a/b")) == ["copied", "failed"]
    assert (outcomes["c"], result.progress.objects_failed) == (Outcome.COPIED, 1)
    assert destination.get("old") == b"x"
    buckets = bench.ends("s3-gcs")
    for key in ("a", "a/b"):
        buckets[0].put(key)
    assert bench.told(*buckets) == {"a": "copy new", "a/b": "copy new"}


@pytest.mark.parametrize(("old", "new"), [("a", "a/b"), ("a/b", "a")])
def test_an_old_file_where_a_directory_is_to_be(bench: Bench, old: str, new: str) -> None:
    source, destination = bench.ends("s3-local")
    source.put(new)
    destination.put(old, b"old")
    result = bench.sync(source, destination, delete=True, max_delete=ANYTHING)
    assert "cannot hold both" in result.progress.failures[0][1]
    assert (result.progress.objects_failed, destination.get(old)) == (1, b"old")


@pytest.mark.parametrize("pair", PAIRS)
def test_names_that_differ_in_case(bench: Bench, pair: str) -> None:
    source, destination = bench.ends(pair)
    source.put("A", b"upper")
    source.put("a", b"lower")
    bench.told(source, destination)
    assert (destination.get("A"), destination.get("a")) == (b"upper", b"lower")


def test_names_that_differ_in_case_where_the_destination_folds_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, destination = bench.ends("s3-local")
    source.put("A", b"upper")
    source.put("a", b"lower")
    # A file system that folds case cannot be mounted without rights, so this one is only said to be one.
    monkeypatch.setattr(local_store, "name_rules", lambda _root: NameRules(folds_case=True, windows_names=True))
    source.put("sub/nul.txt")
    told = {decision.destination_key: decision for decision in bench.plan(source, destination)}
    assert {key: decision.action.value for key, decision in told.items()} == {
        "A": "copy", "a": "refuse", "sub/nul.txt": "refuse",
    }  # fmt: skip
    assert "the same name as 'A'" in told["a"].reason
    assert "'nul.txt' is a reserved name" in told["sub/nul.txt"].reason


@pytest.mark.parametrize("pair", [*PAIRS, "local-local"])
def test_stores_of_different_order(bench: Bench, pair: str) -> None:
    keys = ["a-b", "a.b", "a/b", "a/b.c", "a0", "b", "é", "日本", "\uffff", "\U0001f600"]
    source, destination = bench.ends(pair)
    for key in keys:
        source.put(key, key.encode())
    destination.put("a!old")
    destination.put("a/b-old")
    told = bench.told(source, destination, delete=True, max_delete=ANYTHING)
    assert told == dict.fromkeys(keys, "copy new") | dict.fromkeys(["a!old", "a/b-old"], "delete extraneous")
    assert list(destination.listed()) == sorted(keys, key=str.encode)
    assert bench.told(source, destination, delete=True) == dict.fromkeys(keys, "skip same")


@pytest.mark.parametrize("pair", ["s3-gcs", "gcs-s3", "s3-local", "local-gcs"])
def test_folder_markers(bench: Bench, pair: str) -> None:
    source, destination = bench.ends(pair)
    for key in ("empty/", "full/", "full/a"):
        source.put(key, b"")
    bench.told(source, destination)
    assert {"empty/", "full/a"} <= set(destination.listed())
    source.put("b")
    again = bench.told(source, destination, delete=True, max_delete=ANYTHING)
    assert again.pop("b") == "copy new"
    assert set(again.values()) == {"skip same"}
    destination.put("extra/", b"")
    assert bench.told(source, destination, delete=True, max_delete=ANYTHING)["extra/"] == "delete extraneous"
    assert "extra/" not in destination.listed()


def test_the_markers_of_a_bucket_stay_where_a_directory_implies_them(bench: Bench) -> None:
    source, destination = bench.ends("local-s3")
    source.put("sub/a")
    for key in ("", "sub/", "gone/"):
        destination.put(key, b"")
    told = bench.told(source, destination, delete=True, max_delete=ANYTHING)
    assert told == {"sub/a": "copy new", "gone/": "delete extraneous"}


@pytest.mark.parametrize("pair", PAIRS)
def test_our_own_state_is_neither_copied_nor_deleted(bench: Bench, pair: str) -> None:
    source, destination = bench.ends(pair)
    source.put("a")
    source.put(".skyplane/x")
    source.put("d/.skyplane/x")
    destination.put("d/.skyplane/kept")
    assert bench.told(source, destination, delete=True, max_delete=ANYTHING) == {"a": "copy new"}
    end = End(destination.location, destination.server)
    assert end.get("d/.skyplane/kept") == b"x"


def test_a_versioned_bucket(tmp_path: Path) -> None:
    """Deleting hides the newest version behind a delete marker; what is hidden so at the source counts as gone."""
    import boto3
    from botocore.config import Config

    from skyplane_core.client import Location
    from tests.conformance.cases_s3 import moto

    client = SkyplaneClient(ClientConfig(pool_bytes=64 * MIB, control_secret=b"a control secret for tests, 32 bytes +"))
    with moto(tmp_path) as running, client.dataplane().auto_deprovision() as dataplane:
        configs = [running.make_bucket(name) for name in ("from-here", "to-there")]
        s3 = boto3.client(
            "s3", endpoint_url=configs[0].endpoint_url, region_name="us-east-1", aws_access_key_id="AK",
            aws_secret_access_key="SK", config=Config(s3={"addressing_style": "path"}),
        )  # fmt: skip
        for bucket in ("from-here", "to-there"):
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        for key in ("in/a", "in/b"):
            s3.put_object(Bucket="from-here", Key=key, Body=b"x")
        dataplane.provision()
        bench = Bench(client, dataplane, {}, tmp_path)
        ends = [End(Location(config, "in/"), None) for config in configs]
        bench.told(ends[0], ends[1])
        s3.delete_object(Bucket="from-here", Key="in/b")
        assert bench.told(ends[0], ends[1], delete=True) == {"a": "skip same", "b": "delete extraneous"}
        listed = s3.list_object_versions(Bucket="to-there", Prefix="in/b")
        assert len(listed["Versions"]) == 1
        assert [marker["IsLatest"] for marker in listed["DeleteMarkers"]] == [True]
        assert bench.told(ends[0], ends[1], delete=True) == {"a": "skip same"}
        s3.close()


def test_a_manifest_names_what_is_copied(bench: Bench) -> None:
    source, destination = bench.ends("s3-gcs")
    for key in ("a", "b", "c"):
        source.put(key)
    root = source.location.key
    assert bench.told(source, destination, filters=Filters(keys=(f"{root}a", f"{root}c"))) == {
        "a": "copy new",
        "c": "copy new",
    }
    result = bench.sync(source, destination, filters=Filters(keys=(f"{root}a", f"{root}missing")))
    assert (result.progress.objects_skipped, result.progress.objects_failed) == (1, 1)
    assert "the source has no such object" in result.progress.failures[0][1]


@pytest.mark.parametrize(("limit", "stopped"), [({"max_objects": 2}, "max_objects"), ({"max_bytes": 2}, "max_bytes")])
def test_a_limit_ends_the_selection(bench: Bench, limit: dict[str, int], stopped: str) -> None:
    source, destination = bench.ends("s3-gcs")
    for key in ("a", "b", "c"):
        source.put(key)
    assert bench.told(source, destination, filters=Filters(**limit)) == {"a": "copy new", "b": "copy new"}
    assert bench.sync(source, destination, filters=Filters(**limit)).progress.stopped_at == stopped
    assert bench.sync(source, destination, filters=Filters(max_objects=3)).progress.stopped_at == ""


def test_ages_are_counted_from_the_beginning_of_the_sync(bench: Bench) -> None:
    source, destination = bench.ends("local-gcs")
    source.put("old", age=3 * HOUR)
    source.put("new")
    assert bench.told(source, destination, filters=Filters(min_age=HOUR)) == {"old": "copy new"}
    assert bench.told(source, destination, filters=Filters(max_age=HOUR)) == {"new": "copy new"}
    assert bench.sync(source, destination, filters=Filters(min_age=10 * HOUR)).progress.objects_selected == 0


TABLE = re.compile(r"^\|.*`(test_\w+)`[^|]*\|$", re.MULTILINE)


def test_every_row_of_the_documented_table_is_tested_here() -> None:
    text = (ROOT / "docs" / "sync.md").read_text(encoding="utf-8")
    table = text.partition("## Case by case\n")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    named = [TABLE.fullmatch(row) for row in rows]
    assert all(named), [row for row, name in zip(rows, named, strict=True) if not name]
    ours = {name for name in globals() if name.startswith("test_")}
    tested = {match[1] for match in named if match}
    assert tested <= ours
    assert ours - tested == {"test_every_row_of_the_documented_table_is_tested_here"}
