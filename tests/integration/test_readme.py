"""What the README shows works as it is shown: each snippet is run against object servers."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skyplane_core.testing.objectserver import ObjectServer
from tests.docs.running import environment_for, run

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()
KEYS = ("events/2026/report.json", "events/2026/a b.json", "events/empty")


def snippets(tag: str) -> list[str]:
    """The README's code blocks whose info string ends in ``tag``."""
    return re.findall(rf"^```\w+ {tag}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def stores() -> Iterator[tuple[ObjectServer, ObjectServer]]:
    with (
        ObjectServer("s3", buckets=["source-bucket"], in_process=False) as s3,
        ObjectServer("gcs", buckets=["destination-bucket"], in_process=False) as gcs,
    ):
        for key in KEYS:
            s3.put("source-bucket", key, b"" if key.endswith("empty") else key.encode() * 100)
        yield s3, gcs


@pytest.fixture
def environment(stores: tuple[ObjectServer, ObjectServer]) -> dict[str, str]:
    s3, gcs = stores
    return environment_for(s3.endpoint_url, gcs.endpoint_url)


def arrived(stores: tuple[ObjectServer, ObjectServer], prefix: str) -> None:
    """Every source object is under ``prefix``, with the source's bytes."""
    s3, gcs = stores
    for key in KEYS:
        copy = f"{prefix}{key.removeprefix('events/')}"
        assert gcs.get("destination-bucket", copy) == s3.get("source-bucket", key)


def test_readme_has_the_snippets_that_are_run() -> None:
    assert [len(snippets(tag)) for tag in ("dag", "cli", "api")] == [1, 1, 2]


def test_commands_run_as_shown(stores, environment, tmp_path) -> None:
    skyplane = Path(sys.executable).parent
    for line in snippets("cli")[0].splitlines():
        run(["sh", "-c", line], environment | {"PATH": f"{skyplane}:{environment['PATH']}"}, tmp_path)
    arrived(stores, "events/")
    _s3, gcs = stores
    assert gcs.get("destination-bucket", "report.json") == stores[0].get("source-bucket", KEYS[0])


@pytest.mark.parametrize(("number", "prefix"), [(0, "mirror/"), (1, "copy/")])
def test_python_runs_as_shown(stores, environment, tmp_path, number, prefix) -> None:
    script = tmp_path / "snippet.py"
    script.write_text(snippets("api")[number])
    assert run([sys.executable, str(script)], environment, tmp_path)
    arrived(stores, prefix)


def test_dag_moves_the_objects(stores, environment, tmp_path, airflow_home) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    # The runner executes the file, and Airflow's serialized copy of the DAG has to come from the same folder.
    (dags / "landing.py").write_text(snippets("dag")[0])
    connections = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW_CONN_AWS_DEFAULT": '{"conn_type": "aws", "login": "DOCSKEY", "password": "docs-secret"}',
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": (
            '{"conn_type": "google_cloud_platform", "extra": {"is_anonymous": true, "project": "readme"}}'
        ),
    }
    runner = [sys.executable, str(ROOT / "scripts" / "demo_dag.py"), str(dags / "landing.py")]
    run(runner, environment | connections | {"AIRFLOW_HOME": str(airflow_home)}, tmp_path)
    arrived(stores, "landing/events/")
