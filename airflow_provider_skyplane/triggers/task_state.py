"""Whether a trigger is cancelled because somebody has ended its task: for Airflow before 3.3, which does not say so."""

from __future__ import annotations

from typing import Any

from airflow.triggers.base import BaseTrigger
from asgiref.sync import sync_to_async

TELLS = hasattr(BaseTrigger, "on_kill")
"""Whether Airflow itself calls the trigger for what a user does, and only for that."""
_DEFERRED = "deferred"


async def still_deferred(task_instance: Any) -> bool:
    """Whether the task waits for its trigger, as it does when a triggerer shuts down or hands the trigger to another.

    Raises:
        Exception: Airflow cannot be asked, as while a triggerer ends.
    """
    state = await sync_to_async(_state)(task_instance)
    return str(getattr(state, "value", state)) == _DEFERRED


def _state(task_instance: Any) -> Any:
    try:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    except ImportError:
        return _state_in_database(task_instance)
    states = RuntimeTaskInstance.get_task_states(
        dag_id=task_instance.dag_id,
        task_ids=[task_instance.task_id],
        run_ids=[task_instance.run_id],
        map_index=task_instance.map_index,
    )
    # A mapped task's name has its index added.
    return next(iter(states.get(task_instance.run_id, {}).values()), None)


def _state_in_database(task_instance: Any) -> Any:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        return (
            session.query(TaskInstance.state)
            .filter_by(
                dag_id=task_instance.dag_id,
                task_id=task_instance.task_id,
                run_id=task_instance.run_id,
                map_index=task_instance.map_index,
            )
            .scalar()
        )
