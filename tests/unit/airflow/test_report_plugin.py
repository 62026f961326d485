"""The plugin that serves reports: found by Airflow, light for those who only load it, and one page."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from airflow_provider_skyplane.compat import web_server_is_flask
from airflow_provider_skyplane.get_provider_info import get_provider_info
from airflow_provider_skyplane.links.report import PREFIX, SkyplaneReportLink, page_path
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator
from airflow_provider_skyplane.plugins.report import SkyplaneReportPlugin
from airflow_provider_skyplane.transfers.s3_to_gcs import SkyplaneS3ToGCSOperator


def test_airflow_finds_it_and_the_link() -> None:
    (found,) = entry_points(group="airflow.plugins", name="skyplane_report")
    assert found.load() is SkyplaneReportPlugin
    link = f"{SkyplaneReportLink.__module__}.{SkyplaneReportLink.__qualname__}"
    assert get_provider_info()["extra-links"] == [link]
    for operator in (SkyplaneOperator, SkyplaneS3ToGCSOperator):
        assert [type(one) for one in operator.operator_extra_links] == [SkyplaneReportLink]


# What Airflow 2 and its Flask say of themselves.
@pytest.mark.filterwarnings("ignore")
def test_it_is_one_page_below_its_prefix() -> None:
    for plugin in (SkyplaneReportPlugin, SkyplaneReportPlugin()):
        if web_server_is_flask():
            (blueprint,) = plugin.flask_blueprints
            assert blueprint.url_prefix == PREFIX
            assert plugin.fastapi_apps == []
            continue
        (mounted,) = plugin.fastapi_apps
        assert mounted["url_prefix"] == PREFIX
        (route,) = mounted["app"].routes
        assert route.methods == {"GET"}
        assert route.path_regex.match(page_path("d", "manual__2025-01-01T00:00:00+00:00", "g.t", 3))
        assert plugin.flask_blueprints == []


@pytest.mark.skipif(web_server_is_flask(), reason="Airflow 2 itself loads Flask with its plugins")
def test_who_only_loads_it_loads_no_web_server() -> None:
    program = (
        "import sys; import airflow.plugins_manager; before = set(sys.modules);"
        "import airflow_provider_skyplane.plugins.report;"
        "print([name for name in set(sys.modules) - before if name in ('fastapi', 'flask', 'sqlalchemy.orm')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
