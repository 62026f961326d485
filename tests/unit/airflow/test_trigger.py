"""The trigger, with a watch that answers from a list."""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.utils.state import TaskInstanceState

from airflow_provider_skyplane.triggers import skyplane as module
from airflow_provider_skyplane.triggers import task_state
from airflow_provider_skyplane.triggers.skyplane import SkyplaneTransferTrigger
from skyplane_core.errors import GatewayRefused, GatewayUnreachable, TransferNotFound
from skyplane_core.spec import Progress, TransferState

SECRET = "canary-control-secret-0123456789abcdef"
RUNNING = Progress("t1", TransferState.RUNNING)
DONE = Progress(
    "t1", TransferState.DONE, objects_copied=3, bytes_copied=9, started_at=10.0, ended_at=12.0, receipt="gs://d/r"
)


class FakeWatch:
    answers: list[Progress | Exception]
    calls: list[str]

    def __init__(self, reference: str, transfer_id: str, secret: bytes, fingerprint: str, hosts: Any) -> None:
        assert secret == SECRET.encode()

    async def progress(self) -> Progress:
        self.calls.append("progress")
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def cancel_and_shut_down(self) -> None:
        self.calls.append("shut down")

    async def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> type[FakeWatch]:
    class Watch(FakeWatch):
        pass

    Watch.answers, Watch.calls = [DONE], []
    monkeypatch.setattr(module, "Watch", Watch)
    monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", f'{{"conn_type": "skyplane", "password": "{SECRET}"}}')
    return Watch


def trigger(**kwargs: Any) -> SkyplaneTransferTrigger:
    given = {"poll_interval": 0.001, **kwargs}
    return SkyplaneTransferTrigger(
        dataplane="{}", transfer_id="t1", skyplane_conn_id="skyplane_default", ca_fingerprint="fp", **given
    )


def events(running: SkyplaneTransferTrigger) -> list[dict[str, Any]]:
    async def collect() -> list[dict[str, Any]]:
        return [event.payload async for event in running.run()]

    return asyncio.run(collect())


def test_it_is_rebuilt_from_what_it_serialises_to() -> None:
    path, kwargs = trigger(deadline=5.0, renew_not_before=7.0).serialize()
    json.dumps(kwargs)
    name, _, cls = path.rpartition(".")
    again = getattr(importlib.import_module(name), cls)(**kwargs)
    assert again.serialize() == (path, kwargs)


def test_success_is_one_small_event_after_one_call_a_poll(watch: type[FakeWatch]) -> None:
    watch.answers = [RUNNING, RUNNING, DONE]
    (event,) = events(trigger())
    assert event["status"] == "success"
    assert event["finished"]["objects_copied"] == 3
    assert event["finished"]["seconds"] == 2.0
    assert watch.calls == ["progress"] * 3 + ["close"]
    assert len(json.dumps(event)) < 1000


@pytest.mark.parametrize(
    ("progress", "says"),
    [
        (Progress("t1", TransferState.FAILED, error="the store is gone"), "the store is gone"),
        (Progress("t1", TransferState.FAILED, objects_failed=1, failures=(("k", "denied"),)), "k: denied"),
        (Progress("t1", TransferState.CANCELLED), "cancelled"),
        (Progress("t1", TransferState.DONE, objects_copied=1, objects_failed=1), "1 of 2 objects did not arrive"),
    ],
)
def test_what_did_not_end_well_is_an_error(watch: type[FakeWatch], progress: Progress, says: str) -> None:
    watch.answers = [progress]
    (event,) = events(trigger())
    assert event["status"] == "error"
    assert says in event["message"]


