"""What an import costs: no SDK, no Airflow and no daemon library before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ["airflow", "boto3", "botocore", "google.cloud.storage", "google.auth", "azure", "aiohttp", "awscrt", "cramjam"]


@pytest.mark.parametrize(
    "module", ["skyplane_core", "skyplane_core.client", "skyplane_core.cli.main", "skyplane_core.uri"]
)
def test_importing_the_engine_loads_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
