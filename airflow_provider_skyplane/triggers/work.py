"""Something to move as an event of an asset, for DAGs that are scheduled by assets. Airflow 3."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_skyplane.question import WORK, Question
from airflow_provider_skyplane.triggers.aside import aside

try:
    from airflow.triggers.base import BaseEventTrigger
except ImportError:  # Airflow 2, which has no watchers of assets
    from airflow.triggers.base import BaseTrigger as BaseEventTrigger  # type: ignore[assignment]


class SkyplaneWorkTrigger(BaseEventTrigger):
    """Fires when a sync would have something to do, for an ``AssetWatcher``.

    Once it has fired it does so again when source and destination have agreed in between, or after ``again_after``: a
    sync that is at work, or that keeps failing, is not started at every look.

    Args:
        poll_interval: seconds between two looks.
        again_after: seconds after which what is still to be moved is told again.
        arguments: those of :class:`SkyplaneSyncSensor` that say what is compared: ``source``, ``destination`` and more.
        question: instead of them, a :class:`Question` as JSON: not every Airflow gives a watcher's trigger back the
            dictionaries that it was given.

    The event is what the sensor returns, with ``source`` and ``destination``.

    Raises:
        UsageError, ValueError: at construction, for arguments that cannot be right.
    """

    def __init__(
        self,
        *,
        poll_interval: float = 300.0,
        again_after: float = 3600.0,
        question: str | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if not 0 < poll_interval < math.inf:
            raise ValueError(f"Invalid value for poll_interval: {poll_interval!r}. Expected a number greater than 0")
        if not 0 <= again_after < math.inf:
            raise ValueError(f"Invalid value for again_after: {again_after!r}. Expected a number from 0 on")
        self.question = (
            Question.of(**arguments, wait_for=WORK) if question is None else Question(**json.loads(question))
        )
        self.question.check()
        self.poll_interval = poll_interval
        self.again_after = again_after

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments; all of them plain JSON, without a secret."""
        return (
            "airflow_provider_skyplane.triggers.work.SkyplaneWorkTrigger",
            {
                "question": json.dumps(dataclasses.asdict(self.question)),
                "poll_interval": self.poll_interval,
                "again_after": self.again_after,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, and fire, for ever."""
        told_at = -self.again_after
        while True:
            try:
                found = await aside(lambda stopped: self.question.answer(gently=True, stopped=stopped))
            except Exception as error:  # noqa: BLE001  # nobody waits for an answer; the next look may see one
                self.log.warning("%s cannot be compared: %s", self.question.source, error)
            else:
                if found is None:
                    told_at = -self.again_after
                elif time.monotonic() - told_at >= self.again_after:
                    told_at = time.monotonic()
                    ends = {"source": self.question.source, "destination": self.question.destination}
                    yield TriggerEvent({**found, **ends})  # type: ignore[no-untyped-call]
            await asyncio.sleep(self.poll_interval)
