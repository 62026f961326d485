"""Fixtures of all tests with Airflow in this process."""

from __future__ import annotations

from tests.servers.airflow_logging import loggers_are_heard
from tests.servers.airflow_threads import no_idle_thread

__all__ = ["loggers_are_heard", "no_idle_thread"]
