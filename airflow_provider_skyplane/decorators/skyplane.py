"""``@task.skyplane``: a function that says what to transfer, as a task that transfers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_skyplane.compat import (
    AirflowException,
    DecoratedOperator,
    TaskDecorator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)
from airflow_provider_skyplane.ends import Later
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator

if TYPE_CHECKING:
    from airflow_provider_skyplane.compat import Context

SAID_XCOM_KEY = "skyplane_arguments"
"""Under this key a task that may defer leaves what its function said, for the worker that resumes it."""


class _SkyplaneDecoratedOperator(DecoratedOperator, SkyplaneOperator):
    """A SkyplaneOperator some of whose templated arguments are what a function returns when the task runs.

    Args:
        python_callable: returns a dict of templated arguments of :class:`SkyplaneOperator`.
        op_args, op_kwargs: what it is called with. (templated)
    """

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *SkyplaneOperator.template_fields)
    custom_operator_name = "@task.skyplane"
    # What the function said is what the UI shows as rendered.
    overwrite_rtif_after_execution = True

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Sequence[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        # Airflow infers it from the function's annotation; what the task returns is something else.
        kwargs.pop("multiple_outputs", None)
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            **{"source": Later("source"), "destination": Later("destination"), **kwargs},
        )

    def execute(self, context: Context) -> Any:
        """Ask the function, then transfer what it said."""
        context_merge(context, self.op_kwargs)
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        said = self.python_callable(*self.op_args, **kwargs)
        self._take(said)
        if self.deferrable:
            context["ti"].xcom_push(key=SAID_XCOM_KEY, value=dict(said))
        # Not DecoratedOperator's: Airflow 3.0's pushes an XCom by a method that operators do not have there.
        return SkyplaneOperator.execute(self, context)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:
        """Resume, with what the function said; it is not asked again."""
        ti = context["ti"]
        self._take(ti.xcom_pull(task_ids=self.task_id, key=SAID_XCOM_KEY, map_indexes=ti.map_index))
        return super().execute_complete(context, event)

    def _take(self, said: Any) -> None:
        if not isinstance(said, Mapping) or not said:
            raise AirflowException(
                f"The function of task {self.task_id!r} returned {said!r}. Expected a dict of arguments, such as "
                "{'source': 's3://bucket/key', 'destination': 'gs://bucket/key'}."
            )
        unknown = sorted(map(str, said.keys() - set(SkyplaneOperator.template_fields)))
        if unknown:
            raise AirflowException(
                f"The function of task {self.task_id!r} returned the argument {unknown[0]!r}, and it may say: "
                f"{', '.join(SkyplaneOperator.template_fields)}. Give any other to the decorator."
            )
        for name, value in said.items():
            setattr(self, name, value)
        for name in ("source", "destination"):
            if isinstance(getattr(self, name), Later):
                raise AirflowException(
                    f"The function of task {self.task_id!r} returned no {name}, and the decorator was given none."
                )


def skyplane_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Make a task of a function that says what to transfer.

    ::

        @task.skyplane(mode="sync", destination="gs://lake/events/")
        def events(ds=None):
            return {"source": f"s3://exports/{ds}/"}

    Args:
        python_callable: returns a dict of arguments of :class:`SkyplaneOperator`: any of its templated ones. They go
            before what the decorator was given.
        kwargs: the other arguments of SkyplaneOperator.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_SkyplaneDecoratedOperator, **kwargs
    )
