"""A gateway whose wall clock is off by what a file says, in seconds: ``python -I jumping_gateway.py FILE``.

A kernel has one wall clock for all (time namespaces have their own monotonic clocks only), so this seam is in Python:
``time.time`` and ``time.time_ns`` jump, in all processes of the gateway. Libraries in C keep the real time.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

_real, _real_ns = time.time, time.time_ns
_offset = Path(sys.argv[1])


def _off() -> float:
    return float(_offset.read_text())


time.time = lambda: _real() + _off()
time.time_ns = lambda: _real_ns() + int(_off() * 1e9)

if __name__ == "__main__":
    from gateway import daemon

    sys.exit(daemon.main())
