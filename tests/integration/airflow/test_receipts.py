"""What tasks leave behind: a small XCom whatever was moved, and the receipt where it was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator, SkyplaneSyncOperator
from airflow_provider_skyplane.transfers.s3_to_gcs import SkyplaneS3ToGCSOperator
from tests.servers.airflow_clouds import Clouds, clouds

MANY = 5000


@pytest.fixture(scope="module")
def world(airflow_home: Path) -> Iterator[Clouds]:
    with clouds(["src", "log"], ["dst"]) as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment().items():
            patch.setenv(name, value)
        for number in range(MANY):
            found.source.put("src", f"data/{number:05d}", b"x" * 10)
        yield found


def pushed(value: Any) -> int:
    return len(json.dumps(value))


def receipt(world: Clouds, uri: str) -> list[dict[str, Any]]:
    assert uri.startswith("s3://log/")
    body = world.source.get("log", uri.removeprefix("s3://log/"))
    return [json.loads(line) for line in body.splitlines()]


@pytest.mark.filterwarnings("ignore")
def test_the_xcom_of_five_thousand_objects_is_small_and_a_second_sync_copies_nothing(world: Clouds) -> None:
    for copied in (MANY, 0):
        operator = SkyplaneSyncOperator(
            task_id="t", source="s3://src/data/", destination="gs://dst/in/", receipt_url="s3://log/runs/"
        )
        summary = operator.execute({})
        assert pushed(summary) < 1000
        assert (summary["objects_copied"], summary["objects_skipped"]) == (copied, MANY - copied)
        assert summary["receipt"] == f"s3://log/runs/{summary['transfer_id']}.jsonl"
        totals, *lines = receipt(world, summary["receipt"])
        assert totals["totals"]["state"] == "done"
        assert [line["outcome"] for line in lines] == ["copied" if copied else "skipped"] * MANY


@pytest.mark.filterwarnings("ignore")
def test_the_drop_in_returns_its_list_unless_asked_for_a_summary(world: Clouds) -> None:
    arguments: dict[str, Any] = {"bucket": "src", "prefix": "data/", "receipt_url": "s3://log/drop-in/"}
    keys = SkyplaneS3ToGCSOperator(task_id="t", dest_gcs="gs://dst/a/", **arguments).execute({})
    assert keys == [f"data/{number:05d}" for number in range(MANY)]
    short = SkyplaneS3ToGCSOperator(task_id="t", dest_gcs="gs://dst/b/", return_summary=True, **arguments).execute({})
    assert isinstance(short, dict)
    assert pushed(short) < 1000
    assert short["objects_copied"] == MANY
    assert len(receipt(world, short["receipt"])) == MANY + 1
    # Nothing but the objects is where they are.
    assert [name for name in world.destination.list("dst", "b/") if ".skyplane" in name] == []


@pytest.mark.filterwarnings("ignore")
def test_a_dry_run_tells_what_would_be_done_and_cost_and_does_nothing(world: Clouds) -> None:
    operator = SkyplaneOperator(
        task_id="t", source="s3://src/data/", destination="gs://dst/dry/", mode="sync", dry_run_only=True
    )
    told = operator.execute({})
    assert (told["copy"], told["skip"], told["refuse"], told["bytes"]) == (MANY, 0, 0, MANY * 10)
    # Both servers are on this machine.
    assert (told["usd"], told["usd_month"], told["unknown"]) == (0, 0, [])
    assert pushed(told) < 1000
    assert world.destination.list("dst", "dry/") == []
