"""Tasks on a real Airflow whose processes are killed, or which a user or a time limit ends."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
from airflow import __version__

from airflow_provider_skyplane.links.report import PREFIX, REPORT_XCOM_KEY, page_path
from airflow_provider_skyplane.several import separate
from skyplane_core.report.value import decode
from skyplane_core.spec import Progress, TransferState
from skyplane_core.testing.objectserver import Fault, Faults
from tests.servers.airflow_clouds import Clouds
from tests.servers.airflow_stack import AirflowStack
from tests.servers.tokens import TokenServer

pytestmark = pytest.mark.timeout(420)

SMALL = {f"f{number:02}": bytes([number]) * 1000 for number in range(20)}
BIG = bytes(range(256)) * (72 << 12)
"""More than one part."""
DAG = """
from datetime import datetime, timedelta, timezone
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_skyplane.operators.deprovision import SkyplaneDeprovisionOperator
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator

def copy(name, **how):
    return SkyplaneOperator(
        task_id=name, source=f"s3://src/{name}/", destination=f"gs://dst/{name}/", recursive=True, **how
    )

begin = datetime(2025, 1, 1, tzinfo=timezone.utc)
defers = dict(deferrable=True, local_gateways_outlive_task=True, poll_interval=1)
with DAG("killed", schedule=None, start_date=begin):
    copy("retried", retries=1, retry_delay=timedelta(seconds=1))
    copy("orphaned") >> SkyplaneDeprovisionOperator(task_id="clean_up").as_teardown()
with DAG("ended", schedule=None, start_date=begin):
    copy("marked", **defers)
    copy("cleared", **defers)
    copy("timed_out", execution_timeout=timedelta(seconds=10), **defers)
    copy("renewed", destination_conn_id="expiring", **defers)
    copy("stopped")
    SkyplaneOperator(
        task_id="fan_out", source="s3://src/fan_out/", destination=["gs://dst/fan_a/", "gs://dst/fan_b/"],
        recursive=True, **defers
    )
"""


@pytest.fixture(scope="module")
def world(airflow: AirflowStack, stack_clouds: Clouds) -> Iterator[Clouds]:
    airflow.add_dag("lives", DAG)
    for task in ("retried", "orphaned", "renewed"):
        stack_clouds.put("src", {f"{task}/{name}": body for name, body in SMALL.items()})
    for task in ("marked", "cleared", "timed_out", "stopped", "fan_out"):
        stack_clouds.put("src", {f"{task}/big": BIG})
    yield stack_clouds
    stack_clouds.source.set_faults(None)
    stack_clouds.source.release()


class Run:
    """One dag run."""

    def __init__(self, airflow: AirflowStack, dag: str) -> None:
        self.airflow, self.dag, self.run_id = airflow, dag, airflow.run_dag(dag)

    def reaches(self, task: str, *states: str) -> None:
        ends = {"success", "failed", "upstream_failed"}
        state = self.airflow.wait_for_task(self.dag, self.run_id, task, {*states, *ends})
        assert state in states, self.told(task)

    def told(self, task: str) -> str:
        log = self.airflow.task_log(self.dag, self.run_id, task)
        return f"{log[-8000:]}\n{self.airflow.log('scheduler')[-3000:]}\n{self.airflow.log('triggerer')[-2000:]}"

    def left(self, task: str) -> dict[str, Any]:
        found: dict[str, Any] = self.airflow.xcom(self.dag, self.run_id, task, "skyplane_run")
        return found

    def pids(self, task: str) -> list[int]:
        return [gateway["pid"] for gateway in json.loads(self.left(task)["dataplane"])["gateways"]]

    def summary(self, task: str) -> dict[str, Any]:
        found: dict[str, Any] = self.airflow.xcom(self.dag, self.run_id, task)
        return found

    def reports(self, task: str) -> list[Progress]:
        """What the reports of a task tell, once its page shows them."""

        def page() -> str:
            answer = httpx.get(
                f"{self.airflow.url}{PREFIX}{page_path(self.dag, self.run_id, task, -1)}",
                headers=self.airflow.headers,
                trust_env=False,
                timeout=30,
            )
            return answer.text if answer.status_code == httpx.codes.OK else ""

        shown = self.airflow.until(page, f"no report: {self.told(task)}")
        left = self.airflow.xcom(self.dag, self.run_id, task, REPORT_XCOM_KEY)
        found = [report.progress for report in decode(left)]
        assert all(one.transfer_id in shown for one in found)
        return found

    def until_said(self, task: str, text: str) -> None:
        try:
            self.airflow.until(lambda: text in self.airflow.task_log(self.dag, self.run_id, task), text)
        except TimeoutError as error:
            raise AssertionError(self.told(task)) from error

    def until_watched(self, task: str) -> None:
        """Wait until a triggerer runs the trigger: Airflow calls no on_kill of one that has not begun."""
        logs = self.airflow.home / "logs"
        self.airflow.until(lambda: list(logs.rglob(f"run_id={self.run_id}/task_id={task}/*.trigger.*")), "no trigger")

    def kill_process(self, task: str) -> None:
        os.kill(self.airflow.task(self.dag, self.run_id, task)["pid"], signal.SIGKILL)


def running(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


def gone(pids: list[int], seconds: float = 40) -> bool:
    deadline = time.monotonic() + seconds
    while running(pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not running(pids)


def hold(world: Clouds, *prefixes: str) -> None:
    """Have the source answer for half of each one's small objects, and for no part of a big one, until released."""
    patterns = [f"{prefix}/{name}" for prefix in prefixes for name in ("f1*", "big")]
    world.source.set_faults(Faults(*(Fault("GetObject", "hold-before", key=pattern) for pattern in patterns)))


