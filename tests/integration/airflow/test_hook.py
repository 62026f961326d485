"""The hook's own calls: plan, provision, submit, status, cancel, deprovision. Blocking, and on an event loop."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from airflow_provider_skyplane.engine import FanOut, Request
from airflow_provider_skyplane.hooks.skyplane import SkyplaneHook
from skyplane_core.errors import GatewayUnreachable, UsageError
from skyplane_core.model import StoreConfig
from skyplane_core.planner import cost
from skyplane_core.planner.prices import Place
from skyplane_core.provision.local import LocalProvisioner
from skyplane_core.spec import TransferState
from tests.servers.airflow_clouds import Clouds, clouds

T = TypeVar("T")

SECRET = "canary-control-secret-0123456789abcdef"
OBJECTS = {f"data/f{number:02}": b"x" * 1000 for number in range(20)}


@pytest.fixture(scope="module")
def world() -> Iterator[Clouds]:
    with clouds(["src"], ["dst"]) as found:
        found.put("src", OBJECTS)
        yield found


@pytest.fixture
def connected(world: Clouds, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def hook(monkeypatch: pytest.MonkeyPatch, **extra: Any) -> SkyplaneHook:
    described = {"conn_type": "skyplane", "password": SECRET, "extra": {"pool_mib": 64, **extra}}
    monkeypatch.setenv("AIRFLOW_CONN_SKY", json.dumps(described))
    return SkyplaneHook("sky")


def pids(dataplane: str) -> list[int]:
    return [gateway["pid"] for gateway in json.loads(dataplane)["gateways"]]


def copy(made: SkyplaneHook, to: str) -> Request:
    return made.request("s3://src/data/", f"gs://dst/{to}/")


def test_gateways_are_shared_by_transfers_and_watched_by_a_client_of_later(
    connected: pytest.MonkeyPatch, world: Clouds
) -> None:
    first = hook(connected, gateways=2)
    (plan,) = first.plan(copy(first, "one"))
    assert (plan.totals.copy, plan.totals.bytes, plan.plan.kind) == (20, 20_000, "direct")
    told = plan.summary()
    assert told["routes"] == [{"gateways": ["gateway-0", "gateway-1"], "share": 1.0}]
    assert (told["copy"], told["usd_known"]) == (20, 0.0)
    json.dumps(told)
    dataplane = first.provision()
    assert SECRET not in dataplane
    try:
        one, two = (first.submit(copy(first, to), dataplane) for to in ("one", "two"))
        assert one.wait(lambda _progress: None).objects_copied == 20
        one.leave()
        two.leave()
        # Another process has the connection, and the two references.
        later = hook(connected, gateways=2)
        while not (progress := later.status(dataplane, two.transfer_id)).state.ended:
            continue
        assert (progress.state, progress.objects_copied) == (TransferState.DONE, 20)
        assert all(psutil.pid_exists(pid) for pid in pids(dataplane))
    finally:
        first.deprovision(dataplane)
    first.deprovision(dataplane)
    assert not any(psutil.pid_exists(pid) for pid in pids(dataplane))
    with pytest.raises(GatewayUnreachable):
        first.status(dataplane, one.transfer_id)
    assert {name.partition("/")[0] for name in world.objects("dst")} == {"one", "two"}


def test_a_transfer_is_cancelled_and_its_gateways_stay(connected: pytest.MonkeyPatch, world: Clouds) -> None:
    made = hook(connected)
    dataplane = made.provision()
    world.source.set_network(latency=2.0)
    try:
        run = made.submit(copy(made, "three"), dataplane)
        run.leave()
        made.cancel(dataplane, run.transfer_id)
        assert made.status(dataplane, run.transfer_id).state is TransferState.CANCELLED
        assert all(psutil.pid_exists(pid) for pid in pids(dataplane))
    finally:
        world.source.set_network(latency=0.0)
        made.deprovision(dataplane)


async def counted(awaited: Awaitable[T]) -> tuple[T, int]:
    """The result, and how often something else had its turn on the loop meanwhile."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    others = asyncio.ensure_future(take_turns())
    try:
        return await awaited, turns
    finally:
        others.cancel()


