"""Which congestion control the programs of a lab get.

A namespace's default may only be one of ``net.ipv4.tcp_allowed_congestion_control``, a list that is the whole
machine's and writable only outside of any namespace. What is changed there is put back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from skyplane_core.testing.lab import netns
from skyplane_core.testing.lab.errors import LabError

ALLOWED = "net.ipv4.tcp_allowed_congestion_control"
AVAILABLE = "net.ipv4.tcp_available_congestion_control"
DEFAULT = "net.ipv4.tcp_congestion_control"
LOCK = Path("/run/lock/skyplane-lab-congestion")
WAIT_SECONDS = 120.0


def _read(key: str) -> list[str]:
    return Path("/proc/sys", *key.split(".")).read_text().split()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One lab at a time changes the list."""
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LabError(f"another lab on this machine has held {ALLOWED} for {WAIT_SECONDS:.0f} s") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def allowed(names: Sequence[str]) -> Iterator[None]:
    """Inside the block, programs without CAP_NET_ADMIN on this machine may choose only among these.

    Raises:
        LabError: if the kernel does not have one of them, or another lab has a list of its own.
    """
    _check(names)
    with _alone():
        before = " ".join(_read(ALLOWED))
        netns.set_sysctl(ALLOWED, " ".join(names))
        try:
            yield
        finally:
            netns.set_sysctl(ALLOWED, before)


def set_default(namespaces: Sequence[str], name: str) -> None:
    """Make it the default of these namespaces. If it has to be allowed for that, it is so for this moment only."""
    _check([name])
    try:
        _set(namespaces, name)
    except LabError:
        with _alone():
            before = _read(ALLOWED)
            netns.set_sysctl(ALLOWED, " ".join([*before, name]))
            try:
                _set(namespaces, name)
            finally:
                netns.set_sysctl(ALLOWED, " ".join(before))


def _set(namespaces: Sequence[str], name: str) -> None:
    for namespace in namespaces:
        with netns.entered(namespace):
            netns.set_sysctl(DEFAULT, name)


def _check(names: Sequence[str]) -> None:
    missing = sorted(set(names) - set(_read(AVAILABLE)))
    if missing:
        raise LabError(
            f"this kernel has no congestion control {', '.join(missing)}; it has {' '.join(_read(AVAILABLE))}"
        )
