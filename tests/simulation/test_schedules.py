"""The coordinator in thousands of schedules, each drawn from one seed, in virtual time.

A seed that breaks a rule is printed; ``pytest tests/simulation --seed N`` runs it again, alone, and shows its schedule.
``--schedules N`` runs as many as asked for instead of 10,000.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.plans import ROUTES, Plan, plan
from tests.simulation.world import World, virtual_time

SCHEDULES = 10_000
CHUNKS = 20
ROOT = Path(__file__).resolve().parents[2]


def run(drawn: Plan) -> World:
    with virtual_time():
        return World(drawn).run()


def report(world: World) -> str:
    seed = world.plan.seed
    return (
        f"seed {seed} breaks: {'; '.join(world.violations)}\n"
        f"Again, with its schedule: pytest tests/simulation --seed {seed}"
    )


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_schedule_breaks_a_rule(chunk: int, request: pytest.FixtureRequest) -> None:
    seed = request.config.getoption("--seed", default=None)
    if seed is not None:
        seeds = range(seed, seed + (chunk == 0))
    else:
        size = -(-(request.config.getoption("--schedules", default=None) or SCHEDULES) // CHUNKS)
        seeds = range(chunk * size, (chunk + 1) * size)
    with virtual_time():
        for number in seeds:
            world = World(plan(number)).run()
            if seed is not None:
                print(world.plan, *world.kernel.trace, sep="\n")  # noqa: T201 - what was asked for
            assert not world.violations, report(world)


RATES = st.sampled_from((0.0, 0.05, 0.3))
COUNTS = st.integers(0, 2)


@settings(max_examples=300)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.sampled_from((0, 1, 10, 20, 35)), min_size=1, max_size=4).map(tuple),
    routes=st.sampled_from(ROUTES),
    exact=st.booleans(),
    attests=st.booleans(),
    patient=st.just(False),
    same_id=st.booleans(),
    refuse=RATES,
    lose=RATES,
    slow=RATES,
    corrupt=RATES,
    drop=RATES,
    repeat=RATES,
    gateway_crashes=COUNTS,
    head_crashes=COUNTS,
    cancels=COUNTS,
    recalls=COUNTS,
    source_changes=COUNTS,
    foreign_writes=COUNTS,
)
def test_no_combination_of_troubles_breaks_a_rule(seed: int, **troubles: object) -> None:
    """The same, where a failure is shrunk to the fewest troubles that it takes."""
    world = run(plan(seed, **troubles))
    assert not world.violations, f"{world.plan}: {world.violations}"


def digests() -> list[str]:
    return [run(plan(seed)).digest for seed in range(40)]


def test_a_seed_is_one_schedule_whatever_strings_hash_to() -> None:
    code = "from tests.simulation.test_schedules import digests; print(*digests())"
    found = set()
    for hash_seed in ("0", "1", "4711"):
        shell = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=shell, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
        )
        found.add(tuple(done.stdout.split()))
    assert found == {tuple(digests())}
