"""What Airflow's own command line says of the provider, and does with a connection of its type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from airflow_provider_skyplane.get_provider_info import get_provider_info

SECRET = "canary-control-secret-0123456789abcdef"


def airflow(home: Path, *command: str) -> str:
    connection = {"conn_type": "skyplane", "password": SECRET, "extra": {"gateways": 2, "budget_usd": 5}}
    ran = subprocess.run(
        [sys.executable, "-m", "airflow", *command],
        env={
            **os.environ,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW_CONN_SKYPLANE_TRIED": json.dumps(connection),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert SECRET not in ran.stdout + ran.stderr
    return ran.stdout


def test_the_provider_is_known_and_its_connection_can_be_tried(airflow_home: Path) -> None:
    (told,) = json.loads(airflow(airflow_home, "providers", "get", "airflow-provider-skyplane", "--full", "-o", "json"))
    info = get_provider_info()
    assert told["package-name"] == info["package-name"]
    for kind in ("hooks", "operators", "triggers", "transfers", "connection-types", "config"):
        # It shows numbers as texts.
        assert told[kind] == json.loads(json.dumps(info[kind]), parse_int=str)
    hooks = json.loads(airflow(airflow_home, "providers", "hooks", "-o", "json"))
    (ours,) = (hook for hook in hooks if hook["connection_type"] == "skyplane")
    assert ours["class"] == "airflow_provider_skyplane.hooks.skyplane.SkyplaneHook"
    assert ours["hook_name"] == "Skyplane"
    assert "Connection success!" in airflow(airflow_home, "connections", "test", "skyplane_tried")
