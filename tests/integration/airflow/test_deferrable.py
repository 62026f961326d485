"""A deferred transfer on a real Airflow: through the triggerer, through its death, and ended by a user."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.servers.airflow_clouds import SECRET_KEY, Clouds, clouds
from tests.servers.airflow_stack import AirflowStack, airflow_stack

pytestmark = pytest.mark.timeout(420)

CONTROL_SECRET = "canary-control-secret-0123456789abcdef"
OBJECTS = {f"data/f{number:03}": b"x" * 1000 for number in range(120)}
DAG = """
from datetime import datetime, timezone
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator
from airflow_provider_skyplane.transfers.s3_to_gcs import SkyplaneS3ToGCSOperator

how = dict(deferrable=True, local_gateways_outlive_task=True, poll_interval=1, gateways=2)
with DAG("copies", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=timezone.utc), params={"to": "x"}):
    SkyplaneOperator(
        task_id="copy", source="s3://src/data/", destination="gs://dst/{{ params.to }}/", recursive=True, **how
    ) >> SkyplaneS3ToGCSOperator(
        task_id="drop_in", bucket="src", prefix="data/f00", dest_gcs="gs://dst/{{ params.to }}-again/", **how
    )
"""


@pytest.fixture(scope="module")
def world() -> Iterator[Clouds]:
    with clouds(["src"], ["dst"]) as found:
        found.put("src", OBJECTS)
        yield found


@pytest.fixture(scope="module")
def airflow(world: Clouds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowStack]:
    root = tmp_path_factory.mktemp("stack")
    (root / "dags").mkdir()
    (root / "dags" / "copies.py").write_text(DAG)
    skyplane = json.dumps({"conn_type": "skyplane", "password": CONTROL_SECRET})
    environment = {**world.environment(), "AIRFLOW_CONN_SKYPLANE_DEFAULT": skyplane}
    with airflow_stack(root / "home", root / "dags", environment) as stack:
        yield stack


@pytest.fixture
def slow(world: Clouds) -> Iterator[None]:
    """A source so slow that a copy takes some seconds."""
    world.source.set_network(latency=1.5)
    yield
    world.source.set_network(latency=0.0)


def gateway_pids(airflow: AirflowStack, run: str) -> list[int]:
    reference = json.loads(airflow.xcom("copies", run, "copy", "skyplane_run")["dataplane"])
    return [gateway["pid"] for gateway in reference["gateways"]]


def succeeds(airflow: AirflowStack, run: str, task: str) -> None:
    """Wait for a task's success; show its log, and the scheduler's, if it ends otherwise."""
    state = airflow.wait_for_task("copies", run, task, {"success", "failed", "upstream_failed"}, seconds=150)
    assert state == "success", airflow.task_log("copies", run, task)[-8000:] + airflow.log("scheduler")[-3000:]


def until_watched(airflow: AirflowStack, run: str) -> None:
    """Wait until a triggerer runs the trigger: Airflow calls no on_kill of one that has not begun."""
    deadline = time.monotonic() + 60
    while not list((airflow.home / "logs").rglob(f"run_id={run}/*/*.trigger.*")):
        assert time.monotonic() < deadline, airflow.task("copies", run, "copy")
        time.sleep(0.2)


def gone(pids: list[int], seconds: float = 40) -> bool:
    deadline = time.monotonic() + seconds
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def secrets_on_disk(home: Path) -> list[str]:
    """Files of this Airflow, its database and all logs, that hold a secret in clear."""
    words = (CONTROL_SECRET.encode(), SECRET_KEY.encode())
    return [
        str(path) for path in home.rglob("*") if path.is_file() and any(word in path.read_bytes() for word in words)
    ]


def test_a_copy_is_deferred_and_returns_what_it_moved(airflow: AirflowStack, world: Clouds, slow: None) -> None:
    run = airflow.run_dag("copies", {"to": "one"})
    assert airflow.wait_for_task("copies", run, "copy", {"deferred", "success", "failed"}) == "deferred"
    pids = gateway_pids(airflow, run)
    assert all(psutil.pid_exists(pid) for pid in pids)
    succeeds(airflow, run, "drop_in")
    summary = airflow.xcom("copies", run, "copy")
    assert summary["objects_copied"] == len(OBJECTS)
    assert sorted(airflow.xcom("copies", run, "drop_in")) == [f"data/f00{digit}" for digit in range(10)]
    moved = {name: found for name, found in world.objects("dst").items() if "/.skyplane/" not in name}
    assert {name: body for name, (_, _, body) in moved.items() if name.startswith("one/")} == {
        key.replace("data/", "one/"): body for key, body in OBJECTS.items()
    }
    assert gone(pids)
    assert secrets_on_disk(airflow.home) == []


def test_it_survives_the_death_of_the_triggerer(airflow: AirflowStack, slow: None) -> None:
    run = airflow.run_dag("copies", {"to": "two"})
    assert airflow.wait_for_task("copies", run, "copy", {"deferred", "success", "failed"}) == "deferred"
    pids = gateway_pids(airflow, run)
    airflow.stop_component("triggerer", signal.SIGKILL)
    airflow.start_component("triggerer")
    succeeds(airflow, run, "copy")
    assert airflow.xcom("copies", run, "copy")["objects_copied"] == len(OBJECTS)
    assert gone(pids)
    succeeds(airflow, run, "drop_in")


def test_a_user_who_ends_it_ends_the_gateways(airflow: AirflowStack, world: Clouds) -> None:
    world.source.set_network(latency=6.0)
    try:
        run = airflow.run_dag("copies", {"to": "three"})
        assert airflow.wait_for_task("copies", run, "copy", {"deferred", "success", "failed"}) == "deferred"
        pids = gateway_pids(airflow, run)
        until_watched(airflow, run)
        airflow.request("PATCH", f"dags/copies/dagRuns/{run}/taskInstances/copy", json={"new_state": "failed"})
        assert gone(pids), airflow.task_log("copies", run, "copy")[-4000:] + airflow.log("triggerer")[-4000:]
        assert airflow.task("copies", run, "copy")["state"] == "failed"
    finally:
        world.source.set_network(latency=0.0)
