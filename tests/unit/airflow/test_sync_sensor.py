"""The sensor for work and for agreement, on directories: the same in each mode, by Airflow's own rules."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_skyplane.compat import (
    AirflowException,
    AirflowNotFoundException,
    AirflowSensorTimeout,
    AirflowSkipException,
)
from airflow_provider_skyplane.question import Question
from airflow_provider_skyplane.sensors.skyplane import SkyplaneSyncSensor
from airflow_provider_skyplane.triggers import aside as aside_module
from airflow_provider_skyplane.triggers import skyplane as transfer_trigger
from airflow_provider_skyplane.triggers.aside import aside
from skyplane_core.errors import BucketNotFound, UsageError
from tests.unit.airflow.sensing import MODES, resume, run, settings

ENDS = {"source": "file:///src/", "destination": "file:///dst/"}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"wait_for": "change"}, "Invalid value for wait_for: 'change'. Expected one of work, in_sync"),
    ({"compare": "mtime"}, "Invalid value for compare: 'mtime'"),
    ({"overwrite": "maybe"}, "Invalid value for overwrite: 'maybe'"),
    ({"compare": "always"}, "with 'always' source and destination never agree"),
    ({"overwrite": "always"}, "with 'always' source and destination never agree"),
    ({"compare": "size", "overwrite": "never"}, "compare is 'size' and overwrite 'never'"),
    ({"source": "ftp://host/x"}, "unknown scheme ftp://"),
    ({"source": "{{ params.x }}", "destination": "gcs://b/"}, "unknown scheme gcs://"),
    ({"source": ""}, "source is ''"),
    ({"source_conn_id": ""}, "source_conn_id is ''"),
    ({"source_conn_id": "s3"}, "source_conn_id is 's3', and source file:///src/ is a file"),
    ({"destination": "file:///src/"}, "source and destination are the same"),
    ({"exclude": ["a", ""]}, "empty pattern"),
    ({"include_regex": "("}, "'(' is not a pattern"),
    ({"min_size": "big"}, "Invalid value for min_size"),
    ({"min_age": "2h", "max_age": 60}, "min_age is 7200 and max_age 60"),
    ({"source_options": {"colour": "red"}}, "the options of a store cannot be used"),
    ({"soft_fail": True, "never_fail": True}, "mutually exclusive"),
]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer_trigger, "RESUME_NOT_BEFORE_SECONDS", 0.0)


@pytest.fixture
def ends(tmp_path: Path) -> tuple[Path, Path]:
    source, destination = tmp_path / "src", tmp_path / "dst"
    source.mkdir()
    destination.mkdir()
    return source, destination


def sensor(ends: tuple[Path, Path], mode: str, **arguments: Any) -> SkyplaneSyncSensor:
    given = {
        "source": f"file://{ends[0]}/",
        "destination": f"file://{ends[1]}/",
        "compare": "size",
        "poke_interval": 0.01,
        "timeout": 30,
        **settings(mode),
        **arguments,
    }
    return SkyplaneSyncSensor(task_id="t", **given)


@pytest.mark.parametrize(("arguments", "told"), WRONG, ids=str)
def test_arguments_fail_the_parse(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises((ValueError, UsageError)) as refused:
        SkyplaneSyncSensor(task_id="t", **{"wait_for": "work", **ENDS, **arguments})
    assert told in str(refused.value)


@pytest.mark.parametrize("argument", ["google_impersonation_chain", "destination_conn_id", "source"])
@pytest.mark.parametrize("nothing", ["", "None"])
def test_a_template_that_renders_to_nothing_is_refused(argument: str, nothing: str) -> None:
    ends = {"source": "gs://src/", "destination": "s3://dst/", argument: "{{ params.x }}"}
    waiting = SkyplaneSyncSensor(task_id="t", wait_for="work", **ends)
    setattr(waiting, argument, nothing)
    with pytest.raises(UsageError, match=f"{argument} is '{nothing}'"):
        waiting.poke({})


def test_connections_are_refused_by_the_argument_that_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    gs = {**ENDS, "source": "gs://src/", "source_conn_id": "a"}
    waiting = SkyplaneSyncSensor(task_id="t", wait_for="work", **gs)
    with pytest.raises(AirflowNotFoundException, match="name another one with source_conn_id"):
        waiting.poke({})
    monkeypatch.setenv("AIRFLOW_CONN_A", '{"conn_type": "aws"}')
    with pytest.raises(AirflowException, match="'a' is of type 'aws', and source gs://src/ needs one of type"):
        waiting.poke({})


@pytest.mark.parametrize("mode", MODES)
def test_it_waits_for_the_first_thing_to_move(ends: tuple[Path, Path], mode: str) -> None:
    looks = iter(range(10))

    def between() -> None:
        if next(looks) == 1 or mode == "deferred":
            (ends[0] / "b").write_bytes(b"four")

    if mode == "poke":
        threading.Timer(0.1, between).start()
        next(looks)
    found = run(sensor(ends, mode, wait_for="work"), between)
    assert found == {"action": "copy", "key": "b", "size": 4, "reason": "new"}


@pytest.mark.parametrize("mode", MODES)
def test_it_waits_for_agreement(ends: tuple[Path, Path], mode: str) -> None:
    (ends[0] / "a").write_bytes(b"one")

    def between() -> None:
        (ends[1] / "a").write_bytes(b"two")

    if mode == "poke":
        threading.Timer(0.1, between).start()
    assert run(sensor(ends, mode, wait_for="in_sync"), between) == {}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wait_for", ["work", "in_sync"])
def test_an_empty_source_ends_no_wait(ends: tuple[Path, Path], mode: str, wait_for: str) -> None:
    with pytest.raises(AirflowSensorTimeout):
        run(sensor(ends, mode, wait_for=wait_for, timeout=0.05))


@pytest.mark.parametrize("mode", MODES)
def test_what_is_extraneous_is_work_for_a_sync_that_deletes(ends: tuple[Path, Path], mode: str) -> None:
    for place in (ends[0] / "a", ends[1] / "a", ends[1] / "old"):
        place.write_bytes(b"x")
    assert run(sensor(ends, mode, wait_for="in_sync")) == {}
    found = run(sensor(ends, mode, wait_for="work", delete=True))
    assert (found["action"], found["key"], found["reason"]) == ("delete", "old", "extraneous")


@pytest.mark.parametrize("mode", MODES)
def test_what_filters_leave_out_is_no_work(ends: tuple[Path, Path], mode: str) -> None:
    (ends[0] / "a.tmp").write_bytes(b"x")
    with pytest.raises(AirflowSensorTimeout):
        run(sensor(ends, mode, wait_for="work", exclude="*.tmp", timeout=0.05))
    found = run(sensor(ends, mode, wait_for="work", exclude="*.csv"))
    assert found["key"] == "a.tmp"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("rules", "missing", "raised"),
    [
        ({}, False, AirflowSensorTimeout),
        ({"soft_fail": True}, False, AirflowSkipException),
        ({"never_fail": True}, False, AirflowSensorTimeout),
        ({}, True, BucketNotFound),
        ({"soft_fail": True}, True, BucketNotFound),
        ({"never_fail": True}, True, AirflowSkipException),
        ({"silent_fail": True}, True, AirflowSensorTimeout),
        ({"silent_fail": True, "soft_fail": True}, True, AirflowSkipException),
    ],
    ids=str,
)
def test_airflows_rules_hold_in_each_mode(
    ends: tuple[Path, Path], mode: str, rules: dict[str, Any], missing: bool, raised: type[Exception]
) -> None:
    (ends[0] / "a").write_bytes(b"x")
    gone = {"source": f"file://{ends[0]}/none/"} if missing else {}
    with pytest.raises(raised) as ended:
        run(sensor(ends, mode, wait_for="in_sync", timeout=0.05, **gone, **rules))
    assert type(ended.value) is raised


def test_a_resumed_sensor_is_no_operator_within_another_one(ends: tuple[Path, Path]) -> None:
    """Airflow's guard knows a task by its first call of execute, which is another process's when a sensor resumes."""
    resumed = sensor(ends, "deferred", wait_for="work", allow_nested_operators=False)
    event = {"status": "met", "found": {"key": "a"}, "started": time.time()}
    assert resume(resumed, event) == {"key": "a"}


def test_what_goes_wrong_only_in_the_triggerer_is_seen_by_a_worker(
    ends: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A triggerer without a cloud's library: the worker looks in its stead, until it is true or too late."""
    answer, asked = Question.answer, []

    def refuse(self: Question, *, gently: bool = False, **how: Any) -> Any:
        asked.append(gently)
        if gently:
            raise UsageError("the library 'boto3' is not installed")
        return answer(self, **how)

    monkeypatch.setattr(Question, "answer", refuse)
    (ends[0] / "a").write_bytes(b"x")
    with pytest.raises(AirflowSensorTimeout):
        run(sensor(ends, "deferred", wait_for="in_sync", timeout=0.1))
    assert asked[:4] == [False, True, False, True]
    assert run(sensor(ends, "deferred", wait_for="in_sync"), lambda: (ends[1] / "a").write_bytes(b"y")) == {}  # type: ignore[func-returns-value]


