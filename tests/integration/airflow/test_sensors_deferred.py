"""Sensors in a real triggerer: connections are looked up there, and an asset's watcher starts a DAG."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.servers.airflow_clouds import SECRET_KEY, Clouds
from tests.servers.airflow_stack import AirflowStack

pytestmark = pytest.mark.timeout(420)

DAGS = """
from datetime import datetime, timezone
from airflow.providers.common.compat.sdk import DAG, Asset
from airflow.sdk import AssetWatcher, task
from airflow_provider_skyplane.operators.skyplane import SkyplaneSyncOperator
from airflow_provider_skyplane.sensors.skyplane import SkyplaneSyncSensor, SkyplaneTransferSensor
from airflow_provider_skyplane.triggers.work import SkyplaneWorkTrigger

how = dict(deferrable=True, poke_interval=1, timeout=120)
ends = dict(source="s3://src/sensed/", destination="gs://dst/sensed/")
with DAG("senses", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=timezone.utc)):
    work = SkyplaneSyncSensor(task_id="work", wait_for="work", **ends, **how)
    sync = SkyplaneSyncOperator(task_id="sync", **ends)
    arrived = SkyplaneTransferSensor(task_id="arrived", transfer=sync.output, **how)
    work >> sync >> arrived >> SkyplaneSyncSensor(task_id="agree", wait_for="in_sync", **ends, **how)

trigger = SkyplaneWorkTrigger(source="s3://src/watched/", destination="gs://dst/watched/", poll_interval=1)
watched = Asset("watched", watchers=[AssetWatcher(name="watched", trigger=trigger)])
with DAG("watches", schedule=[watched], start_date=datetime(2025, 1, 1, tzinfo=timezone.utc)):
    @task
    def told(triggering_asset_events):
        return [event.extra for event in triggering_asset_events[watched]]

    told()
"""


@pytest.fixture(scope="module")
def world(airflow: AirflowStack, stack_clouds: Clouds) -> Clouds:
    airflow.add_dag("senses", DAGS)
    return stack_clouds


def ends(airflow: AirflowStack, dag: str, run: str, task: str) -> None:
    """Wait for a task's success; show its log if it ends otherwise."""
    state = airflow.wait_for_task(dag, run, task, {"success", "failed", "skipped", "upstream_failed"}, seconds=150)
    assert state == "success", airflow.task_log(dag, run, task)[-8000:] + airflow.log("triggerer")[-3000:]


def test_sensors_wait_in_the_triggerer(airflow: AirflowStack, world: Clouds) -> None:
    run = airflow.run_dag("senses")
    assert airflow.wait_for_task("senses", run, "work", {"deferred", "success", "failed"}) == "deferred"
    world.put("src", {"sensed/a": b"new"})
    ends(airflow, "senses", run, "agree")
    found = airflow.xcom("senses", run, "work")
    assert found == {"action": "copy", "key": "sensed/a", "size": 3, "reason": "new"}
    # It was the triggerer that saw it: no worker had to look in its stead.
    assert "could not tell" not in airflow.task_log("senses", run, "work")
    assert airflow.xcom("senses", run, "arrived") == airflow.xcom("senses", run, "sync")


def runs(airflow: AirflowStack, dag: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = airflow.request("GET", f"dags/{dag}/dagRuns")["dag_runs"]
    return found


def test_a_watcher_starts_a_dag_when_there_is_something_to_move(airflow: AirflowStack, world: Clouds) -> None:
    airflow.request("PATCH", "dags/watches", json={"is_paused": False})
    world.put("src", {"watched/a": b"new"})
    deadline = time.monotonic() + 120
    while not (found := runs(airflow, "watches")):
        assert time.monotonic() < deadline, airflow.log("triggerer")[-4000:]
        time.sleep(0.5)
    run = found[0]["dag_run_id"]
    ends(airflow, "watches", run, "told")
    (event,) = airflow.xcom("watches", run, "told")
    told = event.get("payload", event)
    assert {"action": "copy", "key": "watched/a", "source": "s3://src/watched/"}.items() <= told.items(), event
    # Once, for as long as nobody moves it.
    assert len(runs(airflow, "watches")) == 1


def test_no_secret_was_written(airflow: AirflowStack) -> None:
    """Rows of triggers, logs and XComs are all below the home."""
    found = [path for path in airflow.home.rglob("*") if path.is_file() and SECRET_KEY.encode() in path.read_bytes()]
    assert found == []
