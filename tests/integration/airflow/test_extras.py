"""What tasks leave on a real Airflow: events of outlets, lineage, metrics, and a report behind a link."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

import airflow_provider_skyplane.openlineage as package
from tests.servers.airflow_clouds import CONTROL_SECRET, SECRET_KEY, Clouds
from tests.servers.airflow_stack import AirflowStack
from tests.servers.chromium import chromium, overheard
from tests.servers.observers import Observers

pytestmark = pytest.mark.timeout(420)

HOSTILE = "<img src=x onerror=alert(1)>"
OBJECTS = {f"extras/f{number}": b"x" * 1000 for number in range(4)} | {f"extras/{HOSTILE}": b"taken"}
DROP_IN = {"bucket": "src", "prefix": "extras/f", "dest_gcs": "gs://dst/extras-b/"}
DAG = """
from datetime import datetime, timezone
from airflow.providers.common.compat.sdk import DAG, Asset
from airflow.providers.openlineage.utils.selective_enable import enable_lineage
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator
from airflow_provider_skyplane.transfers.s3_to_gcs import SkyplaneS3ToGCSOperator

with DAG("extras", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=timezone.utc)) as dag:
    SkyplaneOperator(
        task_id="deferred", source="s3://src/extras/", destination="gs://dst/extras-a/", recursive=True, gateways=2,
        deferrable=True, local_gateways_outlive_task=True, poll_interval=1,
        inlets=[Asset("s3://src/extras/")], outlets=[Asset("gs://dst/extras-a/")],
    ) >> SkyplaneS3ToGCSOperator(
        task_id="drop_in", {drop_in}, report_url="gs://dst/reports/", outlets=[Asset("gs://dst/extras-b/")],
    ) >> SkyplaneOperator(
        task_id="failing", source="s3://src/extras/", destination="file://{directory}", recursive=True,
        outlets=[Asset("x-files://failing")],
    )