def test_a_short_silence_is_survived_and_a_long_one_is_not(
    watch: type[FakeWatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.answers = [GatewayUnreachable("no answer"), DONE]
    assert events(trigger())[0]["status"] == "success"
    monkeypatch.setattr(module, "UNREACHABLE_LIMIT_SECONDS", 0.0)
    watch.answers = [GatewayUnreachable("no answer")]
    (event,) = events(trigger())
    assert event["status"] == "error"
    assert "no answer" in event["message"]


def test_a_permanent_error_ends_at_once(watch: type[FakeWatch]) -> None:
    watch.answers = [TransferNotFound("unknown transfer")]
    assert events(trigger())[0]["status"] == "error"
    assert watch.calls == ["progress", "close"]


def test_the_deadline_is_kept_by_the_trigger(watch: type[FakeWatch]) -> None:
    watch.answers = [RUNNING]
    (event,) = events(trigger(deadline=time.time() + 0.02, poll_interval=60))
    assert event["status"] == "timeout"


def test_no_event_before_the_supervisor_has_seen_the_task_defer(watch: type[FakeWatch]) -> None:
    not_before = time.time() + 0.1
    assert events(trigger(not_before=not_before))[0]["status"] == "success"
    assert time.time() >= not_before


def test_credentials_about_to_expire_ask_for_a_worker(watch: type[FakeWatch]) -> None:
    watch.answers = [Progress("t1", TransferState.RUNNING, credentials_expire_at=time.time() + 60), DONE]
    assert events(trigger())[0]["status"] == "renew"


def test_what_a_renewal_could_not_better_is_asked_for_again_but_not_at_every_poll(watch: type[FakeWatch]) -> None:
    expiring = Progress("t1", TransferState.RUNNING, credentials_expire_at=time.time() + 60)
    watch.answers = [expiring, expiring, DONE]
    assert events(trigger(renew_not_before=time.time() + 60))[0]["status"] == "success"
    watch.answers = [expiring]
    not_before = time.time() + 0.05
    assert events(trigger(renew_not_before=not_before))[0]["status"] == "renew"
    assert time.time() >= not_before


def test_a_connection_without_a_secret_is_an_error_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNREACHABLE_LIMIT_SECONDS", 0.0)
    monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", '{"conn_type": "skyplane"}')
    (event,) = events(trigger())
    assert event["status"] == "error"
    assert "control secret" in event["message"]


def test_a_secrets_backend_that_is_away_for_a_while_ends_no_transfer(
    watch: type[FakeWatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Airflow takes a backend that does not answer for one that does not know the connection.
    answers = [AirflowNotFoundException("not defined"), ConnectionError("the API server restarts")]

    async def read_access(conn_id: str) -> tuple[bytes, tuple[()]]:
        if answers:
            raise answers.pop(0)
        return SECRET.encode(), ()

    monkeypatch.setattr(module, "read_access", read_access)
    assert events(trigger())[0]["status"] == "success"
    assert watch.calls == ["progress", "close"]


def test_a_changed_control_secret_ends_the_watch_at_once(
    watch: type[FakeWatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_given: Any) -> None:
        raise GatewayRefused("the control secret is not the one")

    monkeypatch.setattr(module, "Watch", refused)
    (event,) = events(trigger(poll_interval=60))
    assert (event["status"], "not the one" in event["message"]) == ("error", True)


def test_on_kill_goes_on_when_airflow_cancels_it_again(watch: type[FakeWatch], monkeypatch: pytest.MonkeyPatch) -> None:
    async def slowly(self: FakeWatch) -> None:
        self.calls.append("begin")
        await asyncio.sleep(0.05)
        self.calls.append("shut down")

    async def killed_and_cancelled() -> None:
        kill = asyncio.create_task(trigger().on_kill())
        while not watch.calls:  # noqa: ASYNC110  # the code under test tells nobody
            await asyncio.sleep(0.001)
        kill.cancel()
        with pytest.raises(asyncio.CancelledError):
            await kill
        while module._ENDING:  # noqa: ASYNC110  # the code under test tells nobody
            await asyncio.sleep(0.001)

    monkeypatch.setattr(watch, "cancel_and_shut_down", slowly)
    asyncio.run(killed_and_cancelled())
    assert watch.calls == ["begin", "shut down", "close"]


def test_on_kill_tears_down_and_cleanup_does_not(watch: type[FakeWatch]) -> None:
    asyncio.run(trigger().cleanup())
    assert watch.calls == []
    asyncio.run(trigger().on_kill())
    assert watch.calls == ["shut down", "close"]


async def cancelled_while_it_watches(watch: type[FakeWatch]) -> None:
    async def collect() -> None:
        async for _event in trigger(poll_interval=60).run():
            raise AssertionError

    running = asyncio.create_task(collect())
    while not watch.calls:  # noqa: ASYNC110  # the code under test tells nobody
        await asyncio.sleep(0.001)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    while module._ENDING:  # noqa: ASYNC110  # the code under test tells nobody
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("deferred", "ends"),
    [(True, []), (False, ["shut down", "close"]), (RuntimeError("the supervisor is gone"), [])],
    ids=["restart", "user", "unknown"],
)
def test_before_airflow_3_3_a_cancelled_trigger_asks_whether_its_task_was_ended(
    watch: type[FakeWatch], monkeypatch: pytest.MonkeyPatch, deferred: bool | Exception, ends: list[str]
) -> None:
    async def still_deferred(_task_instance: Any) -> bool:
        if isinstance(deferred, Exception):
            raise deferred
        return deferred

    watch.answers = [RUNNING]
    monkeypatch.setattr(module.task_state, "TELLS", False)
    monkeypatch.setattr(module.task_state, "still_deferred", still_deferred)
    asyncio.run(cancelled_while_it_watches(watch))
    assert watch.calls == ["progress", "close", *ends]


def test_where_airflow_tells_a_cancelled_trigger_asks_nobody(
    watch: type[FakeWatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.answers = [RUNNING]
    monkeypatch.setattr(module.task_state, "TELLS", True)
    monkeypatch.setattr(module.task_state, "still_deferred", None)
    asyncio.run(cancelled_while_it_watches(watch))
    assert watch.calls == ["progress", "close"]


@pytest.mark.parametrize(
    ("states", "deferred"),
    [
        ({"r": {"t": "deferred"}}, True),
        ({"r": {"t_3": TaskInstanceState.DEFERRED}}, True),
        ({"r": {"t": "failed"}}, False),
        ({"r": {"t": None}}, False),
        ({"r": {}}, False),
        ({}, False),
    ],
)
def test_a_task_waits_for_its_trigger_only_while_it_is_deferred(
    monkeypatch: pytest.MonkeyPatch, states: dict[str, dict[str, Any]], deferred: bool
) -> None:
    def get_task_states(**which: Any) -> dict[str, dict[str, Any]]:
        assert which == {"dag_id": "d", "task_ids": ["t"], "run_ids": ["r"], "map_index": -1}
        return states

    # Airflow 2 asks its database instead.
    runner = pytest.importorskip("airflow.sdk.execution_time.task_runner")
    monkeypatch.setattr(runner.RuntimeTaskInstance, "get_task_states", get_task_states)
    task_instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)
    assert asyncio.run(task_state.still_deferred(task_instance)) is deferred
