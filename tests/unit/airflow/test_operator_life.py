"""The life of a transfer as a task, with an engine that only records what it is asked."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import socket
import time
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowNotFoundException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from airflow_provider_skyplane.finished import Finished
from airflow_provider_skyplane.links.report import LINK_XCOM_KEY
from airflow_provider_skyplane.operators.base import FAILED_XCOM_KEY, RUN_XCOM_KEY
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator
from airflow_provider_skyplane.triggers.skyplane import RENEW_PAUSE_SECONDS
from skyplane_core.errors import (
    GatewayUnreachable,
    NothingToTransfer,
    ProvisionFailed,
    StoreUnavailable,
    UsageError,
)
from skyplane_core.model import Compression, Shrinkage
from skyplane_core.spec import Progress, TransferState
from tests.unit.airflow.recorded import (
    DONE,
    EVENT,
    SECRET,
    FakeRun,
    TaskInstance,
    copier,
    drop_in,
    with_engine,
)


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", f'{{"conn_type": "skyplane", "password": "{SECRET}"}}')


def test_a_transfer_that_succeeds_returns_a_small_summary_and_leaves_no_gateway() -> None:
    run = FakeRun()
    assert copier(run).execute({}) == {
        "transfer_id": "t1",
        "objects_copied": 2,
        "objects_skipped": 1,
        "bytes_copied": 30,
        "seconds": 1.5,
        "receipt": "gs://dst/in/.skyplane/t1/receipt.json",
        "objects_deleted": 0,
        "stopped_at": "",
    }
    assert run.calls == ["wait", "stop"]


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What operators log. Airflow's own logger drops what is below the level of its configuration."""
    log = logging.getLogger("a-task")
    log.setLevel(logging.INFO)
    monkeypatch.setattr(log, "handlers", [caplog.handler])
    monkeypatch.setattr(log, "propagate", False)
    monkeypatch.setattr(SkyplaneOperator, "log", log)
    return caplog


def test_the_log_says_what_was_compressed_and_why_not(heard: pytest.LogCaptureFixture) -> None:
    some = Shrinkage(Compression.AUTO, local_bytes=30)
    finished = Finished.of(Progress("t1", TransferState.DONE, objects_copied=2, bytes_copied=30, shrinkage=some))
    copier(FakeRun(finished)).execute({})
    assert "Compression: auto: 30 B sent as they are (they did not leave the machine)." in heard.messages


def test_the_log_says_what_was_asked_for_and_what_came_of_it(heard: pytest.LogCaptureFixture) -> None:
    finished = Finished(
        "t1",
        1234,
        1,
        0,
        3 << 20,
        1.5,
        "gs://dst/b/.skyplane/t1/receipt.json",
        objects_deleted=7,
        stopped_at="max_objects",
    )
    copier(FakeRun(finished)).execute({})
    assert [line for line in heard.messages if "cannot be called outside" not in line] == [
        "Copying s3://src/a/ to gs://dst/b/.",
        "Transfer t1 is running on dataplane dp.",
        (
            "Done: 1,234 copied (3.0 MiB in 1.5 s, 2.0 MiB/s), 1 skipped, 7 deleted, the selection ended at "
            "max_objects. The receipt is gs://dst/b/.skyplane/t1/receipt.json"
        ),
    ]


def test_the_log_has_a_line_for_each_of_several_destinations(heard: pytest.LogCaptureFixture) -> None:
    one, two = (dataclasses.asdict(Finished(n, 0, 1, 0, 0, 0.0, f"{n}/receipt.json")) for n in ("t1", "t2"))
    uris = ["gs://dst/b/", "s3://dst/b/"]
    operator = SkyplaneOperator(task_id="t", source="s3://src/a/", destination=uris, mode="sync")
    both = Finished("t1,t2", 0, 2, 0, 0, 0.0, "", destinations=(one, two))
    with_engine(operator, FakeRun(both)).execute({})
    assert "Syncing s3://src/a/ to gs://dst/b/, s3://dst/b/." in heard.messages
    assert [line for line in heard.messages if line.startswith("Done")] == [
        "Done: gs://dst/b/: 0 copied (0 B in 0 s), 1 skipped. The receipt is t1/receipt.json",
        "Done: s3://dst/b/: 0 copied (0 B in 0 s), 1 skipped. The receipt is t2/receipt.json",
    ]


