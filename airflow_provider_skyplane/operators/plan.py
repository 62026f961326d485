"""What a transfer would do and cost, before or instead of running it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_skyplane.compat import AirflowException, AirflowSkipException
from airflow_provider_skyplane.ends import is_template
from airflow_provider_skyplane.operators.base import SkyplaneBaseOperator
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator
from skyplane_core.errors import NothingToTransfer

if TYPE_CHECKING:
    from airflow_provider_skyplane.compat import Context

_OVER_BUDGET = ("fail", "skip")
_OF_PLANS = ("self", "skyplane_conn_id", "gateways", "compression", "kwargs")
_OF_RUNS = frozenset({"dry_run_only", *inspect.signature(SkyplaneBaseOperator.__init__).parameters}) - {*_OF_PLANS}
"""Arguments of SkyplaneOperator that only a run needs."""


class SkyplanePlanOperator(SkyplaneOperator):
    """Tells what :class:`SkyplaneOperator` with the same arguments would do; starts nothing and writes nothing.

    It lists both ends, as a run does, and logs what would become of each object and why.

    Args:
        max_usd: the most that the run may cost by list prices (docs/costs.md). (templated)
        over_budget: what becomes of this task if it would cost more: ``fail``, or ``skip``, by which Airflow skips the
            tasks after it, too.
        allow_unknown_prices: hold ``max_usd`` against the prices that are known; otherwise one that is not known counts
            as too much.

    The other arguments are those of SkyplaneOperator, without what only a run needs: ``dry_run_only``, those of
    receipts and of deferring. Returns ``copy``, ``skip``, ``refuse``, ``delete`` (numbers of objects), ``bytes``,
    ``bytes_deleted``, ``stopped_at``, ``refused`` (why nothing would be deleted, or empty), ``usd`` (None if a price is
    not known), ``usd_known``, ``usd_month``, ``unknown`` (what has no price) and ``routes`` (gateways on the way, and
    their shares). With a list of destinations numbers are sums, and ``destinations`` has the same of each.

    Raises:
        ValueError, UsageError: at construction, as SkyplaneOperator.
    """

    template_fields: Sequence[str] = (*SkyplaneOperator.template_fields, "max_usd")

    operator_extra_links = ()

    def __init__(
        self,
        *,
        max_usd: float | str | None = None,
        over_budget: str = "fail",
        allow_unknown_prices: bool = False,
        **kwargs: Any,
    ) -> None:
        of_runs = sorted(_OF_RUNS & kwargs.keys())
        if of_runs:
            raise ValueError(f"Invalid argument {of_runs[0]}: a plan starts nothing. Leave it out")
        super().__init__(deferrable=False, **kwargs)
        if over_budget not in _OVER_BUDGET:
            raise ValueError(
                f"Invalid value for over_budget: {over_budget!r}. Expected one of {', '.join(_OVER_BUDGET)}"
            )
        if not is_template(max_usd):
            _usd(max_usd)
        if max_usd is None and (allow_unknown_prices or over_budget != "fail"):
            raise ValueError("over_budget and allow_unknown_prices say how max_usd is held; give it as well")
        self.max_usd = max_usd
        self.over_budget = over_budget
        self.allow_unknown_prices = allow_unknown_prices

    def _lineage_uris(self) -> tuple[Sequence[str], Sequence[str]]:
        return super()._lineage_uris()[0], ()

    def execute(self, context: Context) -> dict[str, Any]:
        """Plan, and hold the price against ``max_usd``."""
        most = _usd(self.max_usd)
        try:
            plan = self._dry_run()
        except NothingToTransfer as error:
            raise AirflowException(str(error)) from error
        excess = self._excess(plan, most)
        if not excess:
            return plan
        if self.over_budget == "fail":
            raise AirflowException(excess)
        # A skipped task has no return value unless it leaves one.
        context["ti"].xcom_push(key="return_value", value=plan)
        raise AirflowSkipException(excess)

    def _excess(self, plan: dict[str, Any], most: float | None) -> str:
        """Why the plan costs more than it may, or empty."""
        if most is None:
            return ""
        if plan["usd_known"] > most:
            least = "" if plan["usd"] is not None else "at least "
            return f"The transfer would cost {least}${plan['usd_known']:.2f}, and max_usd is ${most:.2f}."
        if plan["usd"] is None and not self.allow_unknown_prices:
            return (
                f"Whether the transfer would cost more than max_usd, ${most:.2f}, is not known: there is no "
                f"price for {', '.join(plan['unknown'])}. Set allow_unknown_prices=True to go by those that are known."
            )
        return ""


def _usd(value: float | str | None) -> float | None:
    if value is None:
        return None
    try:
        usd = float(value)
    except (TypeError, ValueError):
        usd = math.nan
    if not 0 <= usd < math.inf:
        raise ValueError(f"Invalid value for max_usd: {value!r}. Expected a number of US dollars")
    return usd
