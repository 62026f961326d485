"""Coming back to what an earlier try has started: what is kept, where, and what is done about it."""

from __future__ import annotations

import json
import logging
import socket
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, TaskDeferred
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_skyplane.durable import (
    DestinationReferences,
    Next,
    Reference,
    Standing,
    StateStoreReferences,
    decide,
    wanted,
)
from airflow_provider_skyplane.engine import Engine, Request
from airflow_provider_skyplane.finished import Finished
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator
from airflow_provider_skyplane.reconnect import Reconnection
from skyplane_core.errors import GatewayError, GatewayRefused, GatewayUnreachable, TransferNotFound, UsageError
from skyplane_core.identity import new_dataplane_id
from skyplane_core.spec import Progress, TransferOptions, TransferState

SECRET = "canary-control-secret-0123456789abcdef"
HERE = socket.gethostname()
DATAPLANE = json.dumps(
    {"dataplane_id": new_dataplane_id(), "provisioner": "local", "gateways": [], "ca_fingerprint": "fp"}
)
KEPT = Reference(DATAPLANE, "t0", "asked", 1, HERE)
DONE = Progress("t0", TransferState.DONE, objects_copied=3, bytes_copied=9, started_at=10.0, ended_at=12.0)
RUNNING = Progress("t0", TransferState.RUNNING)
CANCELLED = Progress("t0", TransferState.CANCELLED)

texts = st.text(max_size=20)
references = st.builds(Reference, texts, texts, texts, st.integers(0, 9), texts)


class StateStore:
    """Airflow's, as far as it goes: JSON values under keys."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = value

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


class FakeRun:
    dataplane_id, ca_fingerprint, fingerprint = "dp", "fp", "asked"

    def __init__(self, transfer_id: str, says: Progress | Exception, stop: Exception | None = None) -> None:
        self.transfer_id, self.says, self.stop_fails = transfer_id, says, stop
        self.reference = DATAPLANE if transfer_id == "t0" else f"of {transfer_id}"
        self.calls: list[str] = []
        self.outlives_task = False

    def progress(self) -> Progress:
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    def wait(self, on_progress: Any) -> Finished:
        self.calls.append("wait")
        return Finished(self.transfer_id, 3, 0, 0, 9, 2.0, "")

    def take_over(self, engine: Any, request: Any) -> None:
        self.calls.append("take over")

    def cancel(self, seconds: float) -> Progress:
        self.calls.append("cancel")
        return CANCELLED

    def leave(self) -> None:
        self.calls.append("leave")

    def stop(self) -> None:
        self.calls.append("stop")
        if self.stop_fails is not None:
            raise self.stop_fails


class FakeEngine:
    """One earlier run, and one that is started anew."""

    def __init__(self, old: FakeRun, receipt: Progress | None = None) -> None:
        self.old, self.new, self.receipt = old, FakeRun("t1", RUNNING), receipt
        self.continued: list[str | None] = []
        self.recalled: list[bool] = []
        self.last_word: Progress | None = None

    def attach(self, reference: str, transfer_id: str) -> FakeRun:
        return self.old

    def fingerprint(self, request: Any) -> str:
        return "asked"

    def ended(self, request: Any, transfer_id: str) -> Progress | None:
        return self.receipt

    def start(self, request: Any, *, transfer_id: str | None, announce: Any) -> FakeRun:
        announce(self.new)
        self.continued.append(transfer_id)
        return self.new


class TaskInstance:
    dag_id, run_id, task_id, map_index, try_number, max_tries = "d", "r", "t", -1, 2, 1

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", f'{{"conn_type": "skyplane", "password": "{SECRET}"}}')


@pytest.fixture(autouse=True)
def recalling(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recalled answers at once, or never."""

    def recall(engine: FakeEngine, _request: Any, transfer_id: str, *, hand_over: bool) -> bool:
        assert transfer_id == "t0"
        engine.recalled.append(hand_over)
        engine.receipt = engine.last_word
        return True

    monkeypatch.setattr("airflow_provider_skyplane.reconnect.recall", recall)
    monkeypatch.setattr("airflow_provider_skyplane.reconnect.RECALLED_SECONDS", 0.0)


