"""What Airflow does to the loggers of the process that it is in, undone."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def loggers_are_heard() -> None:
    """Airflow's configuration of logging disables every logger that is there already, ours among them."""
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False
