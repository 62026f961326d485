"""Fixtures of all tests with Airflow in this process."""

from __future__ import annotations

import pytest

from tests.servers.airflow_threads import no_idle_thread

__all__ = ["no_idle_thread"]

pytest.register_assert_rewrite("tests.servers.differential")
