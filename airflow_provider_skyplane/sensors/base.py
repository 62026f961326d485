"""A sensor that looks on the worker, or after a first look there in the triggerer, with the same outcome."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_skyplane.compat import (
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    conf,
)
from airflow_provider_skyplane.pace import Pace

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_skyplane.compat import Context

_TRIGGER_DIED = "__fail__"
# Without Airflow's guard against operators within operators: it takes the look of a resumed sensor for one.
_airflows_look = inspect.unwrap(BaseSensorOperator.execute)


class SkyplaneBaseSensor(BaseSensorOperator):
    """All arguments of Airflow's sensors mean what they mean there, whether it defers or not.

    A subclass says how to look: ``poke`` on the worker, and ``_trigger`` in the triggerer.

    Args:
        deferrable: look once on the worker, then in the triggerer every ``poke_interval`` seconds. ``mode`` is for
            sensors that do not defer.
    """

    _told: Mapping[str, Any] | None = None
    """What the triggerer has seen, for the look that follows."""

    def __init__(
        self,
        *,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.deferrable = deferrable

    def _trigger(self, pace: Pace) -> BaseTrigger:
        """What looks in the triggerer.

        Its event's ``status`` is ``met``, then ``poke`` is asked with the event in ``_told``; ``look``, then it is
        asked without; or ``timeout``. ``started`` is the pace's.
        """
        raise NotImplementedError

    def execute(self, context: Context) -> Any:
        """Wait until it is true, or defer."""
        if not self.deferrable:
            return super().execute(context)
        return self._look(context, time.time())

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Resume after the trigger's event."""
        if event["status"] == "timeout":
            self._time_out()
        if event["status"] == "met":
            self._told = event
        else:
            self.log.info("The triggerer could not tell, so this worker looks: %s", event["message"])
        return self._look(context, event["started"])

    def _look(self, context: Context, started: float) -> Any:
        """One look by Airflow's own rules about what a poke returns and raises, then the triggerer's turn."""
        self.mode = "reschedule"
        try:
            return _airflows_look(self, context)
        except AirflowRescheduleException:
            if time.time() >= started + self.timeout:
                self._time_out()
            self._defer(started)

    def _time_out(self) -> NoReturn:
        message = f"Sensor has timed out; it has waited for longer than the specified timeout of {self.timeout}."
        if self.soft_fail:
            raise AirflowSkipException(message)
        raise AirflowSensorTimeout(message)

    def _defer(self, started: float) -> NoReturn:
        from airflow_provider_skyplane.triggers.skyplane import RESUME_NOT_BEFORE_SECONDS

        pace = Pace(
            interval=self.poke_interval,
            started=started,
            deadline=started + self.timeout,
            doubling=self.exponential_backoff,
            max_wait=self.max_wait.total_seconds() if self.max_wait else None,
            not_before=time.time() + RESUME_NOT_BEFORE_SECONDS,
        )
        self.defer(trigger=self._trigger(pace), method_name="execute_complete")

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """As Airflow's, but what comes of a look after deferring is what would have come of it before."""
        if next_method == _TRIGGER_DIED:
            return super().resume_execution(next_method, next_kwargs, context)
        return getattr(self, next_method)(context, **(next_kwargs or {}))
