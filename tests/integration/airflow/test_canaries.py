"""No secret of a connection in a log, a rendered template, an XCom, a trigger's row, an error: on a real Airflow.

Its whole home is searched, and with it the logs of the gateways: the database as it lies on the disk, the log files of
tasks, and what its processes wrote.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from skyplane_core.provision.local import default_log_dir
from tests.servers.airflow_canaries import CANARIES
from tests.servers.airflow_clouds import Clouds
from tests.servers.airflow_stack import AirflowStack

pytestmark = pytest.mark.timeout(420)

OBJECTS = {f"canaries/f{number:02}": b"x" * 1000 for number in range(10)}
DAG = '''
from datetime import datetime, timezone
from airflow.providers.common.compat.sdk import DAG, task
from airflow_provider_skyplane.hooks.skyplane import SkyplaneHook
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator

SOURCE = dict(source="s3://src/canaries/", source_conn_id="canary_aws", recursive=True)
HOW = dict(skyplane_conn_id="canary_skyplane", local_gateways_outlive_task=True, poll_interval=1, retries=0)


@task(trigger_rule="all_done", retries=0)
def shown():
    """What somebody prints who looks for a mistake."""
    hook = SkyplaneHook("canary_skyplane")
    request = hook.request("s3://src/canaries/", "gs://dst/shown/", source_conn_id="canary_aws")
    everything = [hook.settings, hook.engine.client.config, request, request.prepare(hook.engine.client, "0" * 32)]
    everything += [hook.place("s3://src/canaries/", "canary_aws"), *hook.plan(request)]
    print("all there is:", everything)
    hook.log.error("as %r and as %s", everything, everything)
    raise RuntimeError(f"with {everything}")


with DAG("canaries", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=timezone.utc)):
    SkyplaneOperator(task_id="waits", destination="gs://dst/waits/", **SOURCE, **HOW)
    SkyplaneOperator(task_id="defers", destination="gs://dst/defers/", deferrable=True, **SOURCE, **HOW)
    SkyplaneOperator(
        task_id="bad_ssh", destination="gs://dst/x/", **SOURCE, skyplane_conn_id="canary_bad_ssh", retries=0
    )
    SkyplaneOperator(
        task_id="bad_blob", destination="az://account1/box/", destination_conn_id="canary_bad_blob", **SOURCE, **HOW
    )
    SkyplaneOperator(
        task_id="bad_google", destination="gs://dst/x/", destination_conn_id="canary_bad_google", **SOURCE, **HOW
    )
    shown()
'''
FAILURES = {
    "bad_ssh": "not a private key that can be used",
    "bad_blob": "the expiry of the SAS token in sas_token of connection 'canary_bad_blob' is no time",
    "bad_google": "keyfile_dict is no JSON",
    "shown": "RuntimeError",
}
ENDS = {"success", "failed", "upstream_failed"}


def holding(words: tuple[str, ...], *places: Path) -> list[str]:
    """The files that hold one of the words."""
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    sought = [word.encode() for word in words]
    return [str(path) for path in files if any(word in path.read_bytes() for word in sought)]


def test_none_comes_to_light(airflow: AirflowStack, stack_clouds: Clouds) -> None:
    stack_clouds.put("src", OBJECTS)
    airflow.add_dag("canaries", DAG)
    run = airflow.run_dag("canaries")
    for task in ("waits", "defers"):
        state = airflow.wait_for_task("canaries", run, task, ENDS, seconds=150)
        assert state == "success", airflow.task_log("canaries", run, task)[-6000:]
        assert airflow.xcom("canaries", run, task)["objects_copied"] == len(OBJECTS)
    for task, told in FAILURES.items():
        assert airflow.wait_for_task("canaries", run, task, ENDS, seconds=150) == "failed"
        log = airflow.task_log("canaries", run, task)
        assert told in log, log[-4000:]
    assert "all there is:" in airflow.task_log("canaries", run, "shown")
    places = (airflow.home, default_log_dir())
    # What is no secret is found there, so the search can find.
    found = holding(("canary_skyplane", "all there is:"), *places)
    assert any("airflow.db" in name for name in found)
    assert any("task_id=shown" in name for name in found)
    assert holding(CANARIES, *places) == []
