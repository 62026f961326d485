"""What every test gets: a clean environment, a place on a RAM disk, free ports, and a check of what is left running.

The environment is cleaned when this file is imported, which is before any test module imports an SDK or Airflow.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest

from tests import gateway_logs

ROOT = Path(__file__).resolve().parent.parent
RUN_MARK = "SKYPLANE_TEST_RUN"
# Set by scripts/supervise.py, which adopts daemons that have left this process's family.
ADOPTER = int(os.environ.get("SKYPLANE_TEST_ADOPTER", "0"))
ENOUGH_SHM_BYTES = 4 * 1024**3
LEAK_GRACE_SECONDS = 8.0
FOREIGN_SETTINGS = (
    "AIRFLOW",
    "AWS_",
    "AZURE_",
    "BOTO",
    "CLOUDSDK_",
    "GCE_",
    "GOOGLE_",
    "SKYPLANE_",
    "STORAGE_EMULATOR",
)


def _ram_disk() -> str | None:
    """Where large files belong: /dev/shm if it is there and roomy (a container has 64 MB), else the default."""
    shm = Path("/dev/shm")
    if os.access(shm, os.W_OK) and shutil.disk_usage(shm).free >= ENOUGH_SHM_BYTES:
        return str(shm)
    return None


def _clean_environment(home: Path) -> None:
    """Nobody's cloud account, proxy or Airflow takes part in a test run."""
    for name in list(os.environ):
        if name.upper().startswith(FOREIGN_SETTINGS) or name.upper().endswith("_PROXY"):
            del os.environ[name]
    (home / "dags").mkdir(parents=True)
    os.environ.update(
        {
            RUN_MARK: uuid.uuid4().hex,
            "HOME": str(home),
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "TZ": "UTC",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_GCE_CHECK": "true",
            "CLOUDSDK_CONFIG": str(home / "gcloud"),
            "AIRFLOW_HOME": str(home / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        }
    )


_SESSION_DIRECTORY = Path(tempfile.mkdtemp(prefix="skyplane-test-", dir=_ram_disk()))
atexit.register(shutil.rmtree, _SESSION_DIRECTORY, ignore_errors=True)
_clean_environment(_SESSION_DIRECTORY / "home")

# Reproducible by default; HYPOTHESIS_PROFILE=explore looks for news.
hypothesis.settings.register_profile("check", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "check"))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation", "schedules of tests/simulation")
    group.addoption("--seed", type=int, help="run the schedule of this seed alone, and show it")
    group.addoption("--schedules", type=int, help="run so many schedules instead of 10,000")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(gateway_logs)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's background jobs ignore it, and so would all programs here that tests interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.option.basetemp is None:
        config.option.basetemp = str(_SESSION_DIRECTORY / "tmp")


# Before xdist's own, which reads the groups.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first: whoever broke something hears of it in the first seconds."""
    order = ("unit", "simulation", "conformance", "fuzz", "security", "lab", "integration", "docs", "faults")
    rank = {ROOT / "tests" / name: number for number, name in enumerate(order)}

    def key(item: pytest.Item) -> int:
        return next((rank[parent] for parent in item.path.parents if parent in rank), len(order))

    items.sort(key=key)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    """What runs in one process when several share the tests: a file, for its servers; of the conformance suite a case.

    What needs a whole Airflow shares one. Labs and hosts are one after another: they look for what an earlier one has
    left, and have the same addresses.
    """
    if "airflow" in getattr(item, "fixturenames", ()):
        return "airflow"
    folder = str(item.path.parent.relative_to(ROOT / "tests"))
    case = item.callspec.params.get("case") if hasattr(item, "callspec") else None
    if folder == "conformance" and case is not None:
        return f"conformance {case.name}"
    return folder if folder in ("lab", "integration/ssh") else item.path.relative_to(ROOT).as_posix()


# --- nothing is left behind -----------------------------------------------------------------------------------------


def _mark_of(process: psutil.Process) -> str:
    try:
        return process.environ().get(RUN_MARK, "")
    except psutil.Error:
        return ""


def _is_ours(process: psutil.Process) -> bool:
    """Alive, and not the interpreter's own helper of multiprocessing, which ends with this process."""
    with contextlib.suppress(psutil.Error):
        command = " ".join(process.cmdline())
        return process.status() != psutil.STATUS_ZOMBIE and "multiprocessing.resource_tracker" not in command
    return False


def _descendants() -> dict[int, psutil.Process]:
    """Of this process, and of the one that adopts its orphans."""
    root = psutil.Process(ADOPTER) if os.getppid() == ADOPTER else psutil.Process()
    return {process.pid: process for process in root.children(recursive=True) if process.pid != os.getpid()}


def _processes_left(before: set[int]) -> list[psutil.Process]:
    """Descendants, and whatever carries this run's mark though it has left the family."""
    family = _descendants()
    ancestors = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        if process.pid not in ancestors and _mark_of(process) == os.environ[RUN_MARK]:
            family[process.pid] = process
    return [process for pid, process in family.items() if pid not in before and _is_ours(process)]


def _our_frame(thread: threading.Thread) -> str:
    """Where in this project's code a thread is, or an empty string."""
    frame = sys._current_frames().get(thread.ident or -1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and not path.relative_to(ROOT).parts[0].startswith(".venv"):
            return f"{path.relative_to(ROOT)}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return ""


def _threads_left() -> list[str]:
    """Threads that run our code, or that would keep the interpreter from ending."""
    found = []
    for thread in threading.enumerate():
        if thread is threading.main_thread() or not thread.is_alive():
            continue
        where = _our_frame(thread)
        if where or not thread.daemon:
            found.append(f"thread {thread.name} at {where or 'code of others'}")
    return found


def _left_behind(before: set[int]) -> list[str]:
    found = _threads_left()
    for process in _processes_left(before):
        with contextlib.suppress(psutil.Error):
            found.append(f"process {process.pid}: {' '.join(process.cmdline())[:200]}")
    return found


@pytest.fixture(scope="session", autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Fails the run if a gateway, a server, any other process, or a thread of ours outlives the tests."""
    before = set(_descendants())
    yield
    deadline = time.monotonic() + LEAK_GRACE_SECONDS
    while (left := _left_behind(before)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in _processes_left(before):
        with contextlib.suppress(psutil.Error):
            process.kill()
    assert not left, "left running after the tests:\n  " + "\n  ".join(left)


# --- shared fixtures ------------------------------------------------------------------------------------------------


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A function that returns a TCP port of the loopback interface that nobody listens on."""
    given: set[int] = set()

    def find() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            if port not in given:
                given.add(port)
                return port

    return find


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """The AIRFLOW_HOME of this session, with a migrated sqlite database: for tests that run a DAG."""
    home = Path(os.environ["AIRFLOW_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    migrated = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"], capture_output=True, text=True, timeout=170, check=False
    )
    assert migrated.returncode == 0, migrated.stderr[-2000:]
    return home
