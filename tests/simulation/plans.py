"""What one schedule is made of: the transfer, the gateways, and what goes wrong. All of it is drawn from the seed."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from skyplane_core.spec import Route


def over(*ways: str) -> tuple[Route, ...]:
    """Routes with equal shares: on each the reader, and who follows."""
    return tuple(Route(reader, tuple(path), 0, 1 / len(ways)) for reader, *path in map(str.split, ways))


ROUTES: tuple[tuple[Route, ...], ...] = (
    over("r1"),
    over("r1 w1"),
    over("r1 relay w1"),
    over("r1", "r2"),
    over("r1 w1", "r2 relay w1"),
    over("r1 w1", "r2 w2", "r3 relay w2"),
    over("r1 w1", "r1 w2"),
    over("r1 relay w1", "r1 w1"),
    over("r1 l1 w1", "r1 l2 w1", "r1 l1 w2", "r1 l2 w2"),
    over("r1 relay w1", "r1 relay w2", "r2 relay w1", "r2 relay w2", "r1 w1", "r2 w2"),
)
PART_SIZE = 10


@dataclasses.dataclass(frozen=True)
class Plan:
    """One schedule. Rates are probabilities of each single call or message; counts are of the time that chaos lasts.

    ``patient``: no limit on tries comes into play and nothing happens that may fail an object, so all must arrive.
    """

    seed: int
    sizes: tuple[int, ...]
    routes: tuple[Route, ...]
    concurrency: int = 2
    pool_bytes: int = 80
    exact: bool = True
    record_source: bool = True
    patient: bool = True
    source_attests: bool = True
    source_versioned: bool = False
    attributes_listed: bool = True
    attests: bool = True
    same_id: bool = True
    preempt: float = 0.0
    refuse: float = 0.0
    throttle: float = 0.0
    lose: float = 0.0
    slow: float = 0.0
    corrupt: float = 0.0
    drop: float = 0.0
    repeat: float = 0.0
    gateway_crashes: int = 0
    head_crashes: int = 0
    cancels: int = 0
    source_changes: int = 0
    foreign_writes: int = 0
    clock_jumps: int = 0
    forgetful: bool = False
    already_there: int = 0
    source_wide: bool = False
    misread: float = 0.0
    max_copy: int = 0
    copy_refused: float = 0.0
    recalls: int = 0


def plan(seed: int, **fixed: Any) -> Plan:
    """The schedule of a seed; ``fixed`` overrules what is drawn, and disturbs nothing else."""
    rng = random.Random(seed)

    def rate(chance: float, *values: float) -> float:
        return rng.choice(values) if rng.random() < chance else 0.0

    def count(chance: float, most: int) -> int:
        return rng.randint(1, most) if rng.random() < chance else 0

    patient = rng.random() < 0.5
    sizes = [rng.choice((0, 1, 9, 10, 19, 20, 21, 35, 50, 64)) for _ in range(rng.randint(1, 7))]
    drawn = {
        "sizes": tuple(sizes),
        "routes": rng.choice(ROUTES),
        "concurrency": rng.randint(1, 3),
        "pool_bytes": rng.choice((20, 40, 80, 400)),
        "exact": rng.random() < 0.7,
        "record_source": rng.random() < 0.8,
        "patient": patient,
        "source_attests": rng.random() < 0.5,
        "source_versioned": rng.random() < 0.4,
        "attributes_listed": rng.random() < 0.6,
        "attests": rng.random() < 0.7,
        "same_id": rng.random() < 0.7,
        "preempt": rate(0.5, 0.05, 0.3),
        "refuse": rate(0.5, 0.03, 0.2) if patient else rate(0.5, 0.03, 0.2, 0.5),
        "throttle": rate(0.3, 0.05, 0.2),
        "lose": rate(0.5, 0.03, 0.2),
        "slow": rate(0.5, 0.05, 0.2),
        "corrupt": rate(0.0 if patient else 0.5, 0.02, 0.2),
        "drop": rate(0.5, 0.05, 0.3),
        "repeat": rate(0.5, 0.05, 0.3),
        "gateway_crashes": count(0.5, 3),
        "head_crashes": count(0.6, 3),
        "cancels": count(0.0 if patient else 0.4, 2),
        "source_changes": count(0.0 if patient else 0.5, 3),
        "foreign_writes": count(0.0 if patient else 0.4, 2),
        "clock_jumps": count(0.4, 3),
        "already_there": count(0.4, 3),
        "forgetful": rng.random() < 0.3,
        "source_wide": rng.random() < 0.5,
        "misread": rate(0.0 if patient else 0.5, 0.05, 0.3),
        "max_copy": rng.choice((0, 0, 20, 100)),
        "copy_refused": rate(0.4, 0.1, 1.0),
        "recalls": count(0.0 if patient else 0.4, 2),
    }
    if patient and not drawn["attests"]:
        # Without the store's own sums nobody can tell that another id stands for the same bytes.
        drawn["same_id"] = True
    return Plan(seed, **{**drawn, **fixed})
