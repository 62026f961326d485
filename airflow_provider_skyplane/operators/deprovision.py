"""Ends what tasks of a dag run have left running."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_skyplane.compat import AirflowException, BaseOperator
from airflow_provider_skyplane.hooks.skyplane import DEFAULT_CONN_ID, SkyplaneHook
from airflow_provider_skyplane.operators.base import RUN_XCOM_KEY, engine_errors
from airflow_provider_skyplane.reconnect import CANCEL_SECONDS, elsewhere, end
from skyplane_core.units import counted

if TYPE_CHECKING:
    from airflow_provider_skyplane.compat import Context

_PARTS = ("dataplane", "transfer_id", "host")
_USAGE = f"Give what a task has left under the XCom key {RUN_XCOM_KEY!r}, as XComArg(task, key={RUN_XCOM_KEY!r})."


class SkyplaneDeprovisionOperator(BaseOperator):
    """Cancels transfers that tasks of this dag run have started, and ends their gateways. May be repeated.

    Every other operator does this for itself; this one is for what is left where a worker died and no retry came. Put
    it downstream as a teardown (``transfer >> SkyplaneDeprovisionOperator(...).as_teardown()``), so that it runs
    whatever became of the transfer and the run's state stays the transfer's.

    Args:
        reference: what a task has left under the XCom key ``skyplane_run``; a task that has not started anything has
            left nothing, which is no error. (templated)
        task_ids: instead, the tasks of this run whose transfers are to be ended. Default: all that are upstream of this
            one, directly or not. (templated)
        skyplane_conn_id: the connection of those tasks, whose control secret is needed. (templated)

    Returns the ids of the transfers that do not run any more, sorted.

    Raises:
        ValueError: at construction, for arguments that cannot be right.
        AirflowException: what was given is no reference; there is nothing upstream; or something may still run.
    """

    template_fields: Sequence[str] = ("reference", "task_ids", "skyplane_conn_id")
    ui_color = "#e09411"

    def __init__(
        self,
        *,
        reference: Any = "",
        task_ids: str | Sequence[str] | None = None,
        skyplane_conn_id: str | None = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._named = not isinstance(reference, str) or bool(reference)
        if self._named and task_ids is not None:
            raise ValueError("reference names one transfer and task_ids those of tasks; give one of them")
        if task_ids is not None and not task_ids:
            raise ValueError("Invalid value for task_ids: it is empty. Leave it out for all tasks upstream of this one")
        self.reference = reference
        self.task_ids = task_ids
        self.skyplane_conn_id = skyplane_conn_id

    @cached_property
    def hook(self) -> SkyplaneHook:
        """The hook of this task's connection."""
        return SkyplaneHook(self.skyplane_conn_id)

    def execute(self, context: Context) -> list[str]:
        """End them all, and only then say which could not be."""
        left = [_parsed(value) for value in self._left(context)]
        if left and not self.hook.reachable_later:
            raise AirflowException(
                f"Connection {self.skyplane_conn_id!r} holds no control secret, without which no gateway takes orders. "
                "Use that of the tasks that started the transfers."
            )
        complaints = [complaint for run in left if (complaint := self._ended(run))]
        if complaints:
            raise AirflowException(
                f"{len(complaints)} of {counted(len(left), 'transfer')} may still run. {' '.join(complaints)}"
            )
        self.log.info("None of %s runs any more.", counted(len(left), "transfer"))
        return sorted(run["transfer_id"] for run in left)

    def _left(self, context: Context) -> list[Any]:
        if self._named:
            return [] if self.reference is None else [self.reference]
        tasks = [self.task_ids] if isinstance(self.task_ids, str) else self.task_ids
        tasks = sorted(self.get_flat_relative_ids(upstream=True) if tasks is None else tasks)
        if not tasks:
            raise AirflowException(
                "No task is upstream of this one, so nothing tells when its transfers are over. Put this task "
                "downstream of them, or name them in task_ids."
            )
        found = context["ti"].xcom_pull(task_ids=tasks, key=RUN_XCOM_KEY)
        return [value for value in found if value is not None]

    def _ended(self, left: Mapping[str, Any]) -> str:
        """End one; returns why it may still run, or nothing."""
        if left["ended"]:
            return ""
        with engine_errors():
            run = self.hook.engine.attach(left["dataplane"], left["transfer_id"])
        if elsewhere(run, left["host"]):
            return (
                f"Transfer {run.transfer_id} has its gateways on host {left['host']!r}: run this task there, or wait "
                "for them to end by their expiry."
            )
        if not end(run, CANCEL_SECONDS, self.log).certain:
            return f"The gateways of transfer {run.transfer_id} could not be ended; the log says why."
        return ""


def _parsed(value: Any) -> dict[str, Any]:
    """A reference as it is in an XCom, or as a template makes JSON of it."""
    from airflow_provider_skyplane.engine import is_reference

    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise AirflowException(f"Invalid value for reference: {value!r}. {_USAGE}") from error
    if not isinstance(found, Mapping) or not all(isinstance(found.get(part), str) for part in _PARTS):
        raise AirflowException(f"Invalid value for reference: {value!r}. {_USAGE}")
    if not is_reference(found["dataplane"]):
        raise AirflowException(f"Invalid value for reference: it names no dataplane. {_USAGE}")
    return {**{part: found[part] for part in _PARTS}, "ended": bool(found.get("ended"))}
