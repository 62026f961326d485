"""A function that says what to transfer, as a task."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowException, task

from airflow_provider_skyplane.decorators.skyplane import SAID_XCOM_KEY, skyplane_task
from airflow_provider_skyplane.operators.base import SkyplaneBaseOperator
from skyplane_core.errors import UsageError


@pytest.fixture(autouse=True)
def _dag() -> Iterator[None]:
    with DAG("d", start_date=datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc), schedule=None):
        yield


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    for name in ("a", "b"):
        (tmp_path / "src" / name).write_bytes(name.encode())
    return tmp_path


def operator(function: Callable[..., Any], *called_with: Any, **arguments: Any) -> Any:
    return skyplane_task(function, task_id="t", **arguments)(*called_with).operator


class TaskInstance:
    try_number, map_index = 1, -1

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int) -> Any:
        return self.xcoms[key]


def test_airflow_knows_the_decorator_by_its_name() -> None:
    @task.skyplane(mode="sync")
    def copy() -> dict[str, str]:
        return {}

    assert copy().operator.operator_name == "@task.skyplane"


def test_what_the_function_says_is_transferred(place: Path) -> None:
    def copy(day: str, ds: str) -> dict[str, Any]:
        return {"source": f"file://{place}/src/", "destination": f"file://{place}/{ds}/{day}/", "exclude": ["b"]}

    made = operator(copy, "monday", mode="sync")
    told = made.execute({"ds": "2025-01-01", "ti": TaskInstance()})
    assert told["objects_copied"] == 1
    assert (place / "2025-01-01" / "monday" / "a").read_bytes() == b"a"


def test_what_it_says_goes_before_what_the_decorator_was_given(place: Path) -> None:
    given = {"destination": f"file://{place}/one/", "source": f"file://{place}/src/", "recursive": True}
    told = operator(lambda: {"destination": [f"file://{place}/two/"]}, **given).execute({})
    assert [one["destination"] for one in told["destinations"]] == [f"file://{place}/two/"]
    assert not (place / "one").exists()


def test_a_task_that_resumes_does_not_ask_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def copy() -> dict[str, Any]:
        asked.append(1)
        return {"source": f"file://{place}/src/", "destination": f"file://{place}/out/"}

    made, ti = operator(copy, mode="sync", deferrable=True), TaskInstance()
    made.execute({"ti": ti})
    assert ti.xcoms[SAID_XCOM_KEY] == {"source": f"file://{place}/src/", "destination": f"file://{place}/out/"}
    resumed = operator(copy, mode="sync", deferrable=True)
    monkeypatch.setattr(SkyplaneBaseOperator, "execute_complete", lambda self, _context, event: (self.source, event))
    assert resumed.execute_complete({"ti": ti}, {"status": "success"}) == (
        f"file://{place}/src/",
        {"status": "success"},
    )
    assert asked == [1]


BAD: list[tuple[Any, str]] = [
    (None, "returned None. Expected a dict of arguments"),
    ({}, "returned {}. Expected a dict of arguments"),
    ("s3://a/b", "returned 's3://a/b'. Expected a dict of arguments"),
    ({"source": "s3://a/"}, "returned no destination, and the decorator was given none"),
    ({"destination": "s3://a/"}, "returned no source, and the decorator was given none"),
    ({"source": "s3://a/", "mode": "copy"}, "returned the argument 'mode', and it may say: source, destination"),
    ({"source": "", "destination": "s3://a/"}, "source is ''"),
    ({"source": "s3://a/", "destination": []}, "Invalid value for destination: []"),
    ({"source": "s3://a/", "destination": "s3://a/b/"}, "the destination lies inside the source"),
    ({"source": "s3://a/", "destination": "s4://a/b/"}, "destination cannot be used: unknown scheme s4://"),
]


@pytest.mark.parametrize(("said", "told"), BAD, ids=str)
def test_what_cannot_be_right_fails_the_task_by_name(said: Any, told: str) -> None:
    with pytest.raises((AirflowException, ValueError)) as refused:
        operator(lambda: said, mode="sync").execute({})
    assert told in str(refused.value)


def said_nothing() -> dict[str, Any]:
    return {}


def test_what_the_decorator_is_given_is_looked_at_when_the_dag_is_parsed() -> None:
    with pytest.raises(UsageError, match="destination cannot be used"):
        operator(said_nothing, destination="s4://a/b/")
    with pytest.raises(ValueError, match="Invalid value for mode"):
        operator(said_nothing, mode="move")
