"""Adds the page of a report to Airflow's web server. Every process of Airflow loads this, so it imports little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_skyplane.compat import web_server_is_flask
from airflow_provider_skyplane.links.report import PREFIX


class _WhenAsked:
    """A list that is made when somebody looks at it, at a plugin or at its class."""

    def __init__(self, make: Callable[[], list[Any]]) -> None:
        self._make = make

    def __get__(self, _instance: object, _owner: type) -> list[Any]:
        return self._make()


def _fastapi_apps() -> list[Any]:
    if web_server_is_flask():
        return []
    from airflow_provider_skyplane.plugins.fastapi_page import application

    return [{"app": application(), "url_prefix": PREFIX, "name": "Skyplane"}]


def _flask_blueprints() -> list[Any]:
    if not web_server_is_flask():
        return []
    from airflow_provider_skyplane.plugins.flask_page import blueprint

    return [blueprint()]


class SkyplaneReportPlugin(AirflowPlugin):
    """A page for Airflow 3, by FastAPI, or for Airflow 2, by Flask. Only the web server looks at either."""

    name = "skyplane_report"
    fastapi_apps = _WhenAsked(_fastapi_apps)
    flask_blueprints = _WhenAsked(_flask_blueprints)
