"""A client that can be killed: provisions, says where its gateways are, starts a transfer when told to, and watches it.

Run as ``python -m tests.faults.client_process``; it reads and writes lines.
"""

from __future__ import annotations

import base64
import sys

import msgspec

from skyplane_core.client import ClientConfig, SkyplaneClient
from skyplane_core.model import StoreConfig
from skyplane_core.prepare import Prepared, check
from skyplane_core.spec import TransferSpec


class Job(msgspec.Struct):
    """What the parent wants."""

    spec: TransferSpec
    source: StoreConfig
    destination: StoreConfig
    layout: str
    pool_bytes: int
    control_secret: bytes


def say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.flush()


def main() -> None:
    job = msgspec.json.decode(base64.b64decode(sys.stdin.readline()), type=Job)
    prepared = Prepared(job.spec, job.source, (job.destination,))
    check(prepared)
    config = ClientConfig(layout=job.layout, pool_bytes=job.pool_bytes, control_secret=job.control_secret)
    plane = SkyplaneClient(config).dataplane()
    plane.provision()
    say(msgspec.json.encode(plane.reference))
    sys.stdin.readline()
    tracker = plane.submit(prepared)
    say(b"submitted")
    tracker.wait()


if __name__ == "__main__":
    main()
