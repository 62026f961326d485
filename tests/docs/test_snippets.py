"""What the documentation shows works as it is shown: each code block is run against object servers."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skyplane_core.testing.objectserver import ObjectServer
from tests.conformance import cases_s3
from tests.docs.pages import ELSEWHERE, ROOT, RUNS, Snippet, snippets
from tests.docs.running import SOURCE, environment_for, run, shell


@pytest.fixture(scope="module")
def stores() -> Iterator[dict[str, ObjectServer]]:
    with (
        ObjectServer("s3", buckets=["source-bucket", "other-bucket"], in_process=False) as s3,
        ObjectServer("gcs", buckets=["destination-bucket"], in_process=False) as gcs,
        ObjectServer("azure", buckets=["account/container"], in_process=False) as azure,
    ):
        for key, body in SOURCE.items():
            s3.put("source-bucket", key, body)
        yield {"s3": s3, "gcs": gcs, "azure": azure}


@pytest.fixture(scope="module")
def environment(stores: dict[str, ObjectServer]) -> dict[str, str]:
    return environment_for(stores["s3"].endpoint_url, stores["gcs"].endpoint_url)


def named(run: str) -> Any:
    return pytest.mark.parametrize("snippet", snippets(run), ids=lambda snippet: snippet.where)


def test_every_block_is_run_by_something() -> None:
    ways = {*RUNS, *ELSEWHERE}
    assert [snippet.where for snippet in snippets() if snippet.run not in ways] == []
    for path in ELSEWHERE.values():
        assert "tests.docs.pages" in (ROOT / path).read_text()


@named("bash")
def test_shell(snippet: Snippet, environment: dict[str, str], tmp_path: Path) -> None:
    shell(snippet.text, environment, tmp_path)


@named("python")
def test_program(snippet: Snippet, environment: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "snippet.py"
    program.write_text(snippet.text)
    run([sys.executable, str(program)], environment, tmp_path)


@named("case")
def test_case(snippet: Snippet) -> None:
    """A case of the conformance suite, with the names that there are where such cases stand."""
    exec(compile(f"case = {snippet.text}", snippet.where, "exec"), names := {**vars(cases_s3)})  # noqa: S102
    assert names["case"].name in {case.name for case in cases_s3.CASES}


@named("connections")
def test_connections(snippet: Snippet, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell reads the lines, and as Airflow reads the values."""
    from airflow_provider_skyplane.compat import BaseHook

    for line in snippet.text.splitlines():
        (assignment,) = shlex.split(line.removeprefix("export "))
        name, value = assignment.split("=", 1)
        monkeypatch.setenv(name, value)
        found = BaseHook.get_connection(name.removeprefix("AIRFLOW_CONN_").lower())
        assert found.conn_type == json.loads(value)["conn_type"]
        assert found.extra_dejson == json.loads(value).get("extra", {})


# --- DAGs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def connected(stores: dict[str, ObjectServer], monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"endpoint_url": stores["s3"].endpoint_url, "region_name": "us-east-1"}
    aws = {"conn_type": "aws", "login": "DOCSKEY", "password": "docs-secret", "extra": extra}
    google = {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True, "project": "docs"}}
    wasb = {"conn_type": "wasb", "host": f"{stores['azure'].endpoint_url}/account", "password": "a2V5"}
    monkeypatch.setenv("AIRFLOW_CONN_WASB_DEFAULT", json.dumps(wasb))
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(aws))
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(google))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", stores["gcs"].endpoint_url)


def run_dags(name: str, text: str) -> None:
    """Each DAG of a file, as a user runs one."""
    # Airflow runs only what lies in its DAGs folder.
    path = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]) / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from airflow.sdk import DAG

    dags = [value for value in vars(module).values() if isinstance(value, DAG)]
    assert dags
    for dag in dags:
        ended = dag.test()
        assert ended.state == "success", f"{name}: {ended.state}"


@pytest.mark.filterwarnings("ignore")
@named("dag")
def test_dag(snippet: Snippet, connected: None, airflow_home: Path) -> None:
    run_dags(f"dag_{re.sub('[^a-z0-9]', '_', snippet.where)}", snippet.text)


@pytest.mark.filterwarnings("ignore")
def test_tasks(connected: None, airflow_home: Path) -> None:
    """The tasks of all pages, as one DAG: a group for each page, since pages show the same names."""
    pages: dict[str, str] = {}
    for snippet in snippets("task"):
        pages[snippet.page] = pages.get(snippet.page, "") + snippet.text
    text = "from airflow.sdk import DAG, TaskGroup\n\nwith DAG('documented', schedule=None) as dag:\n"
    for page, tasks in pages.items():
        text += f"    with TaskGroup({re.sub('[^a-z0-9]', '_', page)!r}):\n{textwrap.indent(tasks, ' ' * 8)}\n"
    run_dags("documented", text)
