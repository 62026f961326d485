"""What a dry run says about money: the lines of an estimate, then their sum with the unknowns named."""

from __future__ import annotations

import msgspec

from skyplane_core.cli.show import Show
from skyplane_core.planner.cost import Cost, CostLine
from skyplane_core.units import dollars, human


def show_cost(show: Show, cost: Cost) -> None:
    """Say each line that is not free, and the sum. In JSON: events ``cost-line`` and ``cost``."""
    for often, lines in (("once", cost.once), ("monthly", cost.monthly)):
        for line in lines:
            if line.usd != 0:
                show.item("cost-line", {"charged": often, **msgspec.to_builtins(line)}, _line(line))
    show.item("cost", cost.summary(), _sum(cost))


def _line(line: CostLine) -> str:
    amount = f"{line.quantity:,.0f} requests" if line.unit == "requests" else human(int(line.quantity))
    return f"{dollars(line.usd):>10}  {line.what}, {amount} ({line.basis})"


def _sum(cost: Cost) -> str:
    known = f"at least {dollars(cost.usd_known)}" if cost.usd is None else dollars(cost.usd)
    month = "an unknown sum" if cost.usd_month is None else dollars(cost.usd_month)
    text = f"Cost by list prices: {known} once, then {month} a month for what is copied."
    return f"{text} Unknown: {'; '.join(cost.unknown)}." if cost.unknown else text
