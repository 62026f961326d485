"""What gateways logged during a test that failed becomes part of its report: nothing of them is left afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skyplane_core.provision.local import default_log_dir

_BEGAN = pytest.StashKey[float]()
LAST_LINES = 60


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[_BEGAN] = time.time()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed:
        report.sections += [(f"log of {path.parent.name}/{path.name}", text) for path, text in _written(item)]
    return report


def _written(item: pytest.Item) -> Iterator[tuple[Path, str]]:
    """Ends of the logs that were written to since the test began."""
    for path in sorted(default_log_dir().glob("dp-*/*.log")):
        if path.stat().st_mtime >= item.stash[_BEGAN]:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            yield path, "\n".join(line[:1000] for line in lines[-LAST_LINES:])