def test_a_transfer_with_failures_names_the_first_causes() -> None:
    failures = tuple((f"key{n}", "no") for n in range(9))
    run, ti = FakeRun(Finished("t1", 1, 0, 9, 1, 1.0, "gs://dst/r", failures)), TaskInstance()
    with pytest.raises(
        AirflowException, match=r"9 of 10 objects did not arrive.*key0: no.*key4: no.*gs://dst/r"
    ) as caught:
        copier(run).execute({"ti": ti})
    left = ti.xcoms[FAILED_XCOM_KEY]
    assert (left["objects_failed"], left["receipt"], left["failures"][0]) == (9, "gs://dst/r", ["key0", "no"])
    assert "key5" not in str(caught.value)
    assert run.calls == ["wait", "stop"]


@pytest.mark.parametrize("context", [{}, None])
def test_outside_of_a_task_run_the_causes_are_told_as_well(context: Any) -> None:
    failed = Finished("t1", 1, 0, 1, 10, 1.0, "", (("key0", "no"),))
    with pytest.raises(AirflowException, match="key0"):
        copier(FakeRun(failed)).execute(context)


def test_an_engine_error_while_waiting_cancels_and_tears_down() -> None:
    run = FakeRun(GatewayUnreachable("no answer", where="gateway-0"))
    with pytest.raises(AirflowException, match="no answer"):
        copier(run).execute({})
    assert run.calls == ["wait", "cancel", "stop"]


def test_a_time_limit_on_the_worker_cancels_and_tears_down() -> None:
    run = FakeRun(AirflowTaskTimeout("too long"))
    with pytest.raises(AirflowTaskTimeout):
        copier(run).execute({})
    assert run.calls == ["wait", "cancel", "stop"]


def test_what_cannot_be_started_is_an_airflow_exception() -> None:
    with pytest.raises(AirflowException, match="could not start"):
        copier(refuse=ProvisionFailed("could not start")).execute({})
    with pytest.raises(AirflowException, match="nothing there"):
        copier(refuse=NothingToTransfer("nothing there")).execute({})


def test_the_drop_in_takes_an_empty_source_for_in_sync() -> None:
    assert drop_in(refuse=NothingToTransfer("nothing there")).execute({}) == []


def test_the_drop_in_returns_what_the_receipt_says_was_copied_sorted() -> None:
    assert drop_in().execute({}) == ["a", "b"]
    assert drop_in(return_gcs_uris=True).execute({}) == ["gs://dst/in/a", "gs://dst/in/b"]


def test_the_drop_in_leaves_a_receipt_only_where_it_was_asked_to() -> None:
    by_default, kept, failing = drop_in(), drop_in(receipt_path="receipts/"), drop_in()
    failing.hook.engine.discard_fails = True
    for operator in (by_default, kept, failing):
        assert operator.execute({}) == ["a", "b"]
    assert by_default.hook.engine.discarded == kept.hook.engine.discarded == ["t1"]
    assert by_default.hook.engine.requests[0].receipt is None
    assert kept.hook.engine.requests[0].receipt is not None
    summary = drop_in(receipt_path="receipts/", return_summary=True, return_gcs_uris=True).execute({})
    assert summary == copier().execute({})
    assert drop_in(return_summary=True, return_gcs_uris=True).execute({})["receipt"] == ""


def test_the_drop_in_with_a_summary_has_one_for_an_empty_source_too() -> None:
    nothing = drop_in(refuse=NothingToTransfer("nothing there"), return_summary=True, return_gcs_uris=True)
    assert nothing.execute({})["objects_copied"] == 0


PLACES = [
    ({"receipt_url": "s3://log/runs/"}, "s3://log/runs/", "aws-src"),
    ({"receipt_url": "gs://log/r.parquet"}, "gs://log/r.parquet", "gcp-dst"),
    ({"receipt_url": "gs://log/r", "receipt_conn_id": "auditor"}, "gs://log/r", "auditor"),
    ({"receipt_url": "file:///tmp/r.jsonl"}, "file:///tmp/r.jsonl", None),
    ({"receipt_path": "/kept"}, "gs://dst/kept/", "gcp-dst"),
]


