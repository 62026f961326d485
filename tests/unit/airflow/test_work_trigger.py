"""The event that something is to be moved: once for each time that there is."""

from __future__ import annotations

import asyncio
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_skyplane.question import Question
from airflow_provider_skyplane.triggers.work import SkyplaneWorkTrigger
from skyplane_core.errors import UsageError


def trigger(place: Path, **arguments: Any) -> SkyplaneWorkTrigger:
    ends = {"source": f"file://{place}/src/", "destination": f"file://{place}/dst/"}
    return SkyplaneWorkTrigger(**{"compare": "size", "poll_interval": 0.001, **ends, **arguments})


def fire(running: SkyplaneWorkTrigger, looks: list[Any], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What it fires while it finds, look by look, what is in the list."""
    fired: list[dict[str, Any]] = []
    remaining = list(looks)

    def answer(_self: Question, **_how: Any) -> Any:
        found = remaining.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def collect() -> None:
        async for event in running.run():
            fired.append(event.payload)  # noqa: PERF401  # it never ends

    async def until_all_looks() -> None:
        task = asyncio.create_task(collect())
        while remaining:  # noqa: ASYNC110  # the code under test tells nobody
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        task.cancel()

    monkeypatch.setattr(Question, "answer", answer)
    remaining.append(None)
    asyncio.run(until_all_looks())
    return fired


A: dict[str, Any] = {"action": "copy", "key": "a"}
B: dict[str, Any] = {"action": "copy", "key": "b"}


@pytest.mark.parametrize(
    ("looks", "again_after", "told"),
    [
        ([None, None], 60.0, []),
        ([A, A, B, B], 60.0, ["a"]),
        ([A, None, B, None, B], 60.0, ["a", "b", "b"]),
        ([A, A, B], 0.0, ["a", "a", "b"]),
        ([A, RuntimeError("away"), A, None, RuntimeError("away"), B], 60.0, ["a", "b"]),
    ],
)
def test_it_fires_once_until_both_have_agreed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: list[Any], again_after: float, told: list[str]
) -> None:
    fired = fire(trigger(tmp_path, again_after=again_after), looks, monkeypatch)
    assert [event["key"] for event in fired] == told
    assert all(event["source"] == f"file://{tmp_path}/src/" for event in fired)


def test_it_sees_what_is_there(tmp_path: Path) -> None:
    for name in ("src", "dst"):
        (tmp_path / name).mkdir()
    (tmp_path / "src" / "a.tmp").write_bytes(b"x")
    (tmp_path / "src" / "b").write_bytes(b"xy")
    running = trigger(tmp_path, exclude="*.tmp", max_age="1d")

    async def first() -> Any:
        events = running.run()
        try:
            return (await anext(events)).payload
        finally:
            await events.aclose()  # type: ignore[attr-defined]

    ends = {"source": f"file://{tmp_path}/src/", "destination": f"file://{tmp_path}/dst/"}
    assert asyncio.run(first()) == {"action": "copy", "key": "b", "size": 2, "reason": "new", **ends}


def test_it_is_rebuilt_from_what_it_serialises_to(tmp_path: Path) -> None:
    path, kwargs = trigger(tmp_path, include=["*.csv"], min_size="1KiB", delete=True).serialize()
    # Airflow 3.2 gives nothing else back to a watcher's trigger as it was.
    assert {type(value) for value in kwargs.values()} <= {str, float}
    module, _, name = path.rpartition(".")
    again = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(kwargs)))
    assert json.dumps(again.serialize()) == json.dumps((path, kwargs))


@pytest.mark.parametrize(
    "wrong",
    [
        {"compare": "always"},
        {"compare": "mtime"},
        {"source": "ftp://x/y"},
        {"min_size": "big"},
        {"exclude": ""},
        {"poll_interval": 0},
        {"poll_interval": float("nan")},
        {"again_after": -1},
    ],
    ids=str,
)
def test_bad_arguments_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises((ValueError, UsageError)):
        trigger(tmp_path, **wrong)
