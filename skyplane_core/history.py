"""What is told of a transfer once it has ended: how it went over time, over which ways, and why. A few KB."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import msgspec

from skyplane_core.cost import Cost


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """How far a transfer was, ``seconds`` after it began: bytes that were acknowledged, and objects settled."""

    seconds: float
    bytes: int
    objects: int


class WayUse(msgspec.Struct, frozen=True):
    """What one way carried; ``gateways`` from its reader to its writer, one alone where that is the same."""

    gateways: tuple[str, ...]
    bytes: int


class Reason(msgspec.Struct, frozen=True):
    """Objects that ended alike: ``examples`` are the first of their keys (of a deleted one, the destination's)."""

    outcome: str
    reason: str
    objects: int
    bytes: int
    examples: tuple[str, ...] = ()


class History(msgspec.Struct, frozen=True, omit_defaults=True):
    """The course of a transfer that has ended, from ``source`` to ``destinations``, which are URIs.

    Failures are not among ``reasons``: each has its own words. ``cost`` is by list prices, of all that was selected;
    None where nothing is known of the gateways.
    """

    source: str = ""
    destinations: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()
    ways: tuple[WayUse, ...] = ()
    reasons: tuple[Reason, ...] = ()
    cost: Cost | None = None


def rates(samples: Sequence[Sample]) -> Iterable[tuple[float, float, float]]:
    """``(from, until, bytes a second)`` between each two samples; a step that took no time is left out."""
    for before, after in itertools.pairwise(samples):
        passed = after.seconds - before.seconds
        if passed > 0:
            yield before.seconds, after.seconds, max(0, after.bytes - before.bytes) / passed
