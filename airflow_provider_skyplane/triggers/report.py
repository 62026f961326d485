"""The report of a transfer that was ended while its task was deferred: no worker is left that could leave it."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import XCom
from asgiref.sync import sync_to_async

from airflow_provider_skyplane.finished import Finished
from airflow_provider_skyplane.links.report import REPORT_XCOM_KEY
from airflow_provider_skyplane.reports import cancelled, reports_of, run_of
from skyplane_core.report.value import encode
from skyplane_core.spec import Progress


async def leave(task_instance: Any, progress: Progress) -> None:
    """Leave the report in the task's XCom.

    Args:
        progress: the last that was heard of the transfer.

    Raises:
        Exception: Airflow does not take it.
    """
    reports = reports_of(Finished.of(cancelled(progress)), run_of(task_instance))
    await sync_to_async(XCom.set)(
        key=REPORT_XCOM_KEY,
        value=encode(reports),
        dag_id=task_instance.dag_id,
        task_id=task_instance.task_id,
        run_id=task_instance.run_id,
        map_index=task_instance.map_index,
    )