def test_the_row_of_its_trigger_is_small_and_plain() -> None:
    waiting = SkyplaneSyncSensor(
        task_id="t", wait_for="work", **ENDS, include=["*.csv", "*.gz"], exclude_regex="^tmp/", max_age="7d", min_size=1
    )
    question = waiting._question()
    row = json.dumps(dataclasses.asdict(question))
    assert len(row) < 1000
    assert Question(**json.loads(row))._filters == question._filters


# --- threads of the triggerer ---------------------------------------------------------------------------------------


def test_a_long_look_holds_up_neither_the_loop_nor_the_common_threads() -> None:
    """As many looks as may be made at once hang; everything else goes on, and they end when they are cancelled."""
    begun, names = threading.Semaphore(0), []

    def hang(stopped: Any) -> None:
        names.append(threading.current_thread().name)
        begun.release()
        while not stopped():
            time.sleep(0.001)

    async def look() -> None:
        looks = [asyncio.create_task(aside(hang)) for _ in range(aside_module.AT_ONCE + 2)]
        for _ in range(aside_module.AT_ONCE):
            assert await asyncio.to_thread(begun.acquire, timeout=10)
        assert await asyncio.to_thread(lambda: "free") == "free"
        assert len(names) == aside_module.AT_ONCE
        for task in looks:
            task.cancel()
        assert all(
            isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*looks, return_exceptions=True)
        )

    asyncio.run(look())
    assert {name.rpartition("_")[0] for name in names} == {"skyplane-sensor"}
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("skyplane-sensor") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("lookup")]
