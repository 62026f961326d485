"""Fixtures of all tests with Airflow in this process, and the whole Airflow that several modules share."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.servers.airflow_canaries import canary_connections
from tests.servers.airflow_clouds import CONTROL_SECRET, Clouds, clouds
from tests.servers.airflow_logging import loggers_are_heard
from tests.servers.airflow_stack import AirflowStack, airflow_stack
from tests.servers.airflow_threads import no_idle_thread
from tests.servers.observers import Observers, observers
from tests.servers.tokens import TokenServer, token_server

__all__ = ["loggers_are_heard", "no_idle_thread"]

pytest.register_assert_rewrite("tests.servers.differential")

TOKEN_SECONDS = 605
"""A little more than what makes a task renew its credentials."""


@pytest.fixture(scope="session")
def stack_clouds() -> Iterator[Clouds]:
    """The stores of :func:`airflow`: buckets ``src`` and ``dst``."""
    with clouds(["src"], ["dst"]) as found:
        yield found


@pytest.fixture(scope="session")
def stack_observers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observers]:
    """Who listens to :func:`airflow`."""
    with observers(tmp_path_factory.mktemp("observers")) as found:
        yield found


@pytest.fixture(scope="session")
def tokens() -> Iterator[TokenServer]:
    """Where the connection ``expiring`` of :func:`airflow` gets its tokens."""
    with token_server(TOKEN_SECONDS) as server:
        yield server


@pytest.fixture(scope="session")
def airflow(
    stack_clouds: Clouds,
    tokens: TokenServer,
    stack_observers: Observers,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[AirflowStack]:
    """One for the session, since it takes half a minute to start; a module adds its DAGs to it."""
    root = tmp_path_factory.mktemp("stack")
    (root / "dags").mkdir()
    environment = {
        **stack_clouds.environment(),
        **stack_observers.environment(),
        "AIRFLOW_CONN_SKYPLANE_DEFAULT": json.dumps({"conn_type": "skyplane", "password": CONTROL_SECRET}),
        "AIRFLOW_CONN_EXPIRING": tokens.connection(),
        **canary_connections(stack_clouds.s3_url),
    }
    with airflow_stack(root / "home", root / "dags", environment) as stack:
        yield stack
