"""Options of the campaign, and the file that tells how it went. Loaded by ``python -m tests.faults``."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "the fault campaign")
    group.addoption("--faults-full", dest="faults_full", action="store_true", help="the whole product of the tables")
    group.addoption("--faults-seed", dest="faults_seed", type=int, default=0, help="what is drawn by chance")
    group.addoption(
        "--faults-shard", dest="faults_shard", default="0/1", help="K/N: only each Nth case, from the Kth on"
    )
    group.addoption("--faults-result", dest="faults_result", type=Path, help="write the result to this file")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Recorder(config), "faults-recorder")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    first, _, step = config.getoption("faults_shard").partition("/")
    chosen = items[int(first) :: int(step)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


class Recorder:
    """Collects outcomes and writes them when the session ends."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._began = time.monotonic()
        self._date = datetime.datetime.now(datetime.timezone.utc)
        self._commit = git("rev-parse", "HEAD") + (" and changes" if git("status", "--porcelain", "-uno") else "")
        self._cases: dict[str, dict[str, object]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.failed:
            name = report.nodeid.removeprefix("tests/faults/")
            case = self._cases.setdefault(name, {"outcome": report.outcome, "seconds": 0.0})
            case["seconds"] = round(float(str(case["seconds"])) + report.duration, 2)
            if report.failed:
                case.update(outcome="failed", why=str(report.longrepr).splitlines()[-1][:500])

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        path = self._config.getoption("faults_result")
        if path is None:
            return
        outcomes = [str(case["outcome"]) for case in self._cases.values()]
        result = {
            "commit": self._commit,
            "date": self._date.isoformat(timespec="seconds"),
            "full": self._config.getoption("faults_full"),
            "seed": self._config.getoption("faults_seed"),
            "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "seconds": round(time.monotonic() - self._began),
            "cases": len(outcomes),
            "passed": outcomes.count("passed"),
            "failed": outcomes.count("failed"),
            "exit_status": int(exitstatus),
            "results": self._cases,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1, sort_keys=False) + "\n")
