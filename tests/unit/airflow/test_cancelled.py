"""What is left of a transfer that was cancelled: a report that says so and how far it came, whoever cancelled it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowTaskTimeout, XCom
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_skyplane.finished import Finished
from airflow_provider_skyplane.links.report import REPORT_XCOM_KEY
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator
from airflow_provider_skyplane.reports import cancelled
from airflow_provider_skyplane.several import Several, as_one
from airflow_provider_skyplane.triggers import skyplane as module
from airflow_provider_skyplane.triggers.skyplane import SkyplaneTransferTrigger
from skyplane_core.errors import GatewayUnreachable
from skyplane_core.report.value import Report, decode
from skyplane_core.spec import Progress, TransferState

RUNNING = Progress("t1", TransferState.RUNNING, objects_selected=9, objects_copied=3)
CANCELLED = Progress("t1", TransferState.CANCELLED, objects_selected=9, objects_copied=4)
GONE = GatewayUnreachable("gone")
WHO = "d.t, run r, try 2"

progresses = st.builds(Progress, st.just("t1"), st.sampled_from(TransferState), objects_copied=st.integers(0, 9))


@given(st.lists(progresses, min_size=1, max_size=4))
def test_what_is_told_of_a_cancelled_transfer_is_an_end_and_that_of_one_that_had_ended_is_its_own(
    each: list[Progress],
) -> None:
    told = cancelled(as_one(each))
    assert told.state.ended
    for before, after in zip(each, told.each if isinstance(told, Several) else [told], strict=True):
        assert after.objects_copied == before.objects_copied
        assert (after == before) is before.state.ended
        if not before.state.ended:
            assert (after.state, "the last that was heard" in after.error) == (TransferState.CANCELLED, True)


class Run:
    """A run that is cut off while its task waits."""

    transfer_id, dataplane_id, reference, fingerprint, outlives_task = "t1", "dp", "{}", "asked", False

    def __init__(self, error: BaseException, *answers: Progress | GatewayUnreachable) -> None:
        self.error, self.answers, self.stopped = error, list(answers), 0
        self.interrupt: Callable[[], None] = lambda: None

    def wait(self, on_progress: Callable[[Progress], None]) -> Finished:
        on_progress(RUNNING)
        self.interrupt()
        raise self.error

    def cancel(self, _seconds: float) -> Progress:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stop(self) -> None:
        self.stopped += 1


class TaskInstance:
    dag_id, run_id, task_id, map_index, try_number, max_tries = "d", "r", "t", -1, 2, 1

    def __init__(self, *, broken: bool = False) -> None:
        self.xcoms: dict[str, Any] = {}
        self.broken = broken

    def xcom_push(self, key: str, value: Any) -> None:
        if self.broken:
            raise RuntimeError("the API server is away")
        self.xcoms[key] = value

    def xcom_pull(self, **_which: Any) -> dict[str, str]:
        return {"dataplane": "{}", "transfer_id": "t1"}

    def report(self) -> Report:
        (found,) = decode(self.xcoms[REPORT_XCOM_KEY])
        return found


def waits(run: Run, ti: TaskInstance) -> SkyplaneOperator:
    """A task that waits for ``run``, which is cut off."""
    operator = SkyplaneOperator(task_id="t", source="s3://src/a/", destination="gs://dst/b/", recursive=True)
    engine = SimpleNamespace(start=lambda _request, **_how: run, attach=lambda *_which: run)
    operator.hook.__dict__["engine"] = engine
    return operator


@pytest.mark.parametrize(
    ("said", "told"), [(CANCELLED, CANCELLED), (RUNNING, cancelled(RUNNING)), (GONE, cancelled(RUNNING))]
)
def test_a_time_limit_on_the_worker_leaves_one(said: Progress | GatewayUnreachable, told: Progress) -> None:
    run, ti = Run(AirflowTaskTimeout("too long"), said), TaskInstance()
    with pytest.raises(AirflowTaskTimeout):
        waits(run, ti).execute({"ti": ti})
    assert ti.report() == Report(told, WHO)
    assert run.stopped == 1


def test_a_task_that_is_killed_leaves_what_its_last_call_was_told() -> None:
    """The handler of the signal cancels, and what it has interrupted finds the gateways gone."""
    run, ti = Run(GONE, CANCELLED, GONE), TaskInstance()
    operator = waits(run, ti)
    run.interrupt = operator.on_kill
    with pytest.raises(AirflowException, match="gone"):
        operator.execute({"ti": ti})
    assert ti.report() == Report(CANCELLED, WHO)


def test_a_report_that_cannot_be_left_changes_nothing() -> None:
    run, ti = Run(AirflowTaskTimeout("too long"), CANCELLED), TaskInstance(broken=True)
    with pytest.raises(AirflowTaskTimeout):
        waits(run, ti).execute({"ti": ti})
    assert run.stopped == 1


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ({"status": "timeout", "message": "late"}, CANCELLED),
        ({"status": "error", "message": "lost"}, CANCELLED),
    ],
)
def test_a_resumed_task_that_gives_its_transfer_up_leaves_one(event: dict[str, str], told: Progress) -> None:
    run, ti = Run(GONE, CANCELLED), TaskInstance()
    with pytest.raises(AirflowException, match=event["message"]):
        waits(run, ti).execute_complete({"ti": ti}, {"dataplane": "{}", "transfer_id": "t1", **event})
    assert ti.report() == Report(told, WHO)


def test_a_task_whose_trigger_died_leaves_one() -> None:
    run, ti = Run(GONE, CANCELLED), TaskInstance()
    with pytest.raises(Exception, match="boom"):
        waits(run, ti).resume_execution("__fail__", {"error": "boom"}, {"ti": ti})
    assert ti.report() == Report(CANCELLED, WHO)


class Watch:
    """Answers once, and tells of the cancelled transfer what it was given."""

    looked = False
    last: Progress | None = None

    def __init__(self, *_how: Any) -> None: ...

    async def progress(self) -> Progress:
        type(self).looked = True
        return RUNNING

    async def cancel_and_shut_down(self) -> Progress | None:
        return self.last

    async def close(self) -> None: ...


@pytest.mark.parametrize(("last", "told"), [(CANCELLED, CANCELLED), (RUNNING, cancelled(RUNNING)), (None, None)])
@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("broken", [False, True])
def test_a_killed_trigger_leaves_one(
    monkeypatch: pytest.MonkeyPatch, last: Progress | None, told: Progress | None, watched: bool, broken: bool
) -> None:
    left: list[dict[str, Any]] = []

    async def read_access(_conn_id: str) -> tuple[bytes, tuple[()]]:
        return b"s" * 40, ()

    def keep(**what: Any) -> None:
        if broken:
            raise RuntimeError("no such dag run")
        left.append(what)

    monkeypatch.setattr(module, "Watch", type("Watch", (Watch,), {"last": last, "looked": False}))
    monkeypatch.setattr(module, "read_access", read_access)
    monkeypatch.setattr(XCom, "set", keep)
    monkeypatch.setattr(module.task_state, "TELLS", True)
    trigger = SkyplaneTransferTrigger(
        dataplane="{}", transfer_id="t1", skyplane_conn_id="c", ca_fingerprint="fp", poll_interval=60
    )
    trigger.task_instance = TaskInstance()

    async def killed() -> None:
        if watched:
            running = asyncio.create_task(trigger.run().__anext__())
            while not module.Watch.looked:  # noqa: ASYNC110  # the code under test tells nobody
                await asyncio.sleep(0.001)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        await trigger.on_kill()

    asyncio.run(killed())
    told = cancelled(RUNNING) if told is None and watched else told
    if broken or told is None:
        assert left == []
        return
    (found,) = left
    assert {name: found[name] for name in ("dag_id", "task_id", "run_id", "map_index")} == {
        "dag_id": "d", "task_id": "t", "run_id": "r", "map_index": -1,
    }  # fmt: skip
    assert decode(found["value"]) == (Report(told, WHO),)
