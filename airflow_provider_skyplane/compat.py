"""The few Airflow names that we use, in one place, so that one code base runs on Airflow 2.11 and on 3.x.

Imports no cloud provider and no SDK: every DAG file that uses our operators pays for what is imported here.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from airflow.exceptions import AirflowProviderDeprecationWarning
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseHook,
    BaseOperator,
    BaseOperatorLink,
    BaseSensorOperator,
    DecoratedOperator,
    PokeReturnValue,
    TaskDecorator,
    XComArg,
    conf,
    context_merge,
    determine_kwargs,
    mask_secret,
    task_decorator_factory,
)

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 2
    from airflow.exceptions import AirflowRescheduleException

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context  # noqa: TC004  # a name for annotations only

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowProviderDeprecationWarning",
    "AirflowRescheduleException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "BaseHook",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "Context",
    "DecoratedOperator",
    "PokeReturnValue",
    "TaskDecorator",
    "XComArg",
    "conf",
    "context_merge",
    "determine_kwargs",
    "mask_secret",
    "task_decorator_factory",
    "web_server_is_flask",
]


def web_server_is_flask() -> bool:
    """Whether this is Airflow 2, whose pages are served by Flask; later ones have FastAPI."""
    return importlib.util.find_spec("airflow.www") is not None
