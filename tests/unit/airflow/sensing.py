"""A sensor run to its end as Airflow would, in each of its modes, without an Airflow."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import importlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_skyplane.compat import AirflowRescheduleException, BaseSensorOperator
from airflow_provider_skyplane.sensors.base import SkyplaneBaseSensor

sensors = importlib.import_module(BaseSensorOperator.__module__)

MODES = ("poke", "reschedule", "deferred")


class Instance:
    """What a sensor asks of its task instance."""

    dag_id = task_id = run_id = "sensor"
    map_index, max_tries = -1, 0

    def __init__(self) -> None:
        self.first: datetime.datetime | None = None

    def get_first_reschedule_date(self, _context: Any) -> datetime.datetime | None:
        return self.first


def fire(path: str, kwargs: dict[str, Any]) -> Any:
    """The event of a trigger that was rebuilt from its row."""
    module, _, name = path.rpartition(".")
    trigger = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(kwargs)))

    async def first() -> Any:
        async with contextlib.aclosing(trigger.run()) as events:
            return (await anext(events)).payload

    return asyncio.run(first())


def run(sensor: SkyplaneBaseSensor, between: Callable[[], None] = lambda: None) -> Any:
    """The value that the sensor returns; what it raises in the end passes.

    Args:
        between: called after each look that ended nothing.
    """
    instance = Instance()
    with _first_look(instance):
        return _run(sensor, instance, between)


def resume(sensor: SkyplaneBaseSensor, event: dict[str, Any]) -> Any:
    """What the sensor returns to an event, in a process that has not seen its first look."""
    instance = Instance()
    with _first_look(instance):
        return sensor.resume_execution("execute_complete", {"event": event}, {"ti": instance})


@contextlib.contextmanager
def _first_look(instance: Instance) -> Iterator[None]:
    """Airflow 2 asks its database when a sensor looked first, later ones the task instance."""
    with pytest.MonkeyPatch.context() as patch:
        if hasattr(sensors, "_orig_start_date"):
            patch.setattr(sensors, "_orig_start_date", lambda **_: instance.first)
        yield


def _run(sensor: SkyplaneBaseSensor, instance: Instance, between: Callable[[], None]) -> Any:
    context: Any = {"ti": instance}
    begin: Callable[[], Any] = functools.partial(sensor.execute, context)
    while True:
        try:
            return begin()
        except AirflowRescheduleException:
            instance.first = instance.first or datetime.datetime.now(datetime.timezone.utc)
            between()
        except TaskDeferred as deferred:
            between()
            event = fire(*deferred.trigger.serialize())
            kwargs = {"event": event}
            begin = functools.partial(sensor.resume_execution, deferred.method_name, kwargs, context)


def settings(mode: str) -> dict[str, Any]:
    """The arguments that put a sensor into one of :data:`MODES`."""
    return {"deferrable": True} if mode == "deferred" else {"deferrable": False, "mode": mode}
