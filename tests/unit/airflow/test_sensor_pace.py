"""How often a deferred sensor looks, and how its trigger tells what comes of it."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_skyplane.pace import Pace
from airflow_provider_skyplane.triggers.looking import LookingTrigger

SECONDS = st.floats(0.01, 1e6)


@given(
    interval=SECONDS, waited=st.floats(0, 1e6), timeout=SECONDS, max_wait=st.none() | SECONDS, doubling=st.booleans()
)
def test_a_pause_is_within_its_limits(
    interval: float, waited: float, timeout: float, max_wait: float | None, doubling: bool
) -> None:
    pace = Pace(interval, started=1000.0, deadline=1000.0 + timeout, doubling=doubling, max_wait=max_wait)
    now = 1000.0 + waited
    pause = pace.pause(now)
    assert pace.over(now) == (now >= 1000.0 + timeout)
    assert 0 <= pause <= max(0.0, 1000.0 + timeout - now)
    if max_wait is not None:
        assert pause <= max_wait
    if not doubling:
        assert pause <= interval
    elif now + max(interval, now - 1000.0) <= 1000.0 + timeout and max_wait is None:
        assert pause >= interval


@given(interval=SECONDS)
def test_doubling_doubles(interval: float) -> None:
    pace, now, pauses = Pace(interval, started=0.0, doubling=True), 0.0, []
    for _ in range(6):
        pauses.append(pace.pause(now))
        now += pauses[-1]
    assert pauses == pytest.approx([interval * factor for factor in (1, 1, 2, 4, 8, 16)])


class Answers(LookingTrigger):
    """Looks up what it is to find in a list."""

    def __init__(self, *, answers: list[Any], pace: dict[str, Any]) -> None:
        super().__init__(pace=pace)
        self.answers = answers

    def _arguments(self) -> dict[str, Any]:
        return {"answers": self.answers}

    async def look(self) -> dict[str, Any] | None:
        answer = self.answers.pop(0) if self.answers else None
        if answer == "trouble":
            raise RuntimeError("no such library")
        return answer


def events(answers: list[Any], **pace: Any) -> list[dict[str, Any]]:
    trigger = Answers(answers=answers, pace=dataclasses.asdict(Pace(**{"interval": 0.001, **pace})))

    async def collect() -> list[dict[str, Any]]:
        return [event.payload async for event in trigger.run()]

    found = asyncio.run(collect())
    assert {event.pop("started") for event in found} == {pace.get("started", 0.0)}
    return found


def test_what_is_found_is_one_event() -> None:
    assert events([None, None, {"found": 1}, {"found": 2}]) == [{"status": "met", "found": 1}]


def test_trouble_sends_for_a_worker() -> None:
    assert events([None, "trouble"]) == [{"status": "look", "message": "RuntimeError: no such library"}]


def test_the_last_look_is_at_the_deadline() -> None:
    now = time.time()
    assert events([], started=now, deadline=now + 0.05) == [{"status": "timeout"}]
    assert events([{"found": 1}], started=now - 9, deadline=now - 8, interval=60.0) == [{"status": "met", "found": 1}]


def test_no_event_before_the_supervisor_has_seen_the_task_defer() -> None:
    not_before = time.time() + 0.1
    assert events([{}], not_before=not_before)[0]["status"] == "met"
    assert time.time() >= not_before


def test_it_is_rebuilt_from_what_it_serialises_to() -> None:
    path, kwargs = Answers(answers=[], pace=dataclasses.asdict(Pace(5.0, deadline=7.0))).serialize()
    json.dumps(kwargs)
    module, _, name = path.rpartition(".")
    again = getattr(importlib.import_module(module), name)(**kwargs)
    assert again.serialize() == (path, kwargs)
