"""What the report of a task is made of. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from airflow_provider_skyplane.finished import Finished
from airflow_provider_skyplane.several import Several, as_one
from skyplane_core.report.value import Report
from skyplane_core.spec import Progress, TransferState

_CUT_SHORT = (
    "The transfer was cancelled, and its gateways were ended before it had stopped by itself: this is the last that "
    "was heard of it"
)


def reports_of(finished: Finished, run: str) -> tuple[Report, ...]:
    """One for each transfer; none where only counts are known."""
    each = finished.each or [finished]
    return tuple(Report(msgspec.json.decode(one.course, type=Progress), run) for one in each if one.course)


def run_of(ti: Any) -> str:
    """Whose transfer it was, in words; ``ti`` is a task instance."""
    mapped = f"[{ti.map_index}]" if ti.map_index not in (None, -1) else ""
    return f"{ti.dag_id}.{ti.task_id}{mapped}, run {ti.run_id}, try {ti.try_number}"


def cancelled(progress: Progress) -> Progress:
    """The last that was heard of a transfer that has been cancelled, as its end; one that had ended is left alone."""
    if isinstance(progress, Several):
        return as_one([cancelled(one) for one in progress.each])
    if progress.state.ended:
        return progress
    return msgspec.structs.replace(progress, state=TransferState.CANCELLED, error=_CUT_SHORT)
