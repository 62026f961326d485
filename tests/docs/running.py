"""Runs programs and shell scripts from the documentation as a user would, against object servers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOURCE = {"events/2026/report.json": b"{}" * 50, "events/2026/a b.json": b"[]" * 50, "events/empty": b""}
"""What there is in ``s3://source-bucket``."""
PRESERVED = ("PATH", "HOME", "NO_PROXY", "no_proxy", "TZ", "AIRFLOW__CORE__LOAD_EXAMPLES", "SKYPLANE_TEST_RUN")
PIP = """#!{python}
import importlib.metadata, re, sys
for asked in sys.argv[2:]:
    name, extras = re.fullmatch(r"([a-z-]+)(?:\\[(.*)\\])?", asked).groups()
    there = importlib.metadata.metadata(name).get_all("Provides-Extra")
    missing = [extra for extra in (extras or "").split(",") if extra and extra not in there]
    assert sys.argv[1] == "install" and not missing, (asked, missing)
"""
"""Installs nothing: what it is asked for is the package that is installed here, with extras that exist."""


def environment_for(s3_url: str, gcs_url: str) -> dict[str, str]:
    """How the tools of each cloud are led to the servers."""
    kept = {name: os.environ[name] for name in PRESERVED if name in os.environ}
    return kept | {
        "AWS_ACCESS_KEY_ID": "DOCSKEY",
        "AWS_SECRET_ACCESS_KEY": "docs-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": s3_url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "STORAGE_EMULATOR_HOST": gcs_url,
        "NO_GCE_CHECK": "true",
    }


def run(command: list[str], environment: dict[str, str], directory: Path) -> str:
    done = subprocess.run(
        command,
        env=environment,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def shell(text: str, environment: dict[str, str], directory: Path) -> None:
    """Run a script in ``directory``, with ``skyplane`` on PATH and a ``pip`` that only checks what it is asked for."""
    programs = directory / ".bin"
    programs.mkdir()
    (programs / "pip").write_text(PIP.format(python=sys.executable))
    (programs / "pip").chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:{environment['PATH']}"
    run(["bash", "-euc", text], environment | {"PATH": path, "HOME": str(directory)}, directory)
