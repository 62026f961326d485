"""Runs the benchmarks and writes their figures to docs/benchmarks/.

Usage: ``.venv/bin/python benchmarks/run.py [--quick] [NAME ...]``

stock: the drop-in operator against the stock one. two-gateways: speed, CPU and memory of the data path. paths: large
objects over every path, beside rclone, s5cmd and aws-cli, and against the stages' own cost (``scripts/setup --peers``).
foreign: large objects between servers that nobody here wrote, beside the same tools (``scripts/setup --servers
--peers``).
wan: two gateways over an emulated gigabit of 100 ms with loss (needs root).
small: 100,000 objects of 1 KiB, beside rclone and a bare loop.
listing: a sync of 10 million keys a side in which nothing has changed, beside rclone and a bare loop.
"""

from __future__ import annotations

import argparse
import importlib
import sys

import common

NAMES = ("stock", "two-gateways", "paths", "foreign", "small", "listing", "wan")


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(NAMES)} (default: all)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="the stock operator moves fewer objects and is extrapolated, labelled so; two-gateways moves 1 GiB, "
        "small moves 10,000 objects, listing compares 200,000 keys",
    )
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}")
    for name in arguments.names or NAMES:
        benchmark = importlib.import_module(name.replace("-", "_"))
        result = benchmark.main(quick=arguments.quick)
        common.save(f"{name}-quick" if arguments.quick else name, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
