"""Transfers to several destinations on one dataplane, as tasks and triggers find, watch and end them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from airflow_provider_skyplane.engine import Engine, FanOut, Request
from airflow_provider_skyplane.several import Several, separate
from airflow_provider_skyplane.watch import Watch
from skyplane_core.locations import Location
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.spec import ServerSideCopy, TransferOptions, TransferState
from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer

SECRET = b"s" * 40
OBJECTS = {f"data/f{number}": b"x" * 1000 for number in range(5)}


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    """One destination, ``held/``, takes nothing until the server is told to release it."""
    with ObjectServer("s3", buckets=["src", "dst"]) as found:
        for key, body in OBJECTS.items():
            found.put("src", key, body)
        found.set_faults(Faults(Fault("PutObject", "hold-before", key="held/f*")))
        yield found
        found.release()


def fan_out(server: ObjectServer) -> FanOut:
    def place(bucket: str, key: str) -> Callable[[], Location]:
        credentials = Credentials("AK", "SK", expires_at=time.time() + 5000)
        store = StoreConfig(
            "s3", bucket, server.endpoint_url, region="us-east-1", path_style=True, credentials=credentials
        )
        return lambda: Location(store, key)

    # Through the gateway: what the server copies by itself is never held.
    how = TransferOptions(server_side_copy=ServerSideCopy.NEVER)
    return FanOut(tuple(Request(place("src", "data/"), place("dst", key), options=how) for key in ("free/", "held/")))


def until(said: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not said():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_one_that_has_ended_is_known_while_another_runs_and_all_are_ended_together(server: ObjectServer) -> None:
    request = fan_out(server)
    run = Engine(gateways=1, control_secret=SECRET).start(request)
    try:
        until(lambda: isinstance(now := run.progress(), Several) and now.each[0].state.ended)
        server.wait_held(1)
        pids = [gateway["pid"] for gateway in json.loads(run.reference)["gateways"]]

        # Another process, with nothing but the reference.
        engine = Engine(gateways=1, control_secret=SECRET)
        found = engine.attach(run.reference, run.transfer_id)
        now = found.progress()
        assert isinstance(now, Several)
        assert ([one.state for one in now.each], now.state) == (
            [TransferState.DONE, TransferState.RUNNING],
            TransferState.RUNNING,
        )
        expiry = found.renew(engine, fan_out(server))
        assert expiry is not None
        assert expiry > time.time()
        found.leave()

        async def watch_and_end() -> Several:
            watch = Watch(run.reference, run.transfer_id, SECRET, run.ca_fingerprint)
            try:
                seen = await watch.progress()
                assert isinstance(seen, Several)
                await watch.cancel_and_shut_down()
            finally:
                await watch.close()
            return seen

        seen = asyncio.run(watch_and_end())
        assert [one.transfer_id for one in seen.each] == separate(run.transfer_id)
        assert [one.state for one in seen.each] == [TransferState.DONE, TransferState.RUNNING]
        server.release()
        until(lambda: not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids))
    finally:
        server.release()
        run.stop()
    assert list(server.list("dst", "free/f")) == [f"free/f{number}" for number in range(5)]


def test_a_retry_takes_over_what_still_runs_and_is_told_of_all(server: ObjectServer) -> None:
    engine = Engine(gateways=1, control_secret=SECRET)
    run = engine.start(fan_out(server))
    try:
        until(lambda: isinstance(now := run.progress(), Several) and now.each[0].state.ended)
        again = Engine(gateways=1, control_secret=SECRET)
        assert again.fingerprint(fan_out(server)) == run.fingerprint
        assert again.ended(fan_out(server), run.transfer_id) is None
        found = again.attach(run.reference, run.transfer_id)
        found.take_over(again, fan_out(server))
        server.set_faults(None)
        server.release()
        finished = found.wait(lambda _progress: None)
        found.leave()
        assert (finished.failed, finished.objects_copied) == (False, 10)
        assert [one.objects_copied for one in finished.each] == [5, 5]
        told = again.ended(fan_out(server), run.transfer_id)
        assert isinstance(told, Several)
        assert [one.objects_copied for one in told.each] == [5, 5]
    finally:
        run.stop()
    assert [key for key in server.list("dst") if ".skyplane/" not in key] == [
        f"{place}/f{number}" for place in ("free", "held") for number in range(5)
    ]
