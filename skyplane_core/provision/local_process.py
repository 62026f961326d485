"""A gateway as a process of this machine: start it, recognise it, kill it and nobody else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

COMMAND = (sys.executable, "-I", "-m", "gateway")

# Nothing else is inherited: the environment of a worker is full of credentials, and any process of this user can read
# a gateway's. Whatever a gateway needs to know about a transfer is told to it over its API.
INHERITED = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip

# Fresh memory costs 0.4 s/GB, more than encryption: have glibc keep what libraries free instead of giving it back.
GLIBC_TUNABLES = (
    "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296:glibc.malloc.arena_max=1"
)

# Children of this process that have to be reaped by it. Kept here because whoever stops a dataplane need not be the
# object that started it, and an unreferenced Popen of a living process is warned about.
_children: dict[int, subprocess.Popen[bytes]] = {}


def environment() -> dict[str, str]:
    """The environment of a gateway."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {**inherited, "GLIBC_TUNABLES": GLIBC_TUNABLES}


def spawn(log: Path, command: Sequence[str] = COMMAND) -> subprocess.Popen[bytes]:
    """Start a detached gateway: own session, standard error appended to ``log``, the other streams piped.

    Raises:
        OSError: the log cannot be written, or the interpreter not be started.
    """
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=fd,
            close_fds=True,
            start_new_session=True,
            env=environment(),
            # The working directory must not be pinned, nor be a place to import from.
            cwd="/",
        )
    finally:
        os.close(fd)
    _children[process.pid] = process
    return process


def destroy(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that :func:`spawn` returned, and wait until it is gone."""
    process.kill()
    process.wait()
    _children.pop(process.pid, None)


def start_time(pid: int) -> int:
    """When the process started, in clock ticks since boot; 0 if it has ended or this system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # The name in parentheses may hold spaces and parentheses itself.
    state, *fields = stat[stat.rindex(b")") + 2 :].split()
    return 0 if state in {b"Z", b"X"} else int(fields[18])


def is_running(pid: int, started: int) -> bool:
    """Whether this very process still runs, and not another one that was given its pid."""
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]
    return started > 0 and start_time(pid) == started


def kill(pid: int, started: int) -> None:
    """Kill this very process (its children die with it); does nothing if it has ended.

    Raises:
        PermissionError: it belongs to somebody else.
    """
    try:
        # Through a pidfd: a pid that is checked and then signalled could change hands in between.
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if is_running(pid, started):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        os.close(fd)
