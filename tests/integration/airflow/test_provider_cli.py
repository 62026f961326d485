"""What Airflow's own command line says of the provider, and does with a connection of its type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_skyplane.get_provider_info import get_provider_info

pytestmark = pytest.mark.timeout(420)

SECRET = "canary-control-secret-0123456789abcdef"
COMMANDS = (
    ("providers", "get", "airflow-provider-skyplane", "--full", "-o", "json"),
    ("providers", "hooks", "-o", "json"),
    ("connections", "test", "skyplane_tried"),
)
# One process for all of them, since its start is what takes its time.
SCRIPT = """
import sys
from airflow.__main__ import main
for command in {commands!r}:
    sys.argv = ["airflow", *command]
    main()
    print("{mark}", flush=True)
"""
MARK = "--- next ---"


def airflow(home: Path) -> list[str]:
    """What each of the commands prints."""
    connection = {"conn_type": "skyplane", "password": SECRET, "extra": {"gateways": 2, "budget_usd": 5}}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(commands=COMMANDS, mark=MARK)],
        env={
            **os.environ,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW_CONN_SKYPLANE_TRIED": json.dumps(connection),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert SECRET not in ran.stdout + ran.stderr
    return ran.stdout.split(MARK)[: len(COMMANDS)]


def test_the_provider_is_known_and_its_connection_can_be_tried(airflow_home: Path) -> None:
    known, hooks, tried = airflow(airflow_home)
    (told,) = json.loads(known)
    info = get_provider_info()
    assert told["package-name"] == info["package-name"]
    for kind in ("hooks", "operators", "triggers", "transfers", "connection-types", "config"):
        # It shows numbers as texts.
        assert told[kind] == json.loads(json.dumps(info[kind]), parse_int=str)
    (ours,) = (hook for hook in json.loads(hooks) if hook["connection_type"] == "skyplane")
    assert ours["class"] == "airflow_provider_skyplane.hooks.skyplane.SkyplaneHook"
    assert ours["hook_name"] == "Skyplane"
    assert "Connection success!" in tried