def release(world: Clouds) -> None:
    world.source.set_faults(None)
    world.source.release()


def test_a_retry_goes_on_with_what_a_killed_try_has_started(airflow: AirflowStack, world: Clouds) -> None:
    """And what no retry comes back to is ended by a SkyplaneDeprovisionOperator."""
    if __version__.startswith("3.0."):
        pytest.skip("Airflow 3.0 itself fails a task whose process was killed, whatever retries it has")
    hold(world, "retried", "orphaned")
    # What matches is counted, and goes through.
    world.destination.set_faults(Faults(Fault("PutObject", "stall", key="retried/f*", seconds=0.0)))
    run = Run(airflow, "killed")
    run.reaches("retried", "running")
    run.reaches("orphaned", "running")
    world.source.wait_held(20)
    started, pids, orphans = run.left("retried"), run.pids("retried"), run.pids("orphaned")
    run.kill_process("retried")
    run.kill_process("orphaned")
    run.reaches("orphaned", "failed")
    assert gone(orphans), run.told("clean_up")
    run.reaches("clean_up", "success")
    assert airflow.xcom(run.dag, run.run_id, "clean_up") == [run.left("orphaned")["transfer_id"]]
    run.until_said("retried", f"An earlier try started transfer {started['transfer_id']}: it is running")
    assert running(pids) == pids
    release(world)
    run.reaches("retried", "success")
    assert run.summary("retried")["transfer_id"] == started["transfer_id"]
    assert run.summary("retried")["objects_copied"] == len(SMALL)
    assert world.destination.statistics["faults_fired"] == [len(SMALL)]
    assert gone(pids)
    world.destination.set_faults(None)
    assert "HTTP Request" not in airflow.task_log(run.dag, run.run_id, "retried"), "a line for each look at a gateway"
    # A task that is cleared after its success runs again.
    airflow.clear(run.dag, run.run_id, "retried")
    airflow.until(lambda: airflow.task(run.dag, run.run_id, "retried")["try_number"] == 3, "no third try")
    run.reaches("retried", "success")
    assert run.summary("retried")["transfer_id"] != started["transfer_id"]
    assert run.summary("retried")["objects_copied"] == len(SMALL)


def test_what_ends_a_deferred_task_ends_its_transfer(airflow: AirflowStack, world: Clouds, tokens: TokenServer) -> None:
    """As does what ends one that runs on a worker. One whose credentials are about to expire wakes a worker.

    What was ended leaves its report.
    """
    tasks = ("marked", "cleared", "timed_out", "renewed", "fan_out")
    hold(world, *tasks, "stopped")
    run = Run(airflow, "ended")
    for task in tasks:
        run.reaches(task, "deferred")
    run.until_said("stopped", "is running on dataplane")
    pids = {task: run.pids(task) for task in (*tasks, "stopped")}
    earlier, given = run.left("cleared")["transfer_id"], tokens.given
    for task in ("marked", "cleared", "fan_out"):
        run.until_watched(task)
    doomed = {"marked/big", "cleared/big", "stopped/big", "fan_a/big", "fan_b/big"}
    airflow.until(lambda: {key for key, _, _ in world.destination.uploads("dst")} >= doomed, "no uploads")

    for task in ("marked", "stopped", "fan_out"):
        airflow.mark_failed(run.dag, run.run_id, task)
    airflow.clear(run.dag, run.run_id, "cleared")
    assert gone(pids["marked"]), run.told("marked")
    assert gone(pids["cleared"]), run.told("cleared")
    assert gone(pids["stopped"]), run.told("stopped")
    assert gone(pids["fan_out"]), run.told("fan_out")
    run.reaches("timed_out", "failed")
    assert "ran past its deadline" in airflow.task_log(run.dag, run.run_id, "timed_out")
    assert gone(pids["timed_out"])
    run.until_said("renewed", "were given fresh credentials")
    assert tokens.given > given
    assert running(pids["renewed"]) == pids["renewed"]

    run.reaches("cleared", "deferred")
    release(world)
    run.reaches("renewed", "success")
    run.reaches("cleared", "success")
    assert run.summary("renewed")["objects_copied"] == len(SMALL)
    assert run.summary("cleared")["transfer_id"] != earlier
    assert run.summary("cleared")["bytes_copied"] == len(BIG)
    assert airflow.task(run.dag, run.run_id, "marked")["state"] == "failed"
    assert world.destination.uploads("dst") == []
    for task, transfers in (("marked", 1), ("stopped", 1), ("timed_out", 1), ("fan_out", 2)):
        told = run.reports(task)
        assert [one.transfer_id for one in told] == separate(run.left(task)["transfer_id"])
        ends = [(one.state, one.objects_copied, one.objects_selected, one.bytes_selected) for one in told]
        assert ends == [(TransferState.CANCELLED, 0, 1, len(BIG))] * transfers
