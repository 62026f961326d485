"""What a transfer would be: routes, counts and price. And a budget that is held against the price."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from skyplane_core.client import Prepared, SkyplaneClient
from skyplane_core.diff import Decision
from skyplane_core.dry_run import Totals
from skyplane_core.errors import UsageError
from skyplane_core.planner.cost import Cost
from skyplane_core.planner.plan import Plan

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Outline:
    """A dry run that has come to its end."""

    plan: Plan
    totals: Totals
    cost: Cost

    def summary(self) -> dict[str, Any]:
        """Counts, cost and routes as plain JSON, small whatever would be moved."""
        routes = [{"gateways": [route.reader, *route.path], "share": route.share} for route in self.plan.routes]
        return {**msgspec.to_builtins(self.totals), **self.cost.summary(), "routes": routes}


def outline(
    client: SkyplaneClient, prepared: Prepared, on_decision: Callable[[Decision], object] = lambda _decision: None
) -> Outline:
    """List both ends and decide about each object. Starts nothing and writes nothing.

    Args:
        on_decision: called with each, in the order of the keys.

    Raises:
        SkyplaneError: refused.
    """
    plan, decisions = client.dry_run(prepared)
    meter = client.cost_meter(prepared)
    for decision in decisions:
        meter.add(decision)
        on_decision(decision)
    return Outline(plan, decisions.totals, meter.cost())


def check_budget(client: SkyplaneClient, prepared: Prepared, budget_usd: float) -> None:
    """Refuse a transfer that would cost more than ``budget_usd`` by list prices, as far as they are known.

    What is not known is logged by name. It cannot be refused: what a worker's own network costs is never known.

    Raises:
        UsageError: it would cost more.
        SkyplaneError: it cannot be told, because one end refuses.
    """
    found = outline(client, prepared)
    cost, where = found.cost, f"{found.plan.source} -> {', '.join(found.plan.destinations)}"
    if cost.usd_known > budget_usd:
        raise UsageError(
            f"the transfer would cost {'at least ' if cost.usd is None else ''}${cost.usd_known:,.2f} by list prices, "
            f"and the budget is ${budget_usd:,.2f}",
            where=where,
            why=f"{found.totals.copy} objects with {found.totals.bytes:,} bytes",
            next_step="Select less, use gateways in the source's region, or raise budget_usd in the connection.",
        )
    unknown = [line.what for line in cost.once if line.usd is None]
    if unknown:
        log.warning(
            "The transfer costs $%.2f by list prices and so keeps the budget of $%.2f, without what has no price: %s.",
            cost.usd_known,
            budget_usd,
            "; ".join(unknown),
        )
    else:
        log.info("The transfer costs $%.2f by list prices; the budget is $%.2f.", cost.usd_known, budget_usd)
