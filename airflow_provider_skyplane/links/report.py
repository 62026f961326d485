"""The link from a task to the report of its transfer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_skyplane.compat import BaseOperatorLink, conf, web_server_is_flask

if TYPE_CHECKING:
    from airflow_provider_skyplane.compat import Context

PREFIX = "/skyplane"
"""Below it, Airflow serves our pages."""
LINK_XCOM_KEY = "skyplane_report_link"
REPORT_XCOM_KEY = "skyplane_report"
"""Under this key a task leaves what its report is made of: JSON, at most some tens of KB whatever was moved."""


class SkyplaneReportLink(BaseOperatorLink):
    """Leads to the page of the report; while the transfer runs, that says so."""

    name = "Skyplane transfer report"

    @property
    def xcom_key(self) -> str:
        """Where Airflow 3 looks for the link."""
        return LINK_XCOM_KEY

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address of the page; ``ti_key`` is a task instance or its key."""
        del operator
        return report_url(ti_key)


def report_url(ti: Any) -> str:
    """Where the report of a task instance is: below Airflow's own address, as its configuration tells it."""
    base = conf.get("webserver" if web_server_is_flask() else "api", "base_url", fallback="")
    return f"{base.rstrip('/')}{PREFIX}{page_path(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)}"


def page_path(dag_id: str, run_id: str, task_id: str, map_index: int | None) -> str:
    """The path of the page below :data:`PREFIX`."""
    names = "/".join(quote(name, safe="") for name in (dag_id, run_id, task_id))
    return f"/report/{names}/{-1 if map_index is None else map_index}"


def push_link(context: Context, log: Any) -> None:
    """Leave the link, so that it can be followed before the task has ended; no reason for a task to fail."""
    # Outside of a task run, as in somebody's own test, there is nobody to leave it to.
    if "ti" not in context:
        return
    try:
        context["ti"].xcom_push(key=LINK_XCOM_KEY, value=report_url(context["ti"]))
    except Exception as error:  # noqa: BLE001  # see above; Airflow 3 leaves it once more when the task has ended
        log.warning("The link to the report could not be left: %s: %s", type(error).__name__, error)
