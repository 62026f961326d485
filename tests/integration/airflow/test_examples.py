"""Every example DAG, run by a real Airflow against servers of ours, all in one process."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_skyplane.triggers import skyplane as transfer_trigger
from skyplane_core.client import ClientConfig, SkyplaneClient
from skyplane_core.locations import Location
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.testing.objectserver import ObjectServer
from tests.servers.airflow_clouds import ACCESS_KEY, SECRET_KEY, Clouds, clouds
from tests.servers.example_dags import EXAMPLES, load, result, states
from tests.servers.webhook import webhook

pytestmark = pytest.mark.filterwarnings("ignore")

CONTROL_SECRET = "canary-control-secret-0123456789abcdef"
AZURE_KEY = "YXp1cmUta2V5LW9mLXRoZS10ZXN0cw=="
FILES = {f"f{number}.csv": bytes([65 + number]) * 1000 * number for number in range(1, 13)}


@pytest.fixture(scope="module")
def world(airflow_home: Path) -> Iterator[Clouds]:
    with clouds(["src", "archive"], ["dst"]) as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment().items():
            patch.setenv(name, value)
        patch.setenv("AIRFLOW_CONN_ARCHIVE", found.environment()["AIRFLOW_CONN_AWS_DEFAULT"])
        patch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", json.dumps({"conn_type": "skyplane", "password": CONTROL_SECRET}))
        patch.setenv("AIRFLOW__SKYPLANE__LOCAL_GATEWAYS_OUTLIVE_TASK", "True")
        # dag.test() runs triggers in this process: there is no supervisor that could be overtaken.
        patch.setattr(transfer_trigger, "RESUME_NOT_BEFORE_SECONDS", 0.0)
        yield found


@pytest.fixture
def azure() -> Iterator[ObjectServer]:
    with ObjectServer("azure", buckets=["box"], credentials={"account": AZURE_KEY}) as server:
        yield server


def names(server: ObjectServer, bucket: str, prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in server.list(bucket, prefix) if "/.skyplane/" not in name]


def test_every_example_is_run_here_or_beside() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [path.stem for path in EXAMPLES.glob("example_*.py") if f'"{path.stem}"' not in tests] == []


def test_the_drop_in_differs_from_the_stock_operators_dag_by_one_import_line() -> None:
    text = (EXAMPLES / "example_s3_to_gcs.py").read_text()
    stock, ours = (line.partition("#")[0].strip() for line in text.splitlines()[2:4])
    assert stock == "from airflow.providers.google.cloud.transfers.s3_to_gcs import S3ToGCSOperator"
    assert ours == stock.replace("airflow.providers.google.cloud", "airflow_provider_skyplane")
    assert [line for line in text.splitlines() if "skyplane" in line and line[0].isalpha()] == [ours]


def test_the_nightly_sync_mirrors_and_refuses_to_empty_the_mirror(
    world: Clouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("src", {f"nightly/{name}": body for name, body in FILES.items()} | {"nightly/part.tmp": b"x"})
    conf = {"source": "s3://src/nightly/", "destination": "gs://dst/nightly/"}
    with webhook() as (address, alerts):
        monkeypatch.setenv("SKYPLANE_EXAMPLE_WEBHOOK", address)
        assert result(load("example_nightly_sync").test(run_conf=conf), "sync")["objects_copied"] == 12
        world.source.delete("src", "nightly/f1.csv")
        second = result(load("example_nightly_sync").test(run_conf=conf), "sync")
        assert (second["objects_copied"], second["objects_skipped"], second["objects_deleted"]) == (0, 11, 1)
        assert second["receipt"].startswith("gs://dst/receipts/exports/")
        assert alerts == []
        for number in (2, 3):
            world.source.delete("src", f"nightly/f{number}.csv")
        assert states(load("example_nightly_sync").test(run_conf=conf)) == {"sync": "failed"}
    (told,) = alerts
    assert "example_nightly_sync.sync failed" in told["text"]
    assert "2 of 11 objects have no counterpart at the source, and the limit is 10%" in told["text"]
    assert names(world.destination, "dst", "nightly/") == sorted(FILES.keys() - {"f1.csv"})


def test_the_analytics_flow_loads_what_is_new_and_computes(
    world: Clouds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"S3_BUCKET": "src", "GCS_BUCKET": "dst", "WAREHOUSE": str(tmp_path / "w.sqlite")}.items():
        monkeypatch.setenv(f"SKYPLANE_EXAMPLE_{name}", value)
    world.put("src", {"sales/1.csv": b"region,amount\neast,1.5\nwest,2\n", "sales/2.csv": b"region,amount\neast,3\n"})
    run = load("example_analytics").test()
    assert result(run, "report") == {"east": 4.5, "west": 2.0}
    world.put("src", {"sales/3.csv": b"region,amount\nnorth,7\n"})
    run = load("example_analytics").test()
    assert (result(run, "land")["objects_copied"], result(run, "load")) == (1, 1)
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(io.BytesIO(world.objects("dst")["reports/sales.parquet"][2]))
    assert table.to_pydict() == {"region": ["east", "north", "west"], "amount_sum": [4.5, 7.0, 2.0]}
    run = load("example_analytics").test()
    assert states(run)["report"] == "skipped"


def test_the_training_sees_what_was_staged(world: Clouds, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DATASET": "s3://src/houses/", "TRAINING_BUCKET": "dst", "MIN_AGE": "0.001"}.items():
        monkeypatch.setenv(f"SKYPLANE_EXAMPLE_{name}", value)
    world.put("src", {"houses/a.csv": b"size,price\n1,12\n2,14\n", "houses/b.csv": b"size,price\n3,16\n"})
    run = load("example_ml_training").test()
    assert result(run, "train") == {"slope": 2.0, "intercept": 10.0}
    model = json.loads(world.objects("dst")["models/houses.json"][2])
    assert model["trained_on"] == {"points": 3, "receipt": result(run, "stage")["receipt"]}
    assert json.loads(world.objects("dst")[model["trained_on"]["receipt"].removeprefix("gs://dst/")][2])


def test_the_fan_out_reaches_three_clouds(world: Clouds, azure: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    wasb = {"conn_type": "wasb", "login": "account", "password": AZURE_KEY, "host": f"{azure.endpoint_url}/account"}
    monkeypatch.setenv("AIRFLOW_CONN_WASB_DEFAULT", json.dumps(wasb))
    ends = {"ARCHIVE": "s3://archive/r/", "GOOGLE": "gs://dst/r/", "AZURE": "az://account/box/r/"}
    for name, value in {"SOURCE": "s3://src/releases/", **ends}.items():
        monkeypatch.setenv(f"SKYPLANE_EXAMPLE_{name}", value)
    world.put("src", {f"releases/{name}": body for name, body in FILES.items()})
    run = load("example_fan_out").test()
    assert result(run, "announce") == [f"{uri}: 12 new" for uri in ends.values()]
    for server, bucket in ((world.source, "archive"), (world.destination, "dst"), (azure, "box")):
        assert names(server, bucket, "r/") == sorted(FILES)


def test_the_sensor_for_work_starts_the_sync(world: Clouds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYPLANE_EXAMPLE_SOURCE", "s3://src/work/")
    monkeypatch.setenv("SKYPLANE_EXAMPLE_DESTINATION", "gs://dst/work/")
    world.put("src", {"work/a": b"first", "work/b.tmp": b"x"})
    run = load("example_sensor_work").test()
    assert result(run, "new_files") == {"action": "copy", "key": "work/a", "size": 5, "reason": "new"}
    assert result(run, "move")["objects_copied"] == 1
    dag = load("example_sensor_work")
    dag.get_task("new_files").timeout = 0.3
    assert states(dag.test()) == {"new_files": "skipped", "move": "skipped"}


def test_the_sensor_for_a_transfer_of_others(world: Clouds) -> None:
    """Started by a program, which ends its gateways before the DAG looks."""
    world.put("src", {f"theirs/{name}": body for name, body in FILES.items()})
    aws = Credentials(access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    source = StoreConfig("s3", "src", endpoint_url=world.s3_url, region="us-east-1", path_style=True, credentials=aws)
    destination = StoreConfig("gcs", "dst", endpoint_url=world.gcs_url)
    client = SkyplaneClient(ClientConfig(control_secret=b"s" * 32))
    done = client.sync(Location(source, "theirs/"), Location(destination, "theirs/"))
    conf: dict[str, Any] = {
        "transfer": done.progress.transfer_id,
        "source": "s3://src/theirs/",
        "destination": "gs://dst/theirs/",
    }
    run = load("example_sensor_arrival").test(run_conf=conf)
    assert states(run) == {"arrived": "success", "complete": "success", "process": "success"}
    assert result(run, "process") == f"12 new objects, listed in {done.receipt}"
