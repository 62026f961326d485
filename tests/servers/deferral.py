"""A task that defers, without an Airflow around it."""

from __future__ import annotations

import json
from typing import Any


class TaskInstance:
    """What a deferring task needs of one."""

    dag_id = task_id = run_id = "copy"
    map_index, try_number, max_tries = -1, 1, 0

    def xcom_push(self, key: str, value: Any) -> None:
        json.dumps({key: value})


async def event_of(trigger: Any) -> dict[str, Any]:
    """What a trigger fires first."""
    async for event in trigger.run():
        payload: dict[str, Any] = event.payload
        return payload
    raise AssertionError("the trigger ended without an event")
