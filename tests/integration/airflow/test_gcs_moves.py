"""Moves whose first try ended halfway, and moves whose copies are retained: nothing is lost, nothing stays behind."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_skyplane.transfers.gcs_to_gcs import SkyplaneGCSToGCSOperator
from skyplane_core.testing.objectserver import Fault, Faults
from tests.integration.airflow.differential import world_of
from tests.servers.airflow_clouds import CONTROL_SECRET, Clouds

LATER = datetime.datetime(2040, 1, 1, tzinfo=datetime.timezone.utc)
OBJECTS = {"data/a": b"a", "data/b": b"bb", "data/c": b"ccc"}


@pytest.fixture
def world(airflow_home: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clouds]:
    skyplane = json.dumps({"conn_type": "skyplane", "password": CONTROL_SECRET})
    with world_of([], ["src", "dst"]) as found:
        monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", skyplane)
        put(found, "src", OBJECTS)
        yield found


class TaskInstance:
    dag_id, run_id, task_id, map_index, max_tries = "d", "r", "move", -1, 1

    def __init__(self, try_number: int) -> None:
        self.try_number = try_number

    def xcom_push(self, key: str, value: Any) -> None:
        pass


def put(world: Clouds, bucket: str, objects: dict[str, bytes], **metadata: str) -> None:
    for key, body in objects.items():
        blob = world.gcs().bucket(bucket).blob(key)
        blob.metadata = {"owner": "me", **metadata}
        blob.upload_from_string(body, content_type="text/x-source")


def names(world: Clouds, bucket: str) -> list[str]:
    return [name for name in world.destination.list(bucket) if not name.startswith(".skyplane/")]


def retained(world: Clouds) -> list[datetime.datetime | None]:
    bucket = world.gcs().bucket("dst")
    return [bucket.get_blob(key).retention.retain_until_time for key in OBJECTS]


def attempt(number: int, **arguments: Any) -> Any:
    ends = {"source_bucket": "src", "source_object": "data/", "destination_bucket": "dst", "move_object": True}
    operator = SkyplaneGCSToGCSOperator(task_id="move", **{**ends, **arguments})
    return operator.execute({"ti": TaskInstance(number)})


@contextlib.contextmanager
def failing(world: Clouds, operation: str, key: str, says: str | None = None) -> Iterator[None]:
    world.destination.set_faults(Faults(Fault(operation, "status", key=key, status=403)))
    with pytest.raises(AirflowException, match=says):
        yield
    world.destination.set_faults(None)


def test_a_later_try_finishes_what_the_first_has_copied_and_not_deleted(world: Clouds) -> None:
    put(world, "dst", {"data/other": b"mine"})
    put(world, "src", {"data/other": b"else"})
    with failing(world, "DeleteObject", "data/[ab]"):
        attempt(1, replace=False)
    assert names(world, "src") == ["data/a", "data/b", "data/other"]
    assert names(world, "dst") == [*OBJECTS, "data/other"]
    assert attempt(2, replace=False) == []
    assert names(world, "src") == ["data/other"]
    assert world.destination.get("dst", "data/other") == b"mine"


def test_a_first_try_leaves_alone_what_was_there_before_it_as_the_stock_operator_does(world: Clouds) -> None:
    put(world, "dst", {"data/a": b"a"})
    assert attempt(1, replace=False) == ["gs://dst/data/b", "gs://dst/data/c"]
    assert names(world, "src") == ["data/a"]


@pytest.mark.parametrize("how", [{}, {"durable": False, "replace": False}], ids=["gone on with", "begun anew"])
def test_copies_are_retained_before_their_sources_go(world: Clouds, how: dict[str, Any]) -> None:
    with failing(world, "PatchObject", "data/[bc]", r"^2 of 3 retentions failed; the first: .*\[gs://dst/data/[bc]\]"):
        attempt(1, retain_until_time=LATER, **how)
    assert names(world, "src") == names(world, "dst") == list(OBJECTS)
    assert retained(world) == [LATER, None, None]
    moved = attempt(2, retain_until_time=LATER, **how)
    assert moved == ([] if how else [f"gs://dst/{key}" for key in OBJECTS])
    assert names(world, "src") == []
    assert retained(world) == [LATER] * 3


def test_a_source_that_was_written_after_it_was_copied_stays(world: Clouds) -> None:
    how: dict[str, Any] = {"retain_until_time": LATER, "replace": False}
    with failing(world, "DeleteObject", "data/*", r"^3 of 3 deletions failed; the first: .*\[gs://src/data/[abc]\]"):
        attempt(1, **how)
    put(world, "src", {"data/b": b"newer"})
    with pytest.raises(AirflowException, match=r"has changed since, and stays \[gs://src/data/b\]"):
        attempt(2, **how)
    assert names(world, "src") == ["data/b"]
    put(world, "src", {"data/c": OBJECTS["data/c"]}, owner="somebody")
    attempt(2, durable=False, **how)
    assert names(world, "src") == ["data/b", "data/c"]


def test_a_mock_of_a_task_instance_is_no_later_try(world: Clouds) -> None:
    put(world, "dst", {"data/a": b"a"})
    operator = SkyplaneGCSToGCSOperator(
        task_id="move",
        source_bucket="src",
        source_object="data/",
        destination_bucket="dst",
        move_object=True,
        replace=False,
        durable=False,
    )
    assert operator.execute({"ti": MagicMock()}) == ["gs://dst/data/b", "gs://dst/data/c"]
    assert names(world, "src") == ["data/a"]
