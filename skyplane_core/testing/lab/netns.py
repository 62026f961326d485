"""Network namespaces: made, entered and removed with what runs in them. Needs root and iproute2."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from skyplane_core.testing.lab.errors import LabError

CLONE_NEWNET = 0x40000000
DIRECTORY = Path("/run/netns")
"""Where ip-netns(8) keeps the names."""
END_SECONDS = 20.0


def check_machine(*programs: str) -> None:
    """Say what is missing, before anything is made.

    Raises:
        LabError: if this is not root, or there is no TUN device or one of the programs.
    """
    if os.geteuid() != 0:
        raise LabError("a lab makes network namespaces and TUN devices: run as root")
    if not Path("/dev/net/tun").exists():
        raise LabError("a lab needs /dev/net/tun. Load the module tun, or give the container this device")
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        packages = "iproute2 util-linux openssh-client openssh-server"
        raise LabError(f"a lab needs {', '.join(missing)}. On Debian: apt-get install {packages}")


def run(command: Sequence[str], text: str = "") -> str:
    """Run a program to its end, with ``text`` as its input, and return its output. LabError if it fails."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(command)} ended with code {done.returncode}: {done.stderr.strip() or done.stdout}")
    return done.stdout


def add(name: str, sysctls: Mapping[str, str]) -> None:
    """Make a namespace in which only lo is up, with these settings (``net.ipv4.tcp_rmem``, ...)."""
    run(["ip", "netns", "add", name])
    run(["ip", "-netns", name, "link", "set", "lo", "up"])
    with entered(name):
        for key, value in sysctls.items():
            set_sysctl(key, value)


def set_sysctl(key: str, value: str) -> None:
    """Set one for the namespace that the calling thread is in."""
    try:
        # /proc/sys/net shows the namespace of the thread that opens it.
        Path("/proc/sys", *key.split(".")).write_text(value)
    except OSError as error:
        raise LabError(f"cannot set {key} to {value!r}: {error.strerror}") from error


def remove(name: str) -> None:
    """Kill what runs in a namespace and remove it. Nothing happens if it is not there."""
    if not (DIRECTORY / name).exists():
        return
    deadline = time.monotonic() + END_SECONDS
    while (found := processes(name)) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    with contextlib.suppress(LabError):  # somebody else, such as the router at its end, was faster
        run(["ip", "netns", "del", name])
    if (DIRECTORY / name).exists():
        raise LabError(f"network namespace {name} cannot be removed; these processes are in it: {processes(name)}")


def processes(name: str) -> list[int]:
    """Those whose network namespace this is, but for the calling process. Zombies have none any more."""
    try:
        wanted = (DIRECTORY / name).stat().st_ino
    except FileNotFoundError:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if (entry / "ns/net").stat().st_ino == wanted:
                    found.append(int(entry.name))
    return found


@contextlib.contextmanager
def entered(name: str) -> Iterator[None]:
    """The calling thread is in a namespace inside the block. A socket made there stays there, with whoever has it."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(descriptor: int) -> None:
        if libc.setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")

    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        there = os.open(DIRECTORY / name, os.O_RDONLY)
        try:
            enter(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            enter(home)
    finally:
        os.close(home)