@pytest.mark.parametrize(("arguments", "uri", "conn_id"), PLACES)
def test_a_receipt_goes_where_it_is_asked_for_with_the_connection_of_its_kind(
    arguments: dict[str, str], uri: str, conn_id: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    operators = [
        copier(source_conn_id="aws-src", destination_conn_id="gcp-dst", **arguments),
        drop_in(aws_conn_id="aws-src", gcp_conn_id="gcp-dst", **arguments),
    ]
    for operator in operators:
        operator.execute({})
        monkeypatch.setattr(operator.hook, "place", lambda *what, **_how: asked.append(what))
        operator.hook.engine.requests[0].receipt()
    assert asked == [(uri, conn_id)] * 2


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"receipt_url": "s3://log/r", "receipt_path": "kept/"}, "give one of them"),
        ({"receipt_url": "runs/"}, "relative path"),
        ({"receipt_url": "sftp://log/r"}, "unknown scheme"),
        ({"receipt_url": "s3://log/r.parquet.gz"}, "compressed already"),
    ],
)
def test_a_receipt_that_cannot_be_is_refused_when_the_dag_is_parsed(arguments: dict[str, str], reason: str) -> None:
    for make in (copier, drop_in):
        with pytest.raises((ValueError, UsageError), match=reason):
            make(**{"return_gcs_uris": True, **arguments} if make is drop_in else arguments)
    copier(receipt_url="{{ var.value.receipts }}/")


@pytest.mark.parametrize("arguments", [{"receipt_url": "s3://log/r"}, {"receipt_path": "k/"}, {"return_summary": True}])
def test_what_is_copied_on_the_worker_leaves_no_receipt_and_says_so(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="leaves no receipt"):
        drop_in(gzip=True, return_gcs_uris=True, **arguments)


@pytest.mark.parametrize("kwargs", [{"outlives": False}, {"outlives": None}, {"outlives": True, "disconnected": True}])
def test_local_gateways_are_not_deferred_unless_they_outlive_the_task(
    monkeypatch: pytest.MonkeyPatch, kwargs: dict[str, Any], connected: None
) -> None:
    if kwargs.get("disconnected"):
        monkeypatch.delenv("AIRFLOW_CONN_SKYPLANE_DEFAULT")
    run = FakeRun()
    operator = copier(run, deferrable=True, local_gateways_outlive_task=kwargs["outlives"])
    if kwargs.get("disconnected"):
        operator.hook.connection = None
    operator.execute({})
    assert run.calls == ["wait", "stop"]


@pytest.mark.parametrize("said", [None, False])
def test_gateways_on_other_hosts_are_deferred_whatever_is_said_of_local_ones(
    connected: None, said: bool | None
) -> None:
    run = FakeRun()
    run.outlives_task = True
    with pytest.raises(TaskDeferred):
        copier(run, deferrable=True, local_gateways_outlive_task=said).execute({})
    assert run.calls == ["leave"]


@pytest.fixture
def deferred(connected: None) -> tuple[Any, FakeRun, TaskInstance, TaskDeferred]:
    run, ti = FakeRun(), TaskInstance()
    operator = copier(run, deferrable=True, local_gateways_outlive_task=True, poll_interval=3, durable=False)
    with pytest.raises(TaskDeferred) as caught:
        operator.execute({"ti": ti})
    return operator, run, ti, caught.value


def test_a_deferred_task_leaves_the_transfer_running_and_holds_no_secret(deferred: Any) -> None:
    operator, run, ti, event = deferred
    assert run.calls == ["leave"]
    assert event.method_name == "execute_complete"
    path, kwargs = event.trigger.serialize()
    assert kwargs["transfer_id"] == "t1"
    assert kwargs["poll_interval"] == 3
    assert ti.xcoms.pop(LINK_XCOM_KEY).endswith("/skyplane/report/d/r/t/-1")
    left = {"dataplane": "{}", "transfer_id": "t1", "host": socket.gethostname(), "ended": False}
    assert ti.xcoms == {RUN_XCOM_KEY: left}
    assert SECRET not in repr((path, kwargs, ti.xcoms, vars(operator)))


def test_resuming_returns_what_waiting_would_have(deferred: Any) -> None:
    import dataclasses

    operator, run, _, _ = deferred
    event = {**EVENT, "status": "success", "message": "", "finished": dataclasses.asdict(DONE)}
    assert operator.execute_complete({}, event) == copier().execute({})
    assert run.calls == ["leave", "attach", "stop"]


