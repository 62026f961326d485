"""Compares a source and a destination in the triggerer."""

from __future__ import annotations

import dataclasses
from typing import Any

from airflow_provider_skyplane.question import Question
from airflow_provider_skyplane.triggers.aside import aside
from airflow_provider_skyplane.triggers.looking import LookingTrigger


class SkyplaneSyncTrigger(LookingTrigger):
    """Looks in a thread of its own, one page of each listing at a time; connections are looked up there, each time.

    Args:
        question: a :class:`Question` as plain values.
        pace: see :class:`LookingTrigger`.
    """

    def __init__(self, *, question: dict[str, Any], pace: dict[str, Any]) -> None:
        super().__init__(pace=pace)
        self.question = Question(**question)

    def _arguments(self) -> dict[str, Any]:
        return {"question": dataclasses.asdict(self.question)}

    async def look(self) -> dict[str, Any] | None:
        """What ends the wait, None as long as nothing does."""
        found = await aside(lambda stopped: self.question.answer(gently=True, stopped=stopped))
        return None if found is None else {"found": found}
