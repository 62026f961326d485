"""What SkyplaneDeprovisionOperator ends, and what it refuses."""

from __future__ import annotations

import json
import logging
import socket
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowException, BaseOperator

from airflow_provider_skyplane.engine import Engine
from airflow_provider_skyplane.operators.base import RUN_XCOM_KEY
from airflow_provider_skyplane.operators.deprovision import SkyplaneDeprovisionOperator
from skyplane_core.errors import GatewayRefused, GatewayUnreachable, SkyplaneError
from skyplane_core.identity import new_dataplane_id
from skyplane_core.spec import Progress

SECRET = "canary-control-secret-0123456789abcdef"
HERE = socket.gethostname()
DATAPLANE_ID = new_dataplane_id()
DATAPLANE = json.dumps({"dataplane_id": DATAPLANE_ID, "provisioner": "local", "gateways": [], "ca_fingerprint": "fp"})


class FakeRun:
    dataplane_id = "dp-1"

    def __init__(self, transfer_id: str, *, elsewhere: bool = False) -> None:
        self.transfer_id, self.outlives_task = transfer_id, elsewhere
        self.fails: SkyplaneError | None = None
        self.calls: list[str] = []

    def cancel(self, seconds: float) -> Progress:
        self.calls.append("cancel")
        raise GatewayUnreachable("gone")

    def stop(self) -> None:
        self.calls.append("stop")
        if self.fails is not None:
            raise self.fails


class FakeEngine:
    def __init__(self, *runs: FakeRun) -> None:
        self.runs = {run.transfer_id: run for run in runs}

    def attach(self, reference: str, transfer_id: str) -> FakeRun:
        return self.runs[transfer_id]


class TaskInstance:
    """Pulls as Airflow does: what is there, of all tasks that were named."""

    def __init__(self, **xcoms: Any) -> None:
        self.xcoms = xcoms
        self.asked: list[str] = []

    def xcom_pull(self, task_ids: list[str], key: str) -> list[Any]:
        assert key == RUN_XCOM_KEY
        self.asked = task_ids
        return [self.xcoms.get(task) for task in task_ids]


def left(transfer_id: str, host: str = HERE) -> dict[str, str]:
    return {"dataplane": DATAPLANE, "transfer_id": transfer_id, "host": host}


@pytest.fixture(autouse=True)
def connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", f'{{"conn_type": "skyplane", "password": "{SECRET}"}}')


def ender(*runs: FakeRun, **kwargs: Any) -> Any:
    operator = SkyplaneDeprovisionOperator(task_id="end", **kwargs)
    operator.hook.engine = FakeEngine(*runs)
    return operator


@pytest.mark.parametrize("given", [left("t1"), json.dumps(left("t1"))], ids=["XCom", "template"])
def test_a_reference_is_ended_as_often_as_asked(given: Any) -> None:
    operator = ender(run := FakeRun("t1"), reference=given)
    assert operator.execute({}) == operator.execute({}) == ["t1"]
    assert run.calls == ["cancel", "stop"] * 2


def test_that_a_transfer_has_ended_long_ago_is_told_as_such_and_not_as_a_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    operator = ender(FakeRun("t1"), reference=left("t1"))
    log = logging.getLogger("deprovision")
    log.setLevel(logging.INFO)
    monkeypatch.setattr(log, "handlers", [caplog.handler])
    monkeypatch.setattr(log, "propagate", False)
    monkeypatch.setattr(SkyplaneDeprovisionOperator, "log", log)
    operator.execute({})
    said = [line for line in caplog.messages if "cannot be called outside" not in line]
    assert said == ["Transfer t1 does not answer any more.", "None of 1 transfer runs any more."]


def test_a_task_that_started_nothing_has_left_nothing() -> None:
    assert ender(reference=None).execute({}) == []
    ti = TaskInstance()
    assert ender(task_ids=["a", "b"]).execute({"ti": ti}) == []
    assert ti.asked == ["a", "b"]


def test_by_default_it_is_all_that_tasks_upstream_have_left() -> None:
    runs = [FakeRun("t1"), FakeRun("t2")]
    with DAG("d", schedule=None):
        first, second, other = (BaseOperator(task_id=name) for name in ("first", "second", "other"))
        operator = SkyplaneDeprovisionOperator(task_id="end")
        first >> second >> operator
    operator.hook.engine = FakeEngine(*runs)
    ti = TaskInstance(first=left("t2"), second=left("t1"), other=left("t3"))
    assert operator.execute({"ti": ti}) == ["t1", "t2"]
    assert other.task_id not in ti.asked
    assert [run.calls for run in runs] == [["cancel", "stop"]] * 2


def test_one_task_may_be_named_alone() -> None:
    ti = TaskInstance(one=left("t1"))
    assert ender(FakeRun("t1"), task_ids="one").execute({"ti": ti}) == ["t1"]


def test_what_may_still_run_is_named_after_the_others_were_ended() -> None:
    stuck, well = FakeRun("t1"), FakeRun("t2")
    stuck.fails = GatewayRefused("not you")
    ti = TaskInstance(a=left("t1"), b=left("t3", host="another-host"), c=left("t2"))
    with pytest.raises(AirflowException, match=r"2 of 3 transfers may still run.*t1.*t3.*'another-host'"):
        ender(stuck, well, FakeRun("t3"), task_ids=["a", "b", "c"]).execute({"ti": ti})
    assert well.calls == ["cancel", "stop"]


def test_what_its_own_task_has_ended_is_no_complaint_on_another_host() -> None:
    ended = {**left("t1", host="another-host"), "ended": True}
    operator = ender(run := FakeRun("t1"), reference=ended)
    assert operator.execute({}) == ["t1"]
    assert run.calls == []


def test_gateways_that_are_processes_of_no_worker_are_ended_from_anywhere() -> None:
    run = FakeRun("t1", elsewhere=True)
    assert ender(run, reference=left("t1", host="another-host")).execute({}) == ["t1"]


@pytest.mark.parametrize(
    "kwargs", [{"reference": {"dataplane": "{}"}, "task_ids": "a"}, {"task_ids": []}, {"task_ids": ""}]
)
def test_arguments_that_cannot_be_right_are_refused_at_parse(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="task_ids"):
        ender(**kwargs)


@pytest.mark.parametrize(
    "value",
    ["None", "t1", "{}", "[]", 7, {}, {**left("t1"), "dataplane": "{}"}, {"dataplane": DATAPLANE}, {"transfer_id": 1}],
)
def test_what_is_no_reference_is_refused_with_a_fix(value: Any) -> None:
    with pytest.raises(AirflowException, match=r"Invalid value for reference.*XComArg"):
        ender(reference=value).execute({})


def test_a_template_that_renders_to_nothing_is_refused() -> None:
    operator = ender(reference="{{ nothing }}")
    operator.reference = ""
    with pytest.raises(AirflowException, match="Invalid value for reference"):
        operator.execute({})


def test_with_nothing_upstream_it_is_refused() -> None:
    with DAG("d", schedule=None):
        operator = SkyplaneDeprovisionOperator(task_id="end")
    with pytest.raises(AirflowException, match="task_ids"):
        operator.execute({"ti": TaskInstance()})


def test_without_a_control_secret_nothing_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", '{"conn_type": "skyplane"}')
    with pytest.raises(AirflowException, match="no control secret"):
        ender(reference=left("t1")).execute({})


def test_a_real_engine_takes_what_was_left() -> None:
    run = Engine(gateways=1, control_secret=SECRET.encode()).attach(left("t1")["dataplane"], "t1")
    assert run.dataplane_id == DATAPLANE_ID
