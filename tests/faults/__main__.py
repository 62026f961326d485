"""``python -m tests.faults [--full] [--seed N] [PYTEST ARGUMENT...]``: runs the campaign and writes its result file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "docs" / "faults" / "last-run.json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the whole product of the tables, not every line once")
    parser.add_argument("--seed", type=int, default=0, help="what is drawn by chance: offsets, processes, bits")
    parser.add_argument("--result", type=Path, default=RESULT, help="where the result is written (%(default)s)")
    options, rest = parser.parse_known_args()
    arguments = ["-p", "tests.faults.plugin", f"--faults-seed={options.seed}", f"--faults-result={options.result}"]
    if options.full:
        arguments.append("--faults-full")
    return int(pytest.main([*arguments, "--rootdir", str(ROOT), str(ROOT / "tests" / "faults"), *rest]))


if __name__ == "__main__":
    sys.exit(main())
