"""The general operators in one DAG on a real Airflow: a plan first, several destinations, a mapped function, a budget.

``dag.test()`` runs triggers inline.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_skyplane.watch import Watch
from skyplane_core.spec import Progress
from tests.servers.airflow_clouds import Clouds, clouds

OBJECTS = {f"{table}/f{number}": bytes([65 + number]) * 1000 for table in ("users", "events") for number in range(3)}
DAG = '''
from datetime import datetime, timezone
from airflow.providers.common.compat.sdk import DAG, task
from airflow_provider_skyplane.operators.plan import SkyplanePlanOperator
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator, SkyplaneSyncOperator

class Dear(SkyplanePlanOperator):
    """What costs something is not on this machine."""
    def _dry_run(self):
        return {**super()._dry_run(), "usd": 9.0, "usd_known": 9.0}

to = ["gs://dst/fan/", {"uri": "s3://{{ params.second }}/fan/", "conn_id": "aws_default"}]
deferred = dict(deferrable=True, local_gateways_outlive_task=True, poll_interval=1)
with DAG(
    "operators", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=timezone.utc), params={"second": "src2"}
) as dag:
    plan = SkyplanePlanOperator(task_id="plan", source="s3://src/", destination=to, mode="sync", max_usd=0)
    fan = SkyplaneSyncOperator(task_id="fan", source="s3://src/", destination=to, **deferred)

    @task.skyplane(mode="sync", recursive=True, **deferred)
    def said(table, plan):
        chosen = [f"f{number}" for number in range(plan["copy"] // 6)]
        return {"source": f"s3://src/{table}/", "destination": f"gs://dst/said/{table}/", "include": chosen}

    dear = Dear(
        task_id="dear", source="s3://src/", destination="gs://dst/x/", mode="sync", max_usd=5, over_budget="skip"
    )
    after = SkyplaneSyncOperator(task_id="after", source="s3://src/", destination="gs://dst/x/")
    plan >> fan >> said.partial(plan=plan.output).expand(table=["users", "events"]) >> dear >> after
'''


@pytest.fixture(scope="module")
def world(airflow_home: Path) -> Iterator[Clouds]:
    with clouds(["src", "src2"], ["dst"]) as found, pytest.MonkeyPatch.context() as patch:
        environment = found.environment()
        environment["AIRFLOW_CONN_SKYPLANE_DEFAULT"] = f'{{"conn_type": "skyplane", "password": "{"s" * 40}"}}'
        for name, value in environment.items():
            patch.setenv(name, value)
        found.put("src", OBJECTS)
        yield found


def load(text: str) -> Any:
    # Airflow runs only what lies in its DAGs folder.
    path = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]) / "operators_dag.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("operators_dag", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dag


@pytest.mark.filterwarnings("ignore")
def test_all_of_them(world: Clouds, monkeypatch: pytest.MonkeyPatch) -> None:
    # There is no scheduler here that could take a quick return for a crash.
    monkeypatch.setattr("airflow_provider_skyplane.triggers.skyplane.RESUME_NOT_BEFORE_SECONDS", 0.0)
    looked_at: set[str] = set()
    look = Watch._look

    async def looking(self: Watch, transfer_id: str) -> Progress:
        looked_at.add(transfer_id)
        return await look(self, transfer_id)

    monkeypatch.setattr(Watch, "_look", looking)
    run = load(DAG).test()
    instances = {(ti.task_id, ti.map_index): ti for ti in run.get_task_instances()}
    told = {key: ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index) for key, ti in instances.items()}
    states = {key: str(ti.state) for key, ti in instances.items()}
    assert states == {
        ("plan", -1): "success",
        ("fan", -1): "success",
        ("said", 0): "success",
        ("said", 1): "success",
        ("dear", -1): "skipped",
        ("after", -1): "skipped",
    }
    plan, fan = told["plan", -1], told["fan", -1]
    assert (plan["copy"], plan["bytes"], plan["usd"]) == (12, 12_000, 0.0)
    assert (fan["objects_copied"], fan["bytes_copied"]) == (12, 12_000)
    assert [one["destination"] for one in fan["destinations"]] == ["gs://dst/fan/", "s3://src2/fan/"]
    assert [one["receipt"].split("/.skyplane/")[0] for one in fan["destinations"]] == ["gs://dst/fan", "s3://src2/fan"]
    deferred = {one["transfer_id"] for one in (*fan["destinations"], told["said", 0], told["said", 1])}
    assert looked_at == deferred
    assert [told["said", number]["objects_copied"] for number in range(2)] == [2, 2]
    assert (told["dear", -1]["copy"], told["dear", -1]["usd"]) == (6, 9.0)
    moved = {name: body for name, (_, _, body) in world.objects("dst").items() if "/.skyplane/" not in name}
    assert moved == {
        **{f"fan/{key}": body for key, body in OBJECTS.items()},
        **{f"said/{key}": body for key, body in OBJECTS.items() if not key.endswith("f2")},
    }
    second = world.s3().list_objects_v2(Bucket="src2", Prefix="fan/")["Contents"]
    assert {found["Key"] for found in second if "/.skyplane/" not in found["Key"]} == {f"fan/{key}" for key in OBJECTS}
