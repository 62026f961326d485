"""Where the word is left by which a transfer that cannot be reached is told to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_skyplane.engine import Engine, FanOut, Request
from airflow_provider_skyplane.recall import recall
from airflow_provider_skyplane.several import joined, separate
from skyplane_core.coordinator.journal import RecallRecord, decode, recall_key

IDS = ("a" * 32, "b" * 32)


def fan_out(root: Path) -> FanOut:
    return FanOut(
        tuple(Request(lambda: f"file://{root}/from/", lambda to=to: f"file://{root}/{to}/") for to in ("one", "two"))
    )


@pytest.mark.parametrize("hand_over", [True, False])
def test_it_is_beside_each_journal_and_nowhere_else(tmp_path: Path, hand_over: bool) -> None:
    engine = Engine(gateways=1, control_secret=b"s" * 40)
    request, both = fan_out(tmp_path), joined(IDS)
    assert not recall(engine, request, both, hand_over=hand_over)
    assert not list(tmp_path.rglob("*.jsonl"))
    states = [tmp_path / to / ".skyplane" / own for to, own in zip(("one", "two"), separate(both), strict=True)]
    states[1].mkdir(parents=True)
    (states[1] / "journal-0-000000.jsonl").write_bytes(b"")
    assert recall(engine, request, both, hand_over=hand_over)
    written = states[1] / recall_key("")
    (record,) = decode(written.read_bytes())
    assert isinstance(record, RecallRecord)
    assert record.hand_over is hand_over
    assert not states[0].exists()


def test_a_transfer_to_another_number_of_destinations_is_left_alone(tmp_path: Path) -> None:
    engine = Engine(gateways=1, control_secret=b"s" * 40)
    assert not recall(engine, fan_out(tmp_path), IDS[0], hand_over=True)
    assert not list(tmp_path.rglob("*.jsonl"))
