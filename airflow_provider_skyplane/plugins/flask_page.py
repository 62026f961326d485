"""The page of a report on Airflow 2: whoever may read the DAG's XComs may read it."""

from __future__ import annotations

from airflow.auth.managers.models.resource_details import DagAccessEntity
from airflow.models.xcom import XCom
from airflow.www import auth
from flask import Blueprint, Response

from airflow_provider_skyplane.links.report import PREFIX, REPORT_XCOM_KEY
from airflow_provider_skyplane.plugins.kept import HEADERS, page_of


def blueprint() -> Blueprint:
    """A blueprint with one page."""
    pages = Blueprint("skyplane", __name__, url_prefix=PREFIX)

    @pages.get("/report/<dag_id>/<run_id>/<task_id>/<int(signed=True):map_index>")
    @auth.has_access_dag("GET", DagAccessEntity.XCOM)  # type: ignore[untyped-decorator]  # Airflow 2 is not here to ask
    def report(dag_id: str, run_id: str, task_id: str, map_index: int) -> Response:
        left = XCom.get_one(key=REPORT_XCOM_KEY, dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)
        status, html = page_of(left)
        return Response(html, status, HEADERS, content_type="text/html; charset=utf-8")

    return pages
