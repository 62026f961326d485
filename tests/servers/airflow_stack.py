"""A whole Airflow on loopback: api-server, scheduler, triggerer and dag-processor, each a process, on sqlite.

Free ports and an AIRFLOW_HOME of its own; every process is ended by the pid that it was started with.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

AIRFLOW_3 = not importlib.metadata.version("apache-airflow").startswith("2.")
HEALTHY_SECONDS = 150.0
STOP_SECONDS = 40.0
COMPONENTS = {
    "api-server": ["api-server", "--host", "127.0.0.1", "--workers", "1"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
}
_PARTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")


class AirflowStack:
    """A running stack. Made by :func:`airflow_stack`."""

    def __init__(self, home: Path, dags: Path, environment: Mapping[str, str]) -> None:
        self.home = home
        self._dags = dags
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {
            **os.environ,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
            **environment,
        }
        self._token = ""

    # --- processes ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Migrate the database, start everything, and return when all of it is healthy."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "migrate.log").open("wb") as log:
            subprocess.run(
                [sys.executable, "-m", "airflow", "db", "migrate"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=True,
                timeout=120,
            )
        for name in COMPONENTS:
            self.start_component(name)
        self._until_healthy()
        self._log_in()

    def start_component(self, name: str) -> None:
        """Start one of the four; its output goes to ``<name>.log`` in the home."""
        arguments = [*COMPONENTS[name], *(["--port", str(self.port)] if name == "api-server" else [])]
        with (self.home / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "airflow", *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop_component(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End one of the four, and whatever is left in the session that it was started in."""
        process = self._processes.pop(name)
        process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        # The session is this component's own, so its process group holds nothing but what it left behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """End all of them."""
        for name in list(self._processes):
            self.stop_component(name)

    def log(self, name: str) -> str:
        """What a component has written so far."""
        return (self.home / f"{name}.log").read_text(errors="replace")

    # --- the REST API ------------------------------------------------------------------------------------------------

    def request(self, method: str, path: str, **how: Any) -> Any:
        """One call of ``/api/v2``; returns the decoded answer, or raises for an error status."""
        answer = httpx.request(
            method,
            f"{self.url}/api/v2/{path}",
            headers=self.headers,
            trust_env=False,
            timeout=30,
            **how,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    @property
    def headers(self) -> dict[str, str]:
        """By which a request is a user's who has logged in."""
        return {"Authorization": f"Bearer {self._token}"}

    def run_dag(self, dag_id: str, conf: Mapping[str, Any] | None = None, seconds: float = 60) -> str:
        """Unpause a DAG, as soon as it has been parsed, and start a run; returns the run's id."""
        self._until(lambda: self._knows(dag_id), seconds, f"the DAG {dag_id} was not parsed")
        self.request("PATCH", f"dags/{dag_id}", json={"is_paused": False})
        run = self.request("POST", f"dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": dict(conf or {})})
        return str(run["dag_run_id"])

    def add_dag(self, name: str, text: str) -> None:
        """Put a DAG's file into the DAGs folder, where it is found within some seconds."""
        (self._dags / f"{name}.py").write_text(text)

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clear a task instance, whatever its state, as a user does."""
        what = {"dry_run": False, "dag_run_id": run_id, "task_ids": [task_id], "only_failed": False}
        self.request("POST", f"dags/{dag_id}/clearTaskInstances", json=what)

    def mark_failed(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Mark a task instance as failed, as a user does."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        self.request("PATCH", path, json={"new_state": "failed"})

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """A task instance as the API shows it."""
        found: dict[str, Any] = self.request("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")
        return found

    def until(self, ready: Callable[[], Any], complaint: str, seconds: float = 60) -> Any:
        """Ask ``ready`` until its answer is true; returns that.

        Raises:
            TimeoutError: it was not in time.
        """
        return self._until(ready, seconds, complaint)

    def wait_for_task(self, dag_id: str, run_id: str, task_id: str, states: set[str], seconds: float = 120) -> str:
        """Wait until a task instance is in one of ``states``; returns which."""

        def reached() -> str:
            state = str(self.task(dag_id, run_id, task_id)["state"])
            return state if state in states else ""

        return str(self._until(reached, seconds, f"{dag_id}.{task_id} reached none of {sorted(states)}"))

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """The value of an XCom, decoded."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.request("GET", path, params={"deserialize": "false"})["value"]

    def task_log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """The text of all log files of a task, of all its tries."""
        files = sorted((self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}").rglob("*.log*"))
        return "\n".join(file.read_text(errors="replace") for file in files if f"task_id={task_id}" in str(file))

    def _knows(self, dag_id: str) -> bool:
        try:
            self.request("GET", f"dags/{dag_id}")
        except httpx.HTTPStatusError as error:
            if error.response.status_code != 404:
                raise
            return False
        return True

    def _log_in(self) -> None:
        passwords = json.loads((self.home / "simple_auth_manager_passwords.json.generated").read_text())
        answer = httpx.post(
            f"{self.url}/auth/token",
            json={"username": "admin", "password": passwords["admin"]},
            trust_env=False,
            timeout=30,
        )
        answer.raise_for_status()
        self._token = answer.json()["access_token"]

    def _until_healthy(self) -> None:
        def healthy() -> bool:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended with {process.returncode}: {self.log(name)[-2000:]}")
            try:
                health = httpx.get(f"{self.url}/api/v2/monitor/health", trust_env=False, timeout=5).json()
            except (httpx.HTTPError, ValueError):
                return False
            return all((health.get(part) or {}).get("status") == "healthy" for part in _PARTS)

        self._until(healthy, HEALTHY_SECONDS, "Airflow did not become healthy")

    @staticmethod
    def _until(ready: Any, seconds: float, complaint: str) -> Any:
        deadline = time.monotonic() + seconds
        while not (answer := ready()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{complaint} within {seconds:.0f} s")
            time.sleep(0.5)
        return answer


@contextlib.contextmanager
def airflow_stack(home: Path, dags: Path, environment: Mapping[str, str]) -> Iterator[AirflowStack]:
    """Run Airflow with ``dags`` as its DAGs folder and ``environment`` (connections, settings) on top of this one's.

    On Airflow 2, whose processes and API are others, it skips the test; there ``dag.test()`` defers in this process.
    """
    if not AIRFLOW_3:
        pytest.skip("this stack is Airflow 3's")
    stack = AirflowStack(home, dags, environment)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
