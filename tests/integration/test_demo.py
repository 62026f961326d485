"""The demo that the README begins with does what it says, on less data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.timeout(300)
def test_all_of_the_demo_holds() -> None:
    demo = [sys.executable, str(ROOT / "scripts" / "demo.py"), "--small", "30", "--medium", "2", "--large", "1"]
    done = subprocess.run(demo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "demo: all of it held" in done.stdout