def test_the_same_on_an_event_loop_that_goes_on_meanwhile(connected: pytest.MonkeyPatch) -> None:
    made = hook(connected)

    async def all_of_it() -> list[int]:
        (plan,), planning = await counted(made.aplan(copy(made, "four")))
        assert plan.totals.copy == 20
        dataplane, provisioning = await counted(made.aprovision())
        try:
            run, submitting = await counted(made.asubmit(copy(made, "four"), dataplane))
            run.leave()
            progress, asking = await counted(made.astatus(dataplane, run.transfer_id))
            while not progress.state.ended:
                progress = await made.astatus(dataplane, run.transfer_id)
            assert (progress.state, progress.objects_copied) == (TransferState.DONE, 20)
            _, cancelling = await counted(made.acancel(dataplane, run.transfer_id))
        finally:
            _, ending = await counted(made.adeprovision(dataplane))
        return [planning, provisioning, submitting, asking, cancelling, ending]

    # A call that held the loop would have left it one or two turns.
    assert all(turns > 20 for turns in asyncio.run(all_of_it()))


@pytest.fixture
def started(connected: pytest.MonkeyPatch) -> list[int]:
    """How many gateways were started, each time; and both ends are in clouds as far as prices go."""
    asked: list[int] = []
    start = LocalProvisioner.start

    def starting(self: LocalProvisioner, count: int) -> Any:
        asked.append(count)
        return start(self, count)

    def priced(store: StoreConfig) -> Place:
        return {"s3": Place("aws", "us-east-1"), "gcs": Place("gcp", "us-central1")}.get(store.kind, Place(""))

    connected.setattr(LocalProvisioner, "start", starting)
    connected.setattr(cost, "place_of", priced)
    return asked


def test_what_costs_more_than_the_budget_is_refused_before_anything_starts(
    connected: pytest.MonkeyPatch, world: Clouds, started: list[int]
) -> None:
    made = hook(connected, budget_usd="0.000001")
    request = copy(made, "dear")
    for refused in (request, FanOut((request, copy(made, "dear-too")))):
        with pytest.raises(UsageError) as caught:
            made.submit(refused)
        assert "the transfer would cost at least $0.000" in str(caught.value)
        assert "by list prices, and the budget is $1e-06" in str(caught.value)
        assert "raise budget_usd in the connection" in str(caught.value)
    assert started == []
    assert not any(name.startswith("dear") for name in world.objects("dst"))


def test_what_keeps_the_budget_runs_and_what_has_no_price_is_named(
    connected: pytest.MonkeyPatch, started: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    made = hook(connected, budget_usd=1, gateways=2)
    with caplog.at_level(logging.INFO, logger="airflow_provider_skyplane"):
        run = made.submit(copy(made, "cheap"))
    try:
        assert run.wait(lambda _progress: None).objects_copied == 20
    finally:
        run.stop()
    assert started == [2]
    assert "and the budget is $1.00." in caplog.text
    assert "The budget leaves out what has no price: egress from gateway" in caplog.text


@pytest.mark.parametrize(("said", "sent_less"), [("none", False), ("lz4", True)])
def test_the_connections_compression_is_the_default(
    connected: pytest.MonkeyPatch, said: str, *, sent_less: bool
) -> None:
    made = hook(connected, gateways=2, compression=said)
    run = made.submit(copy(made, f"compressed-{said}"))
    try:
        run.wait(lambda _progress: None)
        progress = run.progress()
    finally:
        run.stop()
    assert (progress.wire_bytes < progress.bytes_copied / 2) is sent_less


def test_a_pool_that_is_too_small_is_refused_by_its_setting(connected: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = hook(connected, pool_mib=1)
    with pytest.raises(UsageError, match="pool_bytes"):
        made.submit(copy(made, "small"))
