"""Gateways that end as with the machine that they run on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

import psutil

from skyplane_core.provision.base import GatewayAddress

PATIENCE = 30.0


def lose_power(*gateways: GatewayAddress) -> None:
    """Kill all processes of gateways of this machine. When this returns there is nothing left to connect to."""
    killed = [process for gateway in gateways for process in _family(gateway.pid)]
    for process in killed:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + PATIENCE
    while not _over(killed):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _family(pid: int) -> list[psutil.Process]:
    head = psutil.Process(pid)
    return [*head.children(recursive=True), head]


def _over(killed: Iterable[psutil.Process]) -> bool:
    # Whoever started a process may not have asked for its end yet.
    with contextlib.suppress(psutil.NoSuchProcess):
        return all(not process.is_running() or process.status() == psutil.STATUS_ZOMBIE for process in killed)
    return False
