"""The page of a report on Airflow 3: whoever may read the DAG's XComs may read it."""

from __future__ import annotations

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.xcom import XComModel
from airflow.providers.common.compat.sdk import XCom
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse
from sqlalchemy import select

from airflow_provider_skyplane.links.report import REPORT_XCOM_KEY
from airflow_provider_skyplane.plugins import stored_token
from airflow_provider_skyplane.plugins.kept import HEADERS, page_of


def application() -> FastAPI:
    """An application with one page, below the prefix that it is mounted at."""
    app = FastAPI(title="Skyplane", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get(
        "/report/{dag_id}/{run_id}/{task_id}/{map_index}",
        dependencies=[Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM))],
    )
    def report(dag_id: str, run_id: str, task_id: str, map_index: int) -> HTMLResponse:
        status, html = page_of(_left(dag_id, run_id, task_id, map_index))
        return HTMLResponse(html, status, HEADERS)

    if stored_token.is_needed():
        stored_token.fetch_with_stored_token(app)
    return app


def _left(dag_id: str, run_id: str, task_id: str, map_index: int) -> object:
    asked = select(XComModel).where(
        XComModel.dag_id == dag_id,
        XComModel.run_id == run_id,
        XComModel.task_id == task_id,
        XComModel.map_index == map_index,
        XComModel.key == REPORT_XCOM_KEY,
    )
    with create_session() as session:
        found = session.scalar(asked)
        return None if found is None else XCom.deserialize_value(found)
