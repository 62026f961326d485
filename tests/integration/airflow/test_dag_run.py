"""The example DAGs, as users run them: ``dag.test()`` against our servers, with connections from the environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_skyplane.triggers import skyplane as transfer_trigger
from tests.servers.airflow_clouds import Clouds, clouds
from tests.servers.example_dags import load, result

OBJECTS = {f"data/f{number}": bytes([65 + number]) * 1000 * number for number in range(6)}


@pytest.fixture(scope="module")
def world(airflow_home: Path) -> Iterator[Clouds]:
    with clouds(["src"], ["dst"]) as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment().items():
            patch.setenv(name, value)
        # dag.test() runs triggers in this process: there is no supervisor that could be overtaken.
        patch.setattr(transfer_trigger, "RESUME_NOT_BEFORE_SECONDS", 0.0)
        found.put("src", OBJECTS)
        yield found


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
