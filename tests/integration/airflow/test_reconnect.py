"""Coming back to real gateways and stores, without an Airflow around: what a test of a whole stack cannot time."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import psutil
import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_skyplane.durable import DestinationReferences
from airflow_provider_skyplane.engine import Run
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator
from airflow_provider_skyplane.reconnect import Reconnection
from skyplane_core.spec import TransferState
from skyplane_core.testing.objectserver import Fault, Faults
from tests.servers.airflow_clouds import CONTROL_SECRET, Clouds, clouds

SMALL = {f"small/f{number}": b"x" * 1000 for number in range(8)}
BIG = bytes(range(256)) * (72 << 12)
"""Several parts."""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, airflow_home: Any) -> Iterator[Clouds]:
    with clouds(["src"], ["dst"]) as found:
        for name, value in found.environment().items():
            monkeypatch.setenv(name, value)
        skyplane = json.dumps({"conn_type": "skyplane", "password": CONTROL_SECRET})
        monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", skyplane)
        found.put("src", {**SMALL, "big/object": BIG})
        yield found
        found.source.set_faults(None)
        found.source.release()


class TaskInstance:
    dag_id, run_id, task_id, map_index, try_number, max_tries = "d", "r", "copy", -1, 2, 1

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


def copier(what: str) -> SkyplaneOperator:
    return SkyplaneOperator(task_id="copy", source=f"s3://src/{what}/", destination=f"gs://dst/{what}/", recursive=True)


def first_try(operator: SkyplaneOperator) -> Run:
    """What the first try has started when its process dies: gateways that run, and the reference to them."""
    request, ti = operator._request(), TaskInstance()
    engine = operator.hook.engine
    kept = DestinationReferences(engine, request, (ti.dag_id, ti.run_id, ti.task_id, ti.map_index))
    log = logging.getLogger("the-first-try")
    return engine.start(request, announce=Reconnection(engine, lambda: request, kept, ti.max_tries, log).save)


def pids(run: Run) -> list[int]:
    return [gateway["pid"] for gateway in json.loads(run.reference)["gateways"]]


def kill(run: Run) -> None:
    run.leave()
    for pid in pids(run):
        process = psutil.Process(pid)
        process.kill()
        process.wait(10)


def written(world: Clouds) -> list[str]:
    return sorted(name for name in world.destination.list("dst") if "/.skyplane/" not in name)


def references(world: Clouds) -> list[str]:
    return [name for name in world.destination.list("dst") if name.endswith("/run")]


def test_what_ended_before_anybody_came_back_is_told_by_its_receipt(world: Clouds) -> None:
    run = first_try(copier("small"))
    assert run.wait(lambda _progress: None).objects_copied == len(SMALL)
    kill(run)
    puts = world.destination.requests["PutObject"]
    result = copier("small").execute({"ti": TaskInstance()})
    assert (result["transfer_id"], result["objects_copied"]) == (run.transfer_id, len(SMALL))
    assert world.destination.requests["PutObject"] == puts
    assert written(world) == sorted(SMALL)
    assert references(world) == []


def test_what_died_with_its_gateways_is_continued(world: Clouds) -> None:
    world.source.set_faults(Faults(Fault("GetObject", "hold-before", key="big/*", nth=(3,))))
    run = first_try(copier("big"))
    world.source.wait_held()
    deadline = time.monotonic() + 30
    while not any(parts for _, _, parts in world.destination.uploads("dst")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    kill(run)
    world.source.set_faults(None)
    world.source.release()
    created = world.destination.requests["CreateMultipartUpload"]
    result = copier("big").execute({"ti": TaskInstance()})
    assert (result["transfer_id"], result["objects_copied"]) == (run.transfer_id, 1)
    assert world.destination.requests["CreateMultipartUpload"] == created == 1
    assert world.destination.get("dst", "big/object") == BIG
    assert world.destination.uploads("dst") == []
    assert references(world) == []


def started_elsewhere(world: Clouds, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A first try on another host: its gateways run, and nothing of theirs listens on this one."""
    world.source.set_faults(Faults(Fault("GetObject", "hold-before", key="big/*", nth=(3,))))
    with monkeypatch.context() as there:
        there.setattr(socket, "gethostname", lambda: "another-host")
        run = first_try(operator := copier("big"))
    kept = DestinationReferences(operator.hook.engine, operator._request(), ("d", "r", "copy", -1))
    reference = kept.load()
    assert reference is not None
    dataplane = json.loads(reference.dataplane)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for gateway in dataplane["gateways"]:
            gateway["control_port"] = listener.getsockname()[1]
    kept.save(msgspec.structs.replace(reference, dataplane=json.dumps(dataplane)))
    world.source.wait_held()
    deadline = time.monotonic() + 30
    while not any(parts for _, _, parts in world.destination.uploads("dst")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return run


@pytest.mark.parametrize("alive", [True, False])
def test_a_retry_on_another_host_takes_the_transfer_over(
    world: Clouds, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    run = started_elsewhere(world, monkeypatch)
    if not alive:
        kill(run)
        monkeypatch.setattr("airflow_provider_skyplane.reconnect.RECALLED_SECONDS", 1.0)
    try:
        result = copier("big").execute({"ti": TaskInstance()})
        assert (result["transfer_id"], result["objects_copied"]) == (run.transfer_id, 1)
        assert world.destination.requests["CreateMultipartUpload"] == 1
        assert world.destination.requests["CompleteMultipartUpload"] == 1
        assert world.destination.get("dst", "big/object") == BIG
        assert world.destination.uploads("dst") == []
        assert references(world) == []
        left = [name for name in world.destination.list("dst") if "journal-" in name]
        assert [name.rpartition("/")[2] for name in left] == ["journal-recall.jsonl"]
        if alive:
            # Nothing was killed by a number that means another process here.
            assert all(psutil.pid_exists(pid) for pid in pids(run))
            told = run.progress()
            assert (told.state, "somebody else has taken" in told.error) == (TransferState.FAILED, True)
    finally:
        run.stop()


def test_gateways_that_come_back_when_all_is_over_change_nothing(
    world: Clouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started_elsewhere(world, monkeypatch)
    monkeypatch.setattr("airflow_provider_skyplane.reconnect.RECALLED_SECONDS", 1.0)
    cut_off = [process for pid in pids(run) for process in (psutil.Process(pid), *psutil.Process(pid).children())]
    try:
        for process in cut_off:
            process.suspend()
        operator = copier("big")
        result = operator.execute({"ti": TaskInstance()})
        assert (result["transfer_id"], result["objects_copied"]) == (run.transfer_id, 1)
        for process in cut_off:
            process.resume()
        world.source.release()
        deadline = time.monotonic() + 30
        while not (told := run.progress()).state.ended:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert told.state is TransferState.FAILED
        receipt = operator.hook.engine.ended(operator._request(), run.transfer_id)
        assert receipt is not None
        assert (receipt.state, receipt.objects_copied) == (TransferState.DONE, 1)
        assert world.destination.requests["CompleteMultipartUpload"] == 1
        assert world.destination.get("dst", "big/object") == BIG
        assert world.destination.uploads("dst") == []
    finally:
        for process in cut_off:
            process.resume()
        run.stop()


def test_what_was_cleared_and_starts_on_another_host_has_the_old_one_ended_first(
    world: Clouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started_elsewhere(world, monkeypatch)
    try:
        monkeypatch.setattr(TaskInstance, "max_tries", 2)
        result = copier("big").execute({"ti": TaskInstance()})
        assert result["transfer_id"] != run.transfer_id
        assert run.progress().state is TransferState.CANCELLED
        assert world.destination.requests["CompleteMultipartUpload"] == 1
        assert world.destination.get("dst", "big/object") == BIG
        assert world.destination.uploads("dst") == []
        assert not [name for name in world.destination.list("dst") if "journal-" in name]
    finally:
        run.stop()


def test_a_task_that_is_killed_in_the_middle_of_a_call_ends_its_gateways(
    world: Clouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow calls on_kill in a signal's handler: whatever the thread holds just then, it cannot let go of."""
    world.source.set_faults(Faults(Fault("GetObject", "hold-before", key="big/*")))
    operator, ti = copier("big"), TaskInstance()
    original, killed = httpx.Client.stream, []

    @contextlib.contextmanager
    def stream(client: httpx.Client, **how: Any) -> Iterator[httpx.Response]:
        if not killed and world.destination.uploads("dst"):
            killed.append(pids(operator._run))
            os.kill(os.getpid(), signal.SIGUSR1)
        with original(client, **how) as answer:
            yield answer

    def on_term(_signal: int, _frame: Any) -> None:
        world.source.release()
        operator.on_kill()

    monkeypatch.setattr(httpx.Client, "stream", stream)
    before = signal.signal(signal.SIGUSR1, on_term)
    try:
        with pytest.raises(AirflowException):
            operator.execute({"ti": ti})
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not any(psutil.pid_exists(pid) for pid in killed[0])
    assert world.destination.uploads("dst") == []
    # Nobody is left who could delete the reference, and it leads nobody astray.
    (receipt,) = (name for name in world.destination.list("dst") if name.endswith("receipt.json"))
    world.source.set_faults(None)
    result = copier("big").execute({"ti": TaskInstance()})
    assert result["transfer_id"] not in receipt
    assert result["objects_copied"] == 1
    assert references(world) == []
