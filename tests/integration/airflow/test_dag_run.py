"""The example DAGs, as users run them: ``dag.test()`` against our servers, with connections from the environment."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.airflow_clouds import Clouds, clouds

EXAMPLES = Path(__file__).resolve().parents[3] / "example_dags"
OBJECTS = {f"data/f{number}": bytes([65 + number]) * 1000 * number for number in range(6)}


@pytest.fixture(scope="module")
def world(airflow_home: Path) -> Iterator[Clouds]:
    with clouds(["src"], ["dst"]) as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment().items():
            patch.setenv(name, value)
        found.put("src", OBJECTS)
        yield found


def load(name: str) -> Any:
    # Airflow runs only what lies in its DAGs folder.
    path = shutil.copy(EXAMPLES / f"{name}.py", os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dag


def result(run: Any, task_id: str) -> Any:
    assert run.state == "success"
    (instance,) = [ti for ti in run.get_task_instances() if ti.task_id == task_id]
    return instance.xcom_pull(task_ids=task_id)


@pytest.mark.filterwarnings("ignore")
def test_the_drop_in_example(world: Clouds) -> None:
    conf = {"s3_bucket": "src", "prefix": "data/", "dest_gcs": "gs://dst/in/"}
    uris = [f"gs://dst/in/{key}" for key in sorted(OBJECTS)]
    assert result(load("example_s3_to_gcs").test(run_conf=conf), "copy") == uris
    assert result(load("example_s3_to_gcs").test(run_conf=conf), "copy") == []
    assert {name: body for name, (_, _, body) in world.objects("dst").items() if name.startswith("in/")} == {
        f"in/{key}": body for key, body in OBJECTS.items()
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("outlive", ["", "1"])
def test_the_sync_example(world: Clouds, outlive: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run to the end on the worker, and through its trigger, which dag.test() runs inline."""
    monkeypatch.setenv("SKYPLANE_EXAMPLE_OUTLIVE", outlive)
    monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", f'{{"conn_type": "skyplane", "password": "{"s" * 40}"}}')
    conf = {"source": "s3://src/data/", "destination": f"gs://dst/sync{outlive}/"}
    summary = result(load("example_sync").test(run_conf=conf), "sync")
    assert summary["objects_copied"] == len(OBJECTS)
    assert summary["bytes_copied"] == sum(map(len, OBJECTS.values()))
    assert summary["receipt"].startswith(f"gs://dst/sync{outlive}/.skyplane/")
    again = result(load("example_sync").test(run_conf=conf), "sync")
    assert (again["objects_copied"], again["objects_skipped"]) == (0, len(OBJECTS))
