"""Connections that are cut, stalled, closed by half, truncated, flipped: between gateways, and to a store."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import msgspec
import pytest

from skyplane_core.testing.faultproxy import TO_CLIENT, TO_SERVER, FaultProxy, ProxyFault
from skyplane_core.testing.objectserver import ObjectServer
from tests.faults import connections
from tests.faults.cases import SINGLE, TWO
from tests.faults.connections import Broken
from tests.faults.world import OPTIONS, PATIENCE, World, dataplane, until

STALLED_SECONDS = 1.5


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    rounds = 6 if metafunc.config.getoption("faults_full", False) else 1
    seed = metafunc.config.getoption("faults_seed", 0)
    table = {"wire": connections.wire, "store_connection": connections.stores}
    for name in set(table) & set(metafunc.fixturenames):
        metafunc.parametrize(name, list(table[name](seed, rounds=rounds)), ids=lambda broken: broken.id)


@contextlib.contextmanager
def stall_ends(proxy: FaultProxy, fault: ProxyFault) -> Iterator[None]:
    """Meanwhile, let a stall be over some time after it has begun."""
    over = threading.Event()

    def end_it() -> None:
        while not over.wait(0.02):
            if proxy.struck:
                over.wait(STALLED_SECONDS)
                proxy.resume()
                return

    thread = threading.Thread(target=end_it)
    if fault.action == "stall":
        thread.start()
    try:
        yield
    finally:
        over.set()
        if fault.action == "stall":
            thread.join()


def test_between_gateways(wire: Broken, world: Callable[..., World]) -> None:
    here = world(wire.pair, wire.seed)
    with dataplane() as (plane, proxy):
        proxy.add(wire.fault)
        with stall_ends(proxy, wire.fault):
            result = plane.submit(here.prepare()).wait(timeout=PATIENCE)
        assert proxy.struck == 1
    result.raise_for_state()
    here.assert_exact()
    here.assert_others_untouched()
    here.assert_closed()


def test_between_gateway_and_store(store_connection: Broken, world: Callable[..., World]) -> None:
    here = world(store_connection.pair, store_connection.seed)
    fault, side = store_connection.fault, store_connection.where
    with (
        FaultProxy(address(here.source if side == "source" else here.destination), fault) as proxy,
        dataplane((SINGLE, TWO)[store_connection.seed % 2]) as (plane, _wire),
    ):
        prepared = here.prepare(**{side: url(proxy)})
        with stall_ends(proxy, fault):
            result = plane.submit(prepared).wait(timeout=PATIENCE)
        assert proxy.struck == 1
    if side == "source" and fault.action == "flip" and not result.ok:
        # Only the whole object's checksum tells, after all its parts were put: it fails by name and is sent anew.
        here.failures_named(result)
        result = here.resume(prepared)
    result.raise_for_state()
    here.assert_exact()
    here.assert_others_untouched()
    here.assert_closed(lost_answers=int(side == "destination"))


@pytest.mark.parametrize("channel", connections.CHANNELS)
@pytest.mark.parametrize("direction", [TO_SERVER, TO_CLIENT])
def test_a_connection_that_never_moves_again_is_replaced_or_fails_the_transfer_by_name(
    channel: str, direction: str, world: Callable[..., World]
) -> None:
    here = world()
    options = msgspec.structs.replace(OPTIONS, progress_timeout=5.0, max_attempts=1)
    prepared = here.prepare(options=options)
    with dataplane() as (plane, proxy):
        proxy.add(ProxyFault("stall", direction, at=300, connections=connections.CHANNELS[channel]))
        result = plane.submit(prepared).wait(timeout=PATIENCE)
        assert proxy.struck == 1
    if not result.ok:
        here.failures_named(result)
        here.visible()
        here.resume(prepared)
    here.assert_exact()
    here.assert_closed()


def test_a_writer_that_refuses_connections_for_a_while(world: Callable[..., World]) -> None:
    here = world()
    with dataplane() as (plane, proxy):
        proxy.refuse()
        tracker = plane.submit(here.prepare(options=msgspec.structs.replace(OPTIONS, max_attempts=8)))
        until(lambda: here.source.requests["ListObjects"] or tracker.progress().error, "the transfer has begun", 10)
        proxy.accept()
        tracker.wait(timeout=PATIENCE).raise_for_state()
    here.assert_exact()


def address(server: ObjectServer) -> tuple[str, int]:
    return "127.0.0.1", server.port


def url(proxy: FaultProxy) -> str:
    return f"http://{proxy.address[0]}:{proxy.address[1]}"
