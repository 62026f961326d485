"""A trigger that looks every now and then, until it is true or too late."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_skyplane.pace import Pace


class LookingTrigger(BaseTrigger):
    """Looks at the given pace, then fires exactly one event.

    Its ``status`` is ``met``, with what :meth:`look` has found; ``timeout``; or ``look``, with a ``message``: it cannot
    tell, and a worker is to look, which has its own credentials, libraries and way to the stores.

    Args:
        pace: a :class:`Pace` as plain values.
    """

    def __init__(self, *, pace: dict[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pace = Pace(**pace)

    def _arguments(self) -> dict[str, Any]:
        """The arguments of the subclass, as plain JSON."""
        raise NotImplementedError

    async def look(self) -> dict[str, Any] | None:
        """What there is to tell, None as long as there is nothing."""
        raise NotImplementedError

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments; all of them plain JSON, without a secret."""
        kind = type(self)
        return f"{kind.__module__}.{kind.__qualname__}", {**self._arguments(), "pace": dataclasses.asdict(self.pace)}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until there is something to tell; yields exactly one event."""
        event = await self._until_event()
        await asyncio.sleep(max(0.0, self.pace.not_before - time.time()))
        yield TriggerEvent({**event, "started": self.pace.started})  # type: ignore[no-untyped-call]

    async def _until_event(self) -> dict[str, Any]:
        while True:
            # The worker has just looked, and a triggerer that was restarted may have.
            await asyncio.sleep(self.pace.pause(time.time()))
            last = self.pace.over(time.time())
            try:
                found = await self.look()
            except Exception as error:  # noqa: BLE001  # told to the worker, which sees for itself
                return {"status": "look", "message": f"{type(error).__name__}: {error}"}
            if found is not None:
                return {"status": "met", **found}
            if last:
                return {"status": "timeout"}
