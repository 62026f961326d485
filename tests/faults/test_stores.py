"""Stores that slow down, fail, reset, truncate, stall, corrupt and lock out: ridden out, or failed and resumed."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from skyplane_core.testing.objectserver import Fault, Faults
from tests.faults import connections
from tests.faults.cases import PAIRS
from tests.faults.connections import Trouble
from tests.faults.world import PATIENCE, World, dataplane


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    rounds = 4 if metafunc.config.getoption("faults_full", False) else 1
    if "trouble" in metafunc.fixturenames:
        table = connections.store_troubles(metafunc.config.getoption("faults_seed", 0), rounds=rounds)
        metafunc.parametrize("trouble", list(table), ids=lambda trouble: trouble.id)
    if "side" in metafunc.fixturenames:
        every = list(itertools.product(("source", "destination"), PAIRS))
        metafunc.parametrize(("side", "pair"), every if rounds > 1 else [every[0], every[5]])


def test_passing_trouble_is_ridden_out(trouble: Trouble, world: Callable[..., World]) -> None:
    here = world(trouble.pair)
    server = here.source if trouble.side == "source" else here.destination
    server.set_faults(trouble.faults)
    with dataplane() as (plane, _proxy):
        result = plane.submit(here.prepare()).wait(timeout=PATIENCE)
    assert sum(server.statistics["faults_fired"]) > 0
    result.raise_for_state()
    here.assert_exact()
    here.assert_others_untouched()
    here.assert_closed(lost_answers=int(trouble.name == "reset-after"))


def test_credentials_that_expire_fail_the_transfer_by_name_and_fresh_ones_finish_it(
    side: str, pair: tuple[str, str], world: Callable[..., World]
) -> None:
    here = world(pair)
    server = here.source if side == "source" else here.destination
    operation = "GetObject" if side == "source" else "UploadPart"
    server.set_faults(Faults(Fault(operation, "expire", nth=(4,), key="*/large")))
    prepared = here.prepare()
    with dataplane() as (plane, _proxy):
        result = plane.submit(prepared).wait(timeout=PATIENCE)
    here.failures_named(result)
    here.grant(server)
    server.set_faults(None)
    here.visible()
    here.resume(prepared)
    here.assert_exact()
    here.assert_others_untouched()
    here.assert_closed()
