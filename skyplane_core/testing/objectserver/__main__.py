"""``python -m skyplane_core.testing.objectserver --kind s3 --port 0``: one JSON line, then it serves.

It ends on SIGTERM, on SIGINT, and when its standard input is a pipe, socket or terminal that ends.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import stat
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from skyplane_core.testing.objectserver.core import PROTOCOLS, Config, Core
from skyplane_core.testing.objectserver.process import serve_calls
from skyplane_core.testing.objectserver.server import default_root


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, serve, clean up."""
    parser = argparse.ArgumentParser(prog="python -m skyplane_core.testing.objectserver", description=__doc__)
    parser.add_argument("--kind", choices=sorted(PROTOCOLS), default="s3")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--root", help="where object bytes go (default: /dev/shm if there is one)")
    parser.add_argument("--bucket", action="append", default=[], help="create this bucket; may be repeated")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds added to each request")
    parser.add_argument("--bandwidth", type=float, default=0.0, help="bytes per second and connection; 0: no limit")
    parser.add_argument("--credentials", type=Path, help="JSON file: access key to secret; without it all may pass")
    parser.add_argument(
        "--faults", type=Path, help='JSON file: {"seed": 0, "rules": [{"operation": ..., "action": ...}]}'
    )
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"), help="serve HTTPS; two PEM files")
    parser.add_argument("--md5", action="store_true", help="ETags are MD5 sums")
    parser.add_argument("--versioning", action="store_true", help="buckets keep old versions")
    parser.add_argument("--control", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    if options.control:
        serve_calls(sys.stdin, _say)
        return
    core = Core(
        Config(
            kind=options.kind,
            directory=tempfile.mkdtemp(prefix="objectserver-", dir=options.root or default_root()),
            buckets=options.bucket,
            host=options.host,
            port=options.port,
            latency=options.latency,
            bandwidth=options.bandwidth,
            credentials=json.loads(options.credentials.read_text()) if options.credentials else None,
            faults=json.loads(options.faults.read_text()) if options.faults else None,
            tls=tuple(options.tls) if options.tls else None,
            md5=options.md5,
            versioning=options.versioning,
        )
    )
    try:
        _say({"endpoint_url": core.url, "port": core.port, "pid": os.getpid()})
        _wait()
    finally:
        core.stop()


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _wait() -> None:
    # A background job of a shell has /dev/null as its input: that is at its end, but says nothing about the parent.
    mode = os.fstat(0).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(0):
        while os.read(0, 65536):
            pass
    else:
        signal.pause()


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
