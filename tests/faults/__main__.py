"""``python -m tests.faults [--full] [--jobs N] [--seed N] [PYTEST ARGUMENT...]``: the campaign, and its result file."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "docs" / "faults" / "last-run.json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the whole product of the tables, not every line once")
    parser.add_argument(
        "--jobs", type=int, default=4, help="cases at once; most of their time is waiting (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="what is drawn by chance: offsets, processes, bits")
    parser.add_argument("--result", type=Path, default=RESULT, help="where the result is written (%(default)s)")
    options, rest = parser.parse_known_args()
    common = ["-p", "tests.faults.plugin", f"--faults-seed={options.seed}", "--rootdir", str(ROOT)]
    if options.full:
        common.append("--faults-full")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        shards = [Path(scratch) / f"{number}.json" for number in range(options.jobs)]
        running = []
        for number, shard in enumerate(shards):
            mine = [f"--faults-shard={number}/{options.jobs}", f"--faults-result={shard}"]
            command = [sys.executable, "-m", "pytest", *common, *mine, str(ROOT / "tests" / "faults"), *rest]
            running.append(subprocess.Popen(command))
        codes = [process.wait() for process in running]
        parts = [json.loads(shard.read_text()) for shard in shards if shard.exists()]
    if parts:
        whole = merged(parts, codes, round(time.monotonic() - began))
        options.result.parent.mkdir(parents=True, exist_ok=True)
        options.result.write_text(json.dumps(whole, indent=1) + "\n")
    return max(codes, key=abs)


def merged(parts: list[dict[str, Any]], codes: list[int], seconds: int) -> dict[str, Any]:
    """One result of those of all jobs. The exit status is the worst one, so that a job that died is seen."""
    sums = {name: sum(part[name] for part in parts) for name in ("cases", "passed", "failed")}
    results = {name: case for part in parts for name, case in part["results"].items()}
    ended = {"seconds": seconds, "exit_status": max(codes, key=abs), "results": dict(sorted(results.items()))}
    return {**parts[0], "jobs": len(codes), **sums, **ended}


if __name__ == "__main__":
    sys.exit(main())
