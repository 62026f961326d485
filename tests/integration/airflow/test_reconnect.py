"""Coming back to real gateways and stores, without an Airflow around: what a test of a whole stack cannot time."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_skyplane.durable import DestinationReferences
from airflow_provider_skyplane.engine import Run
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator
from airflow_provider_skyplane.reconnect import Reconnection
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