enable_lineage(dag)
"""


@pytest.fixture(scope="module")
def run(
    airflow: AirflowStack, stack_clouds: Clouds, stack_observers: Observers, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """A run of three tasks, the last of which has failed for one object."""
    stack_observers.forget()
    directory = tmp_path_factory.mktemp("failing")
    (directory / HOSTILE / "x").mkdir(parents=True)
    stack_clouds.put("src", OBJECTS)
    arguments = ", ".join(f"{name}={value!r}" for name, value in DROP_IN.items())
    airflow.add_dag("extras", DAG.format(drop_in=arguments, directory=directory))
    found = airflow.run_dag("extras")
    state = airflow.wait_for_task("extras", found, "failing", {"success", "failed", "upstream_failed"}, seconds=200)
    told = "".join(airflow.task_log("extras", found, task)[-4000:] for task in ("deferred", "drop_in", "failing"))
    assert state == "failed", told
    return found


def summary(airflow: AirflowStack, run: str, task: str) -> Any:
    return airflow.xcom("extras", run, task)


def test_events_of_outlets_carry_counts_in_both_modes_and_none_for_what_failed(airflow: AirflowStack, run: str) -> None:
    answer = airflow.request("GET", "assets/events", params={"source_dag_id": "extras"})
    events = {event["uri"]: event["extra"] for event in answer["asset_events"]}
    # Airflow drops a slash at the end.
    assert events.keys() == {"gs://dst/extras-a", "gs://dst/extras-b"}
    moved = summary(airflow, run, "deferred")
    told = events["gs://dst/extras-a"]["skyplane"]
    assert {name: told[name] for name in ("transfer_id", "objects_copied", "bytes_copied", "receipt")} == {
        "transfer_id": moved["transfer_id"],
        "objects_copied": len(OBJECTS),
        "bytes_copied": sum(map(len, OBJECTS.values())),
        "receipt": moved["receipt"],
    }
    # The drop-in keeps no receipt, so that nothing but objects is where they are.
    assert told["receipt"] != ""
    of_drop_in = events["gs://dst/extras-b"]["skyplane"]
    assert (of_drop_in["objects_copied"], of_drop_in["receipt"]) == (4, "")


def sides(event: dict[str, Any]) -> list[list[tuple[str, str]]]:
    return [[(one["namespace"], one["name"]) for one in event[side]] for side in ("inputs", "outputs")]


def test_openlineage_hears_of_datasets_and_of_what_was_moved(
    airflow: AirflowStack, stack_observers: Observers, run: str
) -> None:
    def ended() -> Any:
        return stack_observers.events("extras.failing").get("FAIL")

    airflow.until(ended, "OpenLineage heard of no failure")
    deferred, failing = (stack_observers.events(f"extras.{task}") for task in ("deferred", "failing"))
    for event in (deferred["START"], deferred["COMPLETE"]):
        assert sides(event) == [[("s3://src", "extras")], [("gs://dst", "extras-a")]]
    facet = deferred["COMPLETE"]["run"]["facets"]["skyplane_transfer"]
    assert (facet["objectsCopied"], facet["bytesCopied"]) == (len(OBJECTS), sum(map(len, OBJECTS.values())))
    assert facet["transferId"] == summary(airflow, run, "deferred")["transfer_id"]
    facets = failing["FAIL"]["run"]["facets"]
    assert facets.get("skyplane_transfer", {}).get("objectsFailed") == 1, airflow.task_log("extras", run, "failing")[
        -4000:
    ]
    schema = json.loads((Path(package.__path__[0]) / "SkyplaneTransferRunFacet-1-0-0.json").read_text())
    for event in (deferred["COMPLETE"], failing["FAIL"]):
        jsonschema.validate(event["run"]["facets"]["skyplane_transfer"], schema)


@pytest.mark.filterwarnings("ignore")
def test_the_drop_ins_datasets_are_the_stock_operators(stack_observers: Observers, run: str) -> None:
    from airflow.providers.google.cloud.transfers.s3_to_gcs import S3ToGCSOperator

    stock = S3ToGCSOperator(task_id="t", **DROP_IN).get_openlineage_facets_on_start()
    expected = [[(one.namespace, one.name) for one in side] for side in (stock.inputs, stock.outputs)]
    event = stack_observers.events("extras.drop_in")["COMPLETE"]
    assert sides(event) == expected
    assert event["run"]["facets"]["skyplane_transfer"]["objectsCopied"] == 4


def test_statsd_hears_of_bytes_objects_seconds_and_failures(stack_observers: Observers, run: str) -> None:
    prefix = "airflow.skyplane.transfer."
    heard = stack_observers.metrics(f"{prefix}failures", f"{prefix}duration", f"{prefix}objects_copied")
    size = sum(map(len, OBJECTS.values()))
    assert f"{size}|c" in heard[f"{prefix}bytes"]
    assert heard[f"{prefix}failures"] == ["1|c"]
    assert f"{len(OBJECTS)}|c" in heard[f"{prefix}objects_copied"]
    assert all(value.endswith("|ms") and float(value[:-3]) > 0 for value in heard[f"{prefix}duration"])


def test_the_link_leads_to_a_report_that_only_users_see(airflow: AirflowStack, run: str) -> None:
    for task, words in (("deferred", "done"), ("drop_in", "done"), ("failing", "failed")):
        links = airflow.request("GET", f"dags/extras/dagRuns/{run}/taskInstances/{task}/links")["extra_links"]
        url = links["Skyplane transfer report"]
        assert url.startswith(airflow.url)
        page = httpx.get(url, headers=airflow.headers, trust_env=False)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert f'<span class="state {words}">' in page.text
        assert "s3://src/extras/" in page.text
        for secret in (SECRET_KEY, CONTROL_SECRET, airflow.headers["Authorization"]):
            assert secret not in page.text
        assert httpx.get(url, trust_env=False).status_code == 401
        assert httpx.get(url, headers={"Authorization": "Bearer x"}, trust_env=False).status_code == 403
        nobody = url.replace(f"/{task}/", "/nothing/")
        assert httpx.get(nobody, headers=airflow.headers, trust_env=False).status_code == 404


def test_the_report_in_the_users_browser(airflow: AirflowStack, run: str) -> None:
    links = airflow.request("GET", f"dags/extras/dagRuns/{run}/taskInstances/failing/links")["extra_links"]
    url = links["Skyplane transfer report"]
    token = airflow.headers["Authorization"].removeprefix("Bearer ")
    from airflow_provider_skyplane.plugins.stored_token import is_needed  # Airflow 2 could not

    with chromium() as browser:
        context = browser.new_context()
        # Airflow 3.0 has its user's token in the browser's storage, later ones in a cookie.
        context.add_cookies([{"name": "_token", "value": token, "url": airflow.url}])
        context.add_init_script(f"localStorage.setItem('token', '{token}')")
        page, heard = overheard(context)
        page.goto(url)
        page.get_by_text(f"extras/{HOSTILE}").first.wait_for()
        assert {line for line in heard if not line.endswith("401 (Unauthorized)")} == {f"request: {url}"}
        assert len(heard) == (3 if is_needed() else 1)
        assert page.locator("img, script").count() == 0
        assert page.get_by_text(f"extras/{HOSTILE}").count() >= 1
        assert page.get_by_text(f"extras.failing, run {run}, try 1").count() == 1
        context.close()


def test_a_report_is_written_where_it_was_asked_for(stack_clouds: Clouds, run: str) -> None:
    (name,) = [name for name in stack_clouds.destination.list("dst", "reports/") if name.endswith(".html")]
    ((_, (kind, _, body)),) = [(key, found) for key, found in stack_clouds.objects("dst").items() if key == name]
    assert kind == "text/html; charset=utf-8"
    assert b"s3://src/extras/f" in body
