"""What a dry run comes to, as a small value of plain JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from skyplane_core.planner.plan import Plan

if TYPE_CHECKING:
    from airflow_provider_skyplane.engine import Engine, FanOut, Request

_LOGGED = 1000
"""Decisions that are logged one by one, for each destination."""
_SUMS = ("copy", "skip", "refuse", "delete", "bytes", "bytes_deleted", "usd_known")
_SUMS_IF_KNOWN = ("usd", "usd_month")
_TEXTS = ("stopped_at", "refused")


def plan_summary(
    engine: Engine, request: Request | FanOut, names: Sequence[str] | None, log: Callable[..., None]
) -> dict[str, Any]:
    """What the request would do, cost and lead over; starts nothing and writes nothing.

    Args:
        names: the destinations, where the summary of each is to be told as well.

    Raises:
        SkyplaneError: the request would be refused.
    """
    each = [_one(engine, one, log) for one in request.each]
    if names is None:
        return each[0]
    named = [{"destination": name, **one} for name, one in zip(names, each, strict=True)]
    return {**total(each), "destinations": named}


def _one(engine: Engine, request: Request, log: Callable[..., None]) -> dict[str, Any]:
    planned = engine.plan(request)
    for number, decision in enumerate(planned.decisions):
        planned.meter.add(decision)
        if number < _LOGGED:
            log("%s %s (%s)", decision.action.value, decision.destination_key, decision.reason)
    totals: dict[str, Any] = msgspec.to_builtins(planned.decisions.totals)
    return {**totals, **planned.meter.cost().summary(), "routes": routes(planned.plan)}


def routes(plan: Plan) -> list[str]:
    """The ways of a plan with their shares of the bytes, such as ``gateway-0 -> gateway-1: 100%``."""
    return [f"{' -> '.join((route.reader, *route.path))}: {route.share:.0%}" for route in plan.routes]


def total(each: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sums over the summaries of several destinations; a sum of which a part is not known is None."""
    summed: dict[str, Any] = {name: sum(one[name] for one in each) for name in _SUMS}
    for name in _SUMS_IF_KNOWN:
        known = [one[name] for one in each if one[name] is not None]
        summed[name] = sum(known) if len(known) == len(each) else None
    for name in _TEXTS:
        summed[name] = "; ".join(dict.fromkeys(one[name] for one in each if one[name]))
    for name in ("unknown", "routes"):
        summed[name] = list(dict.fromkeys(text for one in each for text in one[name]))
    return summed
