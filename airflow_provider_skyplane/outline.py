"""What a transfer would be: routes, counts and price. And a budget that is held against the price."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from skyplane_core.client import Prepared, SkyplaneClient
from skyplane_core.diff import Decision
from skyplane_core.dry_run import Totals
from skyplane_core.errors import UsageError
from skyplane_core.planner.cost import Cost
from skyplane_core.planner.plan import Plan
from skyplane_core.units import counted

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
    client: SkyplaneClient, prepared: Prepared, on_decision: Callable[[Decision], None] = lambda _decision: None
) -> Outline:
    """List both ends and decide about each object. Starts nothing and writes nothing.

    Args:
        on_decision: called with what would become of each object.

    Raises:
        SkyplaneError: refused.
    """
    plan, decisions = client.dry_run(prepared)
    meter = client.cost_meter(prepared)
    for decision in decisions:
        meter.add(decision)
        on_decision(decision)
    return Outline(plan, decisions.totals, meter.cost())


def check_budget(client: SkyplaneClient, prepared: Sequence[Prepared], budget_usd: float) -> None:
    """Refuse transfers that would together cost more than ``budget_usd`` by list prices, as far as they are known.

    What is not known is logged by name. It cannot be refused: what a worker's own network costs is never known.

    Raises:
        UsageError: they would cost more.
        SkyplaneError: it cannot be told, because one end refuses.
    """
    found = [outline(client, one) for one in prepared]
    usd = sum(one.cost.usd_known for one in found)
    unknown = dict.fromkeys(line.what for one in found for line in one.cost.once if line.usd is None)
    if usd > budget_usd:
        objects, size = sum(one.totals.copy for one in found), sum(one.totals.bytes for one in found)
        raise UsageError(
            f"the transfer would cost {'at least ' if unknown else ''}{_dollars(usd)} by list prices, and the budget "
            f"is {_dollars(budget_usd)}",
            where=f"{found[0].plan.source} -> {', '.join(uri for one in found for uri in one.plan.destinations)}",
            why=f"{counted(objects, 'object')} with {counted(size, 'byte')}",
            next_step="Select less, use gateways in the source's region, or raise budget_usd in the connection.",
        )
    log.info("The transfer costs %s by list prices, and the budget is %s.", _dollars(usd), _dollars(budget_usd))
    if unknown:
        log.warning("The budget leaves out what has no price: %s.", "; ".join(unknown))


def _dollars(usd: float) -> str:
    return f"${usd:,.2f}" if usd >= 0.01 or not usd else f"${usd:.2g}"
