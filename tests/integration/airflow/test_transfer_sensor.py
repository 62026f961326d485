"""The sensor for a transfer, against real gateways: while they work, when they are gone, and when nobody knows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_skyplane.compat import AirflowFailException, AirflowSensorTimeout, AirflowSkipException
from airflow_provider_skyplane.engine import Engine, FanOut, Location, Request, Run
from airflow_provider_skyplane.sensors import transfer as module
from airflow_provider_skyplane.sensors.skyplane import SkyplaneTransferSensor
from airflow_provider_skyplane.triggers import skyplane as transfer_trigger
from skyplane_core.errors import UsageError
from skyplane_core.model import StoreConfig
from skyplane_core.testing.objectserver import ObjectServer
from tests.unit.airflow.sensing import MODES, run, settings

SECRET = "canary-control-secret-0123456789abcdef"
UNKNOWN = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with ObjectServer("gcs", buckets=["src"]) as found:
        for number in range(5):
            found.put("src", f"data/{number}", b"x" * 1000)
        yield found


@pytest.fixture(autouse=True)
def surroundings(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", json.dumps({"conn_type": "skyplane", "password": SECRET}))
    monkeypatch.setattr(transfer_trigger, "RESUME_NOT_BEFORE_SECONDS", 0.0)
    monkeypatch.setattr(module, "SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(module, "ASK_AGAIN_SECONDS", 0.05)
    yield
    server.set_network(latency=0.0)


def request(server: ObjectServer, to: Path) -> Request:
    source = Location(StoreConfig("gcs", "src", endpoint_url=server.endpoint_url), "data/")
    return Request(lambda: source, lambda: f"{to}/")


def started(what: Request | FanOut) -> Run:
    return Engine(gateways=1, control_secret=SECRET.encode()).start(what)


def left(begun: Run) -> dict[str, str]:
    """What the transfer's task leaves in XCom."""
    return {"dataplane": begun.reference, "transfer_id": begun.transfer_id, "host": "here"}


def sensor(transfer: Any, mode: str, **arguments: Any) -> SkyplaneTransferSensor:
    given = {"poke_interval": 0.05, "timeout": 60, **settings(mode), **arguments}
    return SkyplaneTransferSensor(task_id="t", transfer=transfer, **given)


@pytest.mark.parametrize("mode", MODES)
def test_it_waits_for_gateways_that_work(server: ObjectServer, tmp_path: Path, mode: str) -> None:
    server.set_network(latency=1.0)
    begun = started(request(server, tmp_path))
    try:
        assert not begun.progress().state.ended
        summary = run(sensor(left(begun), mode))
        assert (summary["transfer_id"], summary["objects_copied"]) == (begun.transfer_id, 5)
        assert begun.progress().state.ended
    finally:
        begun.stop()


@pytest.mark.parametrize("mode", MODES)
def test_the_receipt_tells_when_the_gateways_are_gone(server: ObjectServer, tmp_path: Path, mode: str) -> None:
    begun = started(request(server, tmp_path))
    finished = begun.wait(lambda _progress: None)
    begun.stop()
    by_reference = run(sensor(left(begun), mode, destination=f"file://{tmp_path}/"))
    by_id = run(sensor(begun.transfer_id, mode, destination=f"file://{tmp_path}/"))
    by_summary = run(sensor(finished.summary(), mode))
    assert by_reference == by_id == by_summary == finished.summary()