def retry(engine: FakeEngine, kept: Reference | None = KEPT, **kwargs: Any) -> tuple[Any, StateStore, TaskInstance]:
    """Run the second try of a task whose first has left ``kept``."""
    operator = SkyplaneOperator(task_id="t", source="s3://src/a/", destination="gs://dst/b/", recursive=True, **kwargs)
    operator.hook.engine = engine
    store, ti = StateStore(), TaskInstance()
    if kept is not None:
        StateStoreReferences(store).save(kept)
    return operator.execute({"ti": ti, "task_state_store": store}), store, ti


@given(references)
def test_what_is_kept_in_the_state_store_comes_back(reference: Reference) -> None:
    kept = StateStoreReferences(StateStore())
    assert kept.load() is None
    kept.save(reference)
    assert kept.load() == reference
    kept.delete()
    kept.delete()
    assert kept.load() is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"dataplane": 1}', "nonsense"])
def test_what_is_not_legible_is_no_reference(text: str) -> None:
    store = StateStore()
    store.set("skyplane_run", text)
    assert StateStoreReferences(store).load() is None


def test_what_is_kept_at_a_destination_comes_back_to_the_same_task_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    request = Request(lambda: f"file://{tmp_path}/from/", lambda: f"file://{tmp_path}/to/")
    engine = Engine(gateways=1, control_secret=SECRET.encode())
    mine = DestinationReferences(engine, request, ("dag", "run", "task", -1))
    assert mine.load() is None
    mine.save(KEPT)
    later = Reference("{}", "t2", "asked", 1, HERE)
    mine.save(later)
    assert mine.load() == later
    assert DestinationReferences(engine, request, ("dag", "run", "task", 0)).load() is None
    assert all(".skyplane" in str(path) for path in (tmp_path / "to").rglob("*"))
    mine.delete()
    mine.delete()
    assert mine.load() is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_reference_that_somebody_else_left_at_the_destination_is_none(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    request = Request(lambda: f"file://{tmp_path}/from/", lambda: f"file://{tmp_path}/to/")
    engine = Engine(gateways=1, control_secret=SECRET.encode())
    others = Engine(gateways=1, control_secret=SECRET[::-1].encode())
    task = ("dag", "run", "task", -1)
    mine = DestinationReferences(engine, request, task)
    mine.save(KEPT)
    assert DestinationReferences(others, request, task).load() is None
    (path,) = (path for path in (tmp_path / "to").rglob("*") if path.is_file())
    genuine = path.read_bytes()
    assert SECRET.encode() not in genuine
    for forged in (genuine.replace(b"t0", b"t1"), genuine.partition(b"\n")[2], b"", b"\n", b"\xff" * 100):
        path.write_bytes(forged)
        assert mine.load() is None
    DestinationReferences(engine, request, ("dag", "run", "another", -1)).save(KEPT)
    (other,) = (found for found in (tmp_path / "to").rglob("*") if found.is_file() and found != path)
    path.write_bytes(other.read_bytes())
    assert mine.load() is None
    path.write_bytes(genuine)
    assert mine.load() == KEPT


@given(references, st.text(max_size=20), st.integers(0, 9))
def test_only_the_same_request_of_a_task_that_nobody_cleared_is_gone_on_with(
    reference: Reference, fingerprint: str, epoch: int
) -> None:
    assert wanted(reference, reference.fingerprint, reference.epoch)
    assert wanted(reference, fingerprint, epoch) is (fingerprint == reference.fingerprint and epoch == reference.epoch)


def test_an_id_is_used_again_only_where_its_gateways_are_gone() -> None:
    assert [standing for standing in Standing if decide(standing) is Next.CONTINUE] == [Standing.ENDED]
    assert [standing for standing in Standing if decide(standing) is Next.TAKE_OVER] == [Standing.UNKNOWN]
    assert {standing for standing in Standing if decide(standing) is Next.ATTACH} == {Standing.RUNNING, Standing.DONE}


def test_a_fingerprint_tells_requests_apart_and_nothing_else(tmp_path: Path) -> None:
    engine = Engine(gateways=1, control_secret=SECRET.encode())

    def request(to: str = "to", **options: Any) -> Request:
        return Request(
            lambda: f"file://{tmp_path}/from/", lambda: f"file://{tmp_path}/{to}/", options=TransferOptions(**options)
        )

    assert engine.fingerprint(request()) == engine.fingerprint(request())
    others = [request("elsewhere"), request(record_source=False), request(part_size=8 << 20)]
    assert len({engine.fingerprint(one) for one in (request(), *others)}) == 4


def test_a_retry_waits_for_what_is_running_and_starts_nothing(connected: None) -> None:
    engine = FakeEngine(FakeRun("t0", RUNNING))
    result, store, ti = retry(engine)
    assert result["transfer_id"] == "t0"
    assert engine.old.calls == ["take over", "wait", "stop"]
    assert engine.continued == []
    assert store.values == {}
    assert ti.xcoms["skyplane_run"]["transfer_id"] == "t0"


def test_a_retry_defers_to_what_is_running(connected: None) -> None:
    engine = FakeEngine(FakeRun("t0", RUNNING))
    with pytest.raises(TaskDeferred) as caught:
        retry(engine, deferrable=True, local_gateways_outlive_task=True)
    assert caught.value.trigger.transfer_id == "t0"
    assert engine.old.calls == ["take over", "leave"]


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(
    ("says", "receipt"), [(DONE, None), (TransferNotFound("gone"), DONE), (GatewayUnreachable("gone"), DONE)]
)
def test_a_retry_returns_what_has_arrived(
    connected: None, says: Progress | Exception, receipt: Progress | None, deferrable: bool
) -> None:
    engine = FakeEngine(FakeRun("t0", says), receipt)
    result, store, _ = retry(engine, deferrable=deferrable, local_gateways_outlive_task=True)
    assert (result["transfer_id"], result["objects_copied"]) == ("t0", 3)
    assert engine.old.calls == ["stop"]
    assert engine.continued == []
    assert store.values == {}


@pytest.mark.parametrize(
    ("old", "receipt", "continued"),
    [
        (FakeRun("t0", Progress("t0", TransferState.FAILED, error="no")), None, None),
        (FakeRun("t0", Progress("t0", TransferState.CANCELLED)), None, None),
        (FakeRun("t0", TransferNotFound("never started")), None, None),
        (FakeRun("t0", GatewayUnreachable("gone")), None, "t0"),
        (FakeRun("t0", GatewayUnreachable("gone")), Progress("t0", TransferState.CANCELLED), None),
        (FakeRun("t0", GatewayRefused("another's port")), None, "t0"),
        (FakeRun("t0", UsageError("no such host any more"), stop=UsageError("no such host any more")), None, "t0"),
        (FakeRun("t0", GatewayRefused("not you"), stop=GatewayRefused("not you")), None, "t0"),
    ],
)
def test_a_retry_starts_anew_otherwise_and_continues_an_id_only_if_its_gateways_are_gone_or_let_go_of_it(
    connected: None, old: FakeRun, receipt: Progress | None, continued: str | None
) -> None:
    engine = FakeEngine(old, receipt)
    result, store, _ = retry(engine)
    assert result["transfer_id"] == "t1"
    assert engine.continued == [continued]
    assert "stop" in old.calls
    assert engine.recalled == [True] * (old.stop_fails is not None)
    assert store.values == {}
    old.calls.clear()


@pytest.mark.parametrize(
    "kept",
    [Reference(DATAPLANE, "t0", "asked", 0, HERE), Reference(DATAPLANE, "t0", "something else", 1, HERE)],
    ids=["cleared", "changed"],
)
def test_what_was_cleared_or_changed_is_ended_and_runs_anew(connected: None, kept: Reference) -> None:
    engine = FakeEngine(FakeRun("t0", RUNNING))
    result, _, _ = retry(engine, kept)
    assert result["transfer_id"] == "t1"
    assert engine.old.calls == ["cancel", "stop"]
    assert engine.continued == [None]


def test_a_reference_that_another_version_of_ours_wrote_is_none(connected: None) -> None:
    engine = FakeEngine(FakeRun("t0", RUNNING))
    assert retry(engine, Reference("{}", "t0", "asked", 1, HERE))[0]["transfer_id"] == "t1"
    assert engine.old.calls == []


def test_a_dataplane_that_this_version_does_not_know_is_none(connected: None, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(FakeRun("t0", RUNNING))

    def attach(_reference: str, _transfer_id: str) -> FakeRun:
        raise UsageError("no provisioner 'moon'")

    monkeypatch.setattr(engine, "attach", attach)
    assert retry(engine)[0]["transfer_id"] == "t1"


@pytest.mark.parametrize(
    ("last_word", "result", "continued"),
    [
        (None, "t1", ["t0"]),
        (Progress("t0", TransferState.FAILED, error="taken over"), "t1", ["t0"]),
        (CANCELLED, "t1", ["t0"]),
        (DONE, "t0", []),
    ],
)
def test_local_gateways_of_another_host_are_told_to_let_go_before_their_transfer_is_continued(
    connected: None, last_word: Progress | None, result: str, continued: list[str]
) -> None:
    engine = FakeEngine(FakeRun("t0", GatewayUnreachable("nobody here")))
    engine.last_word = last_word
    got, store, _ = retry(engine, Reference(DATAPLANE, "t0", "asked", 1, "another-host"))
    assert (got["transfer_id"], engine.continued, engine.recalled) == (result, continued, [True])
    assert ("leave" in engine.old.calls) is bool(continued)
    assert store.values == {}


@pytest.mark.parametrize("reachable", [True, False])
@pytest.mark.parametrize("host", [HERE, "another-host"])
def test_what_was_cleared_is_told_to_end_where_it_cannot_be_reached(
    connected: None, monkeypatch: pytest.MonkeyPatch, host: str, reachable: bool
) -> None:
    engine = FakeEngine(FakeRun("t0", RUNNING))

    def silent(_seconds: float = 0.0) -> Progress:
        raise GatewayUnreachable("nobody here")

    if not reachable:
        monkeypatch.setattr(engine.old, "cancel", silent)
        monkeypatch.setattr(engine.old, "progress", silent)
    got, _, _ = retry(engine, Reference(DATAPLANE, "t0", "asked", 0, host))
    assert (got["transfer_id"], engine.continued) == ("t1", [None])
    there = not reachable and host != HERE
    assert engine.recalled == [False] * there
    # What has its number on this machine is another process.
    assert ("stop" in engine.old.calls) is not there


@pytest.mark.parametrize("kwargs", [{"durable": False}, {}])
def test_without_durable_or_a_control_secret_every_try_is_its_own(
    monkeypatch: pytest.MonkeyPatch, kwargs: dict[str, Any]
) -> None:
    if kwargs:
        monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", f'{{"conn_type": "skyplane", "password": "{SECRET}"}}')
    else:
        monkeypatch.setattr(SkyplaneOperator.hook.func.__globals__["SkyplaneHook"], "connection", None)
    engine = FakeEngine(FakeRun("t0", RUNNING))
    result, store, _ = retry(engine, **kwargs)
    assert result["transfer_id"] == "t1"
    assert engine.old.calls == []
    assert list(store.values) == ["skyplane_run"]


def test_the_reference_is_kept_before_anything_moves_and_stays_if_the_process_dies(connected: None) -> None:
    engine = FakeEngine(FakeRun("t0", RUNNING))
    operator = SkyplaneOperator(task_id="t", source="s3://src/a/", destination="gs://dst/b/", recursive=True)
    operator.hook.engine = engine
    store, seen = StateStore(), []
    engine.new.wait = lambda _report: (
        seen.append(StateStoreReferences(store).load()) or Finished("t1", 1, 0, 0, 1, 1, "")
    )
    operator.execute({"ti": TaskInstance(), "task_state_store": store})
    assert seen == [Reference("of t1", "t1", "asked", 1, HERE)]
    assert SECRET not in repr(seen)


def test_a_result_that_cannot_be_read_is_come_back_to(connected: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(_self: Any, _finished: Finished) -> Any:
        raise GatewayError("the receipt cannot be read")

    monkeypatch.setattr(SkyplaneOperator, "_result", unreadable)
    engine = FakeEngine(FakeRun("t0", DONE))
    operator = SkyplaneOperator(task_id="t", source="s3://src/a/", destination="gs://dst/b/", recursive=True)
    operator.hook.engine = engine
    store = StateStore()
    StateStoreReferences(store).save(KEPT)
    with pytest.raises(AirflowException, match="cannot be read"):
        operator.execute({"ti": TaskInstance(), "task_state_store": store})
    assert StateStoreReferences(store).load() == KEPT


@pytest.mark.parametrize(
    ("cancel", "kept"),
    [(CANCELLED, False), (RUNNING, True), (GatewayUnreachable("gone"), True)],
    ids=["orderly", "slow", "gone"],
)
def test_a_try_that_fails_is_come_back_to_unless_its_transfer_has_ended_in_order(
    connected: None, monkeypatch: pytest.MonkeyPatch, cancel: Progress | Exception, kept: bool
) -> None:
    engine = FakeEngine(FakeRun("t0", RUNNING))

    def fails(_report: Any) -> Finished:
        raise GatewayUnreachable("no answer")

    def cancelled(_seconds: float) -> Progress:
        if isinstance(cancel, Exception):
            raise cancel
        return cancel

    engine.new.wait, engine.new.cancel = fails, cancelled
    operator = SkyplaneOperator(task_id="t", source="s3://src/a/", destination="gs://dst/b/", recursive=True)
    operator.hook.engine = engine
    store = StateStore()
    with pytest.raises(AirflowException, match="no answer"):
        operator.execute({"ti": TaskInstance(), "task_state_store": store})
    assert bool(store.values) is kept
    assert engine.new.calls == ["stop"]


def test_a_try_that_was_thought_to_be_dead_does_not_forget_what_the_next_one_has_started(connected: None) -> None:
    engine = FakeEngine(FakeRun("t0", RUNNING))
    operator = SkyplaneOperator(task_id="t", source="s3://src/a/", destination="gs://dst/b/", recursive=True)
    operator.hook.engine = engine
    store = StateStore()

    def overtaken(_report: Any) -> Finished:
        StateStoreReferences(store).save(KEPT)
        return Finished("t1", 1, 0, 0, 1, 1.0, "", error="somebody else has taken this transfer over")

    engine.new.wait = overtaken
    with pytest.raises(AirflowException, match="somebody else"):
        operator.execute({"ti": TaskInstance(), "task_state_store": store})
    assert StateStoreReferences(store).load() == KEPT


def test_a_store_that_cannot_forget_does_not_fail_what_has_arrived(
    connected: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_self: Any, _key: str) -> None:
        raise RuntimeError("the database is away")

    log = logging.getLogger("a-task")
    monkeypatch.setattr(log, "handlers", [caplog.handler])
    monkeypatch.setattr(SkyplaneOperator, "log", log)
    monkeypatch.setattr(StateStore, "delete", broken)
    assert retry(FakeEngine(FakeRun("t0", DONE)))[0]["transfer_id"] == "t0"
    assert "the database is away" in caplog.text


def test_gateways_elsewhere_are_asked_again_before_they_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [GatewayUnreachable("a blip"), GatewayUnreachable("a blip"), RUNNING]
    run = FakeRun("t0", RUNNING)
    run.outlives_task = True
    monkeypatch.setattr("airflow_provider_skyplane.reconnect._ASK_PAUSE_SECONDS", 0.0)

    def progress() -> Progress:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    run.progress = progress
    kept = StateStoreReferences(StateStore())
    kept.save(KEPT)
    found = Reconnection(FakeEngine(run), lambda: None, kept, 1, logging.getLogger("a-task")).find()
    assert found.run is run
    assert answers == []
