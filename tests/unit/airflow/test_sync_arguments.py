"""What operators take for a sync: what is refused when a DAG is parsed, and what comes of the rest."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_skyplane.compat import AirflowException
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator, SkyplaneSyncOperator
from skyplane_core.errors import UsageError
from skyplane_core.filters import Filters, NameRule
from skyplane_core.provision.local import LocalProvisioner
from skyplane_core.spec import Compare, DeleteCap, Overwrite, ServerSideCopy

TREE = {"mode": "copy", "recursive": True}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"compare": "mtime"}, "Invalid value for compare: 'mtime'. Expected one of exact, checksum, size+mtime"),
    ({"server_side_copy": "always"}, "Invalid value for server_side_copy: 'always'. Expected one of auto, never"),
    ({"overwrite": "maybe"}, "Invalid value for overwrite: 'maybe'. Expected one of if-changed"),
    ({**TREE, "delete": True}, "Invalid value for delete: only a sync deletes"),
    ({"max_delete": 5}, "max_delete is given, and nothing is to be deleted"),
    ({"delete": True, "max_delete": "many"}, "Invalid value for max_delete"),
    ({"delete": True, "max_delete": -1}, "Invalid value for max_delete"),
    ({"delete": True, "max_delete": "101%"}, "Invalid value for max_delete"),
    ({"delete": True, "max_objects": 5}, "delete and max_objects contradict"),
    ({"delete": True, "max_bytes": "5MiB"}, "delete and max_bytes contradict"),
    ({"delete": True, "manifest": ["a"]}, "delete and a manifest contradict"),
    ({"delete": True, "manifest": "{{ params.keys }}"}, "delete and a manifest contradict"),
    ({"mode": "copy", "include": "*.csv"}, "filters choose from a tree, and the source is one object"),
    ({"mode": "copy", "manifest": ["a"]}, "filters choose from a tree, and the source is one object"),
    ({"include": ""}, "empty pattern"),
    ({"exclude_regex": ["a", "("]}, "'(' is not a pattern"),
    ({"exclude": "*", "include": "*.csv"}, "comes after one that matches everything"),
    ({"min_size": "big"}, "Invalid value for min_size: 'big' is not a size"),
    ({"max_size": 0}, "Invalid value for max_size: 0 is not a number greater than 0"),
    ({"min_size": 5, "max_size": 4}, "min_size is 5 and max_size 4"),
    ({"min_age": "yesterday"}, "Invalid value for min_age: 'yesterday' is not an age"),
    ({"max_age": datetime.timedelta(-1)}, "Invalid value for max_age"),
    ({"max_age": [1]}, "Invalid value for max_age"),
    ({"min_age": "2h", "max_age": 60}, "min_age is 7200 and max_age 60"),
    ({"max_objects": 0}, "Invalid value for max_objects: 0"),
    ({"max_objects": "5"}, "Invalid value for max_objects: '5'"),
    ({"max_bytes": True}, "Invalid value for max_bytes: True"),
    ({"compare": "size", "overwrite": "never"}, "compare is 'size' and overwrite 'never'"),
    ({"compare": "name", "overwrite": "if-newer"}, "compare is 'name' and overwrite 'if-newer'"),
]


def operator(place: Path, **settings: Any) -> SkyplaneOperator:
    ends = {"source": f"file://{place}/src/", "destination": f"file://{place}/out/"}
    return SkyplaneOperator(task_id="t", **{"mode": "sync", **ends, **settings})


@pytest.mark.parametrize(("settings", "told"), WRONG, ids=str)
def test_arguments_fail_the_parse(tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    if settings.get("mode") == "copy" and not settings.get("recursive"):
        settings = {**settings, "source": f"file://{tmp_path}/src/a"}
    with pytest.raises((ValueError, UsageError)) as refused:
        operator(tmp_path, **settings)
    assert told in str(refused.value)


def test_the_sync_operator_only_syncs(tmp_path: Path) -> None:
    ends = {"source": f"file://{tmp_path}/a", "destination": f"file://{tmp_path}/b"}
    assert SkyplaneSyncOperator(task_id="t", **ends).mode == "sync"
    with pytest.raises(ValueError, match=r"Invalid value for mode: 'copy'\. This operator syncs"):
        SkyplaneSyncOperator(task_id="t", mode="copy", **ends)


def test_what_is_asked_for_is_what_is_requested(tmp_path: Path) -> None:
    made = operator(
        tmp_path, compare="checksum", overwrite="if-newer", server_side_copy="never",
        include=["*.csv", "x/"], exclude="*.tmp",
        exclude_regex="^a",
        min_size="1KiB", max_size=5000, min_age=60, max_age=datetime.timedelta(days=2), manifest=["b", "a", "b"],
        max_objects=7, max_bytes="1MB",
    )  # fmt: skip
    request = made._request()
    assert request.options.server_side_copy is ServerSideCopy.NEVER
    assert (request.mode, request.options.compare, request.options.overwrite) == (
        "sync",
        Compare.CHECKSUM,
        Overwrite.IF_NEWER,
    )
    assert request.filters == Filters(
        rules=(
            NameRule(include=False, pattern="*.tmp"),
            NameRule(include=False, pattern="^a", regex=True),
            NameRule(include=True, pattern="*.csv"),
            NameRule(include=True, pattern="x/"),
        ),
        min_size=1024,
        max_size=5000,
        min_age=60,
        max_age=172_800,
        keys=("a", "b"),
        max_objects=7,
        max_bytes=1_000_000,
    )
    deleting = operator(tmp_path, delete=True, max_delete="10%")._request().options
    assert (deleting.delete, deleting.max_delete, deleting.compare) == (True, DeleteCap(None, 10), Compare.EXACT)
    assert operator(tmp_path, **TREE)._request().options.compare is Compare.ALWAYS


def test_templated_patterns_are_looked_at_when_they_are_rendered(tmp_path: Path) -> None:
    made = operator(tmp_path, include=["{{ params.pattern }}"], manifest="{{ params.manifest }}")
    assert {"include", "exclude", "include_regex", "exclude_regex", "manifest"} <= set(made.template_fields)
    made.render_template_fields({"params": {"pattern": "*.csv", "manifest": str(tmp_path / "keys")}})
    (tmp_path / "keys").write_text("a\n")
    filters = made._request().filters
    assert filters is not None
    assert (filters.rules, filters.keys) == ((NameRule(include=True, pattern="*.csv"),), ("a",))


def fill(place: Path) -> None:
    for name in ("src/a.csv", "src/b.tmp", "out/old.csv", "out/old.tmp"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(b"x")


def test_a_dry_run_starts_nothing_and_returns_the_totals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: LocalProvisioner, _count: int) -> None:
        raise AssertionError("gateways were started for a dry run")

    monkeypatch.setattr(LocalProvisioner, "start", refuse)
    fill(tmp_path)
    totals = operator(tmp_path, delete=True, exclude="*.tmp", dry_run_only=True).execute({})
    assert totals == {
        "copy": 1, "skip": 0, "refuse": 0, "delete": 1, "bytes": 1, "bytes_deleted": 1, "stopped_at": "",
        "refused": totals["refused"], "usd": 0.0, "usd_known": 0.0, "usd_month": 0.0, "unknown": [],
        "routes": [{"gateways": ["gateway-0"], "share": 1.0}],
    }  # fmt: skip
    assert "1 of 1 object has no" in totals["refused"]
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["a.csv", "b.tmp", "old.csv", "old.tmp"]
    with pytest.raises(AirflowException, match="the directory does not exist"):
        operator(tmp_path, source=f"file://{tmp_path}/none/", dry_run_only=True).execute({})


def test_a_sync_deletes_and_tells_how_much(tmp_path: Path) -> None:
    fill(tmp_path)
    result = operator(tmp_path, delete=True, max_delete="100%", exclude="*.tmp").execute({})
    assert (result["objects_copied"], result["objects_deleted"], result["stopped_at"]) == (1, 1, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_file()) == ["a.csv", "old.tmp"]
    (tmp_path / "out" / "more.csv").write_bytes(b"")
    with pytest.raises(AirflowException, match="would delete more than it may"):
        operator(tmp_path, delete=True, max_delete=0, exclude="*.tmp").execute({})
    limited = operator(tmp_path, max_objects=1, **TREE).execute({})
    assert (limited["objects_copied"], limited["stopped_at"]) == (1, "max_objects")