def test_it_is_stopped_and_the_gateways_go_on(server: ObjectServer, tmp_path: Path) -> None:
    server.set_network(latency=1.0)
    begun = started(request(server, tmp_path))
    try:
        with pytest.raises(AirflowSensorTimeout):
            run(sensor(left(begun), "deferred", timeout=0.1))
        assert not begun.progress().state.ended
    finally:
        begun.stop()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("rules", "raised"),
    [
        ({}, AirflowFailException),
        ({"soft_fail": True}, AirflowSkipException),
        ({"never_fail": True}, AirflowSkipException),
    ],
    ids=str,
)
def test_a_transfer_that_did_not_end_well_fails_it_by_airflows_rules(
    server: ObjectServer, tmp_path: Path, mode: str, rules: dict[str, Any], raised: type[Exception]
) -> None:
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "in the way").write_bytes(b"x")
    begun = started(request(server, tmp_path))
    begun.wait(lambda _progress: None)
    begun.stop()
    with pytest.raises(raised) as failed:
        run(sensor(begun.transfer_id, mode, destination=f"file://{tmp_path}/", **rules))
    if not rules:
        assert "1 of 5 objects did not arrive. First causes: data/3:" in str(failed.value)
        assert f"{tmp_path}/.skyplane/{begun.transfer_id}/receipt.json" in str(failed.value)


def test_a_failure_that_the_triggerer_sees_is_told_as_the_worker_would(server: ObjectServer, tmp_path: Path) -> None:
    server.set_network(latency=1.0)
    begun = started(request(server, tmp_path))
    try:
        with pytest.raises(AirflowFailException, match="was cancelled"):
            run(sensor(left(begun), "deferred"), lambda: begun.cancel(10))
    finally:
        begun.stop()


def test_several_destinations_are_one_wait(server: ObjectServer, tmp_path: Path) -> None:
    here, there = tmp_path / "a", tmp_path / "b"
    begun = started(FanOut((request(server, here), request(server, there))))
    uris = [f"file://{here}/", f"file://{there}/"]
    try:
        while_there = run(sensor(left(begun), "poke", destination=uris))
        begun.wait(lambda _progress: None)
    finally:
        begun.stop()
    afterwards = run(sensor(left(begun), "deferred", destination=uris))
    assert while_there == afterwards == run(sensor(afterwards, "poke"))
    assert afterwards["objects_copied"] == 10
    assert [(one["destination"], one["objects_copied"]) for one in afterwards["destinations"]] == [(u, 5) for u in uris]
    with pytest.raises(UsageError, match="was given 1 destination, the task has 2"):
        run(sensor(left(begun), "poke", destination=uris[0]))


@pytest.mark.parametrize("mode", MODES)
def test_without_a_receipt_it_waits_on(tmp_path: Path, mode: str) -> None:
    with pytest.raises(AirflowSensorTimeout):
        run(sensor(UNKNOWN, mode, destination=f"file://{tmp_path}/", timeout=0.1))


@pytest.mark.parametrize("mode", MODES)
def test_what_nobody_knows_is_lost(server: ObjectServer, tmp_path: Path, mode: str) -> None:
    """Gateways that answer and do not know it; then gateways that do not answer, and no destination to ask."""
    begun = started(request(server, tmp_path))
    reference = {**left(begun), "transfer_id": UNKNOWN}
    try:
        with pytest.raises(AirflowFailException, match="cannot be found"):
            run(sensor(reference, mode, destination=f"file://{tmp_path}/"))
    finally:
        begun.stop()
    with pytest.raises(AirflowFailException, match="cannot be found"):
        run(sensor(left(begun), mode))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"transfer": "abc"}, "'abc' is no transfer's id"),
        ({"transfer": UNKNOWN, "destination": "ftp://x/y"}, "unknown scheme ftp://"),
        ({"transfer": UNKNOWN, "destination": ""}, "the URI is empty"),
    ],
)
def test_arguments_fail_the_parse(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as refused:
        SkyplaneTransferSensor(task_id="t", **arguments)
    assert told in str(refused.value)


@pytest.mark.parametrize("argument", ["destination", "destination_conn_id"])
def test_a_template_that_renders_to_nothing_is_refused(argument: str) -> None:
    waiting = SkyplaneTransferSensor(task_id="t", transfer=UNKNOWN, **{argument: "{{ params.x }}"})
    setattr(waiting, argument, "")
    with pytest.raises(UsageError, match=f"{argument} is ''"):
        waiting.poke({})


def test_an_id_alone_is_not_enough() -> None:
    with pytest.raises(UsageError, match="Give the sensor the transfer's destination"):
        run(sensor(UNKNOWN, "poke"))
