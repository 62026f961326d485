"""Airflow's idle helper thread, ended: outside of a triggerer it looks connections up in one of asgiref's."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator

import pytest
from asgiref.sync import SyncToAsync


@pytest.fixture(scope="session", autouse=True)
def no_idle_thread() -> Iterator[None]:
    """At the end of the session, so that the check for leftovers sees only ours."""
    yield
    SyncToAsync.single_thread_executor.shutdown()
    SyncToAsync.single_thread_executor = concurrent.futures.ThreadPoolExecutor(max_workers=1)
