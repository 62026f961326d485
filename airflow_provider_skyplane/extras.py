"""What a task leaves of an ended transfer besides its return value: metrics, events of its outlets, and a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from airflow_provider_skyplane import asset_events, metrics
from airflow_provider_skyplane.finished import Finished
from airflow_provider_skyplane.links.report import REPORT_XCOM_KEY
from airflow_provider_skyplane.reports import reports_of, run_of
from skyplane_core.report.page import render
from skyplane_core.report.value import encode

if TYPE_CHECKING:
    from airflow_provider_skyplane.compat import Context


@dataclasses.dataclass(frozen=True)
class Extras:
    """Leaves them. Nothing of it fails a task: what counts is whether the data has arrived.

    Args:
        context: of the task's run; without a task instance, as in somebody's own test, there is nobody to leave it to.
        outlets: of the task.
        log: where it says what could not be left.
        save: writes a page to where the user wants it; None where nobody asked.
    """

    context: Context
    outlets: Iterable[Any]
    log: Any
    save: Callable[[str, bytes], None] | None = None

    def leave(self, finished: Finished) -> None:
        """Leave all of it."""
        self._try("metrics could not be sent", lambda: metrics.count(finished, self._tags()))
        if "ti" in self.context:
            self._try("report could not be left", lambda: self._push(finished))
        if self.save is not None:
            self._try("report could not be written", lambda: self._write(finished))
        if not finished.failed:
            self._try(
                "events of the outlets tell nothing", lambda: asset_events.tell(self.context, self.outlets, finished)
            )

    def _push(self, finished: Finished) -> None:
        reports = reports_of(finished, self._run())
        self.context["ti"].xcom_push(key=REPORT_XCOM_KEY, value=encode(reports))

    def _write(self, finished: Finished) -> None:
        if self.save is not None:
            self.save(finished.transfer_id, render(*reports_of(finished, self._run())).encode("utf-8"))

    def _run(self) -> str:
        ti = self.context.get("ti")
        return "" if ti is None else run_of(ti)

    def _tags(self) -> dict[str, str]:
        ti = self.context.get("ti")
        return {} if ti is None else {"dag_id": ti.dag_id, "task_id": ti.task_id}

    def _try(self, complaint: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001  # see above
            self.log.warning("A transfer's %s: %s: %s", complaint, type(error).__name__, error)
