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
    logging.disable(logging.NOTSET)


def a_logger_heard_by(caplog: pytest.LogCaptureFixture) -> logging.Logger:
    """A logger of nobody else's, whatever Airflow has made of those that have names."""
    logger = logging.Logger("heard")  # noqa: LOG001
    logger.addHandler(caplog.handler)
    return logger