@pytest.mark.parametrize("end", [DONE, StoreUnavailable("gone")], ids=["success", "failure"])
def test_who_ends_what_is_left_is_told_that_nothing_is(connected: None, end: Finished | Exception) -> None:
    operator, ti = copier(FakeRun(end), durable=False), TaskInstance()
    with contextlib.nullcontext() if end is DONE else pytest.raises(AirflowException):
        operator.execute({"ti": ti})
    assert ti.xcoms[RUN_XCOM_KEY]["ended"] is True


def test_gateways_that_could_not_be_ended_are_left_to_be_ended(connected: None) -> None:
    run, ti = FakeRun(), TaskInstance()
    run.stop_fails = GatewayUnreachable("no answer")
    assert copier(run, durable=False).execute({"ti": ti})["transfer_id"] == "t1"
    assert ti.xcoms[RUN_XCOM_KEY]["ended"] is False


@pytest.mark.parametrize("outlives", [False, True])
def test_processes_of_another_machine_are_not_known_to_have_ended(deferred: Any, outlives: bool) -> None:
    operator, run, ti, _ = deferred
    run.outlives_task = outlives
    ti.xcoms[RUN_XCOM_KEY]["host"] = "another-host"
    with pytest.raises(AirflowException, match="why"):
        operator.execute_complete({"ti": ti}, {**EVENT, "status": "error", "message": "why"})
    assert ti.xcoms[RUN_XCOM_KEY]["host"] == "another-host"
    assert ti.xcoms[RUN_XCOM_KEY]["ended"] is outlives


@pytest.mark.parametrize("status", ["error", "timeout"])
def test_resuming_after_a_failure_cancels_tears_down_and_raises(deferred: Any, status: str) -> None:
    operator, run, _, _ = deferred
    with pytest.raises(AirflowException, match="why"):
        operator.execute_complete({}, {**EVENT, "status": status, "message": "why"})
    assert run.calls == ["leave", "attach", "cancel", "stop"]


def test_renewal_hands_out_credentials_and_defers_again(deferred: Any) -> None:
    operator, run, _, _ = deferred
    began = time.time()
    with pytest.raises(TaskDeferred) as caught:
        operator.execute_complete({"ti": TaskInstance()}, {**EVENT, "status": "renew", "message": "", "deadline": 99.0})
    assert run.calls == ["leave", "attach", "renew", "leave"]
    # A token service may go on giving out what is about to expire: a worker is not asked at every poll.
    assert caught.value.trigger.renew_not_before >= began + RENEW_PAUSE_SECONDS
    assert caught.value.trigger.deadline == 99.0


def test_a_renewal_that_fails_leaves_the_transfer_running_and_is_tried_again(deferred: Any) -> None:
    operator, run, _, _ = deferred
    run.renew_fails = AirflowNotFoundException("the secrets backend is away")
    began = time.time()
    with pytest.raises(TaskDeferred) as caught:
        operator.execute_complete({"ti": TaskInstance()}, {**EVENT, "status": "renew", "message": "", "deadline": 99.0})
    assert run.calls == ["leave", "attach", "renew", "leave"]
    assert caught.value.trigger.renew_not_before >= began + RENEW_PAUSE_SECONDS


def test_a_task_that_is_ended_while_it_renews_cancels_the_transfer(deferred: Any) -> None:
    operator, run, _, _ = deferred
    run.renew_fails = AirflowTaskTimeout("timeout")
    with pytest.raises(AirflowTaskTimeout):
        operator.execute_complete({"ti": TaskInstance()}, {**EVENT, "status": "renew", "message": ""})
    assert run.calls == ["leave", "attach", "renew", "cancel", "stop"]


def test_a_dead_trigger_tears_down_before_the_task_fails(deferred: Any) -> None:
    operator, run, ti, _ = deferred
    with pytest.raises(Exception, match="boom"):
        operator.resume_execution("__fail__", {"error": "boom"}, {"ti": ti})
    assert run.calls == ["leave", "attach", "cancel", "stop"]


def test_on_kill_tears_down_what_was_started() -> None:
    operator = copier(run := FakeRun())
    operator.on_kill()
    assert run.calls == []
    operator._run = run
    operator.on_kill()
    # Over connections of its own: the signal may have interrupted a call on those of the run.
    assert run.calls == ["attach", "cancel", "stop"]
