"""kill -9 of every role at every point of a part's life: nothing is lost, nothing is mixed, little is sent twice."""

from __future__ import annotations

import base64
import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from skyplane_core.client import ClientConfig, SkyplaneClient
from skyplane_core.dataplane import Dataplane
from skyplane_core.errors import GatewayError
from skyplane_core.prepare import Prepared
from skyplane_core.provision.base import DataplaneReference
from skyplane_core.testing.faultproxy import TO_SERVER, FaultProxy, ProxyFault
from skyplane_core.testing.objectserver import Fault, Faults
from skyplane_core.tracker import Tracker
from tests.faults import cases
from tests.faults.cases import HANDSHAKE_BYTES, LARGE, LATER, MIB, Kill
from tests.faults.client_process import Job
from tests.faults.world import CONTROL_SECRET, OPTIONS, PATIENCE, PLACES, World, bodies, dataplane, kill, until

ROOT = Path(__file__).resolve().parents[2]

KILL_OPTIONS = msgspec.structs.replace(OPTIONS, progress_timeout=15.0)
"""So long a transfer hopes for its only writer or relay to come back. What the test does while nothing moves takes a
few seconds, and a lost reader is noticed in five."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    seed = metafunc.config.getoption("faults_seed", 0)
    table = cases.full(seed) if metafunc.config.getoption("faults_full", False) else cases.quick(seed)
    metafunc.parametrize("case", list(table), ids=lambda case: case.id)


def test_kill(case: Kill, world: Callable[..., World]) -> None:
    here = world(case.pair, case.seed)
    prepared = here.prepare(options=KILL_OPTIONS)
    with client(case, here, prepared) as (plane, proxy, begin, end):
        tracker = begin()
        reach(case, here, proxy)
        if not case.point.orphans and case.point.name != "before-listing":
            # An upload that is just being opened cannot be known to anybody: that is a point of its own.
            until(lambda: here.recorded() == 2, "both striped objects are recorded")
        if case.settled:
            here.settle(tracker)
        known = here.known()[0]
        here.visible()
        end()
        if case.role != "client":
            kill(plane, case.role, case.process)
        here.visible()
        if case.changed:
            here.fill({LARGE: bodies(case.seed + 1_000_000)[LARGE]})
        here.source.release()
        here.destination.release()
        proxy.resume()
        finished = outcome(case, here, tracker)
    here.visible()
    sent = here.parts_sent
    if not finished or case.changed:
        here.resume(prepared, case.layout)
    here.assert_exact()
    here.assert_others_untouched()
    here.assert_closed(lost_answers=case.point.orphans if case.role in ("head", "writer") else 0)
    if not case.changed:
        # What is known to be stored is not sent again; the rest was in flight, or acknowledged too lately to be noted.
        before = here.parts if finished else sent
        expected = here.parts if case.role == "client" else before + here.parts - known
        assert here.parts_sent <= expected + here.parts // 20
        if case.only_reader_sends:
            # The killed reader did hold one: it was stored, nobody heard of it, and the first reader sent it again.
            assert here.parts_sent > here.parts


def reach(case: Kill, here: World, proxy: FaultProxy) -> None:
    """Wait until the transfer is at the case's point."""
    if case.point.side == "wire":
        until(lambda: proxy.struck, case.point.name)
    else:
        assert isinstance(case.fault, Fault)
        server = here.source if case.point.side == "source" else here.destination
        server.wait_held(case.fault.times or 1, seconds=PATIENCE)


def outcome(case: Kill, here: World, tracker: Tracker) -> bool:
    """Whether the transfer that lost somebody ended well; where it did not, it says so, and names who is missing."""
    if case.role == "head":
        with pytest.raises(GatewayError):
            tracker.wait(timeout=PATIENCE)
        return False
    result = tracker.wait(timeout=PATIENCE)
    if case.role == "writer" or (case.role == "relay" and not case.point.arrived):
        assert not result.ok, "it ended well without its only way to the destination"
    if not result.ok:
        here.failures_named(result)
        assert case.role not in ("client", "reader") or case.changed, result.progress
    if not result.ok and case.role in ("writer", "relay"):
        progress = result.progress
        if case.changed and not progress.error:
            # Nothing was missing but the object that was replaced, which failed by its own name before that.
            assert [key for key, _why in progress.failures] == [f"p/{LARGE}"], progress
        else:
            assert f"gateway-{PLACES[case.role](case.gateways)}" in progress.error, progress
    return result.ok


def arm(case: Kill, here: World, proxy: FaultProxy) -> None:
    if isinstance(case.fault, ProxyFault):
        proxy.add(case.fault)
    else:
        (here.source if case.point.side == "source" else here.destination).set_faults(Faults(case.fault))
    if case.only_reader_sends:
        proxy.add(ProxyFault("stall", TO_SERVER, at=HANDSHAKE_BYTES, connections=LATER))


Begin = Callable[[], Tracker]
End = Callable[[], None]


@contextlib.contextmanager
def client(case: Kill, here: World, prepared: Prepared) -> Iterator[tuple[Dataplane, FaultProxy, Begin, End]]:
    """Gateways with a client: this process, or one that can be killed."""
    if case.role != "client":
        with dataplane(case.layout, proxied=case.proxied, dialler=case.dialler) as (plane, proxy):
            arm(case, here, proxy)
            yield plane, proxy, lambda: plane.submit(prepared), lambda: None
        return
    pool = 96 * MIB
    job = Job(prepared.spec, prepared.source, prepared.destinations[0], case.layout, pool, CONTROL_SECRET)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.client_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    with process:
        try:
            process.stdin.write(base64.b64encode(msgspec.json.encode(job)) + b"\n")
            process.stdin.flush()
            reference = msgspec.json.decode(process.stdout.readline(), type=DataplaneReference)
            plane = SkyplaneClient(ClientConfig(control_secret=CONTROL_SECRET)).attach(reference)

            def begin() -> Tracker:
                process.stdin.write(b"go\n")
                process.stdin.flush()
                assert b"submitted" in process.stdout.readline()
                return plane.tracker(prepared.spec.transfer_id, prepared)

            with dataplane(plane=plane) as (_plane, proxy):
                arm(case, here, proxy)
                yield plane, proxy, begin, process.kill
        finally:
            process.kill()
