"""A deferred transfer on a real Airflow: through the triggerer, and through the death of all who watch."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from skyplane_core.testing.objectserver import Fault, Faults
from tests.servers.airflow_clouds import CONTROL_SECRET, SECRET_KEY, Clouds
from tests.servers.airflow_stack import AirflowStack

pytestmark = pytest.mark.timeout(420)

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
with DAG("fans", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=timezone.utc)):
    SkyplaneOperator(
        task_id="copy", source="s3://src/data/", recursive=True,
        destination=["gs://dst/fan-a/", "gs://dst/fan-b/"], **how,
    )
"""


@pytest.fixture(scope="module")
def world(airflow: AirflowStack, stack_clouds: Clouds) -> Clouds:
    airflow.add_dag("copies", DAG)
    stack_clouds.put("src", OBJECTS)
    return stack_clouds


@pytest.fixture
def slow(world: Clouds) -> Iterator[None]:
    """A source so slow that a copy takes some seconds."""
    world.source.set_network(latency=1.5)
    yield
    world.source.set_network(latency=0.0)


def gateway_pids(airflow: AirflowStack, run: str, dag: str = "copies") -> list[int]:
    reference = json.loads(airflow.xcom(dag, run, "copy", "skyplane_run")["dataplane"])
    return [gateway["pid"] for gateway in reference["gateways"]]


def succeeds(airflow: AirflowStack, run: str, task: str, dag: str = "copies") -> None:
    """Wait for a task's success; show its log, and the scheduler's, if it ends otherwise."""
    state = airflow.wait_for_task(dag, run, task, {"success", "failed", "upstream_failed"}, seconds=150)
    assert state == "success", airflow.task_log(dag, run, task)[-8000:] + airflow.log("scheduler")[-3000:]


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


def test_it_survives_the_death_of_the_triggerer_and_of_the_scheduler(
    airflow: AirflowStack, world: Clouds, slow: None
) -> None:
    """And with the scheduler that of LocalExecutor's workers. So does one that has several destinations."""
    fans = ("fan-a", "fan-b")
    # What matches is counted, and goes through.
    world.destination.set_faults(Faults(*(Fault("PutObject", "stall", key=f"{fan}/f*", seconds=0.0) for fan in fans)))
    run, fan_run = airflow.run_dag("copies", {"to": "two"}), airflow.run_dag("fans")
    for dag, dag_run in (("copies", run), ("fans", fan_run)):
        assert airflow.wait_for_task(dag, dag_run, "copy", {"deferred", "success", "failed"}) == "deferred"
    began = airflow.xcom("fans", fan_run, "copy", "skyplane_run")["transfer_id"]
    pids = gateway_pids(airflow, run) + gateway_pids(airflow, fan_run, "fans")
    for component in ("triggerer", "scheduler"):
        airflow.stop_component(component, signal.SIGKILL)
    assert all(psutil.pid_exists(pid) for pid in pids)
    for component in ("triggerer", "scheduler"):
        airflow.start_component(component)
    succeeds(airflow, run, "copy")
    succeeds(airflow, fan_run, "copy", "fans")
    assert airflow.xcom("copies", run, "copy")["objects_copied"] == len(OBJECTS)
    told = airflow.xcom("fans", fan_run, "copy")
    assert (told["transfer_id"], told["objects_copied"]) == (began, 2 * len(OBJECTS))
    assert world.destination.statistics["faults_fired"] == [len(OBJECTS)] * 2
    for fan in fans:
        moved = {name: body for name, (_, _, body) in world.objects("dst").items() if name.startswith(f"{fan}/f")}
        assert moved == {key.replace("data/", f"{fan}/"): body for key, body in OBJECTS.items()}
    world.destination.set_faults(None)
    assert gone(pids)
    succeeds(airflow, run, "drop_in")
