"""Runs a command and leaves none of its processes behind: ``python scripts/supervise.py COMMAND [ARGUMENT...]``.

This process adopts whatever the command orphans (a daemon in a session of its own, say), so it knows every process that
the command started without guessing by name. Once the command has ended, what still lives gets a few seconds to follow;
then it is named, ended, and the exit code says so. Otherwise the exit code is the command's own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from types import FrameType

import psutil

GRACE_SECONDS = 8.0
LEFT_BEHIND = 70
PR_SET_CHILD_SUBREAPER = 36
ADOPTER = "SKYPLANE_TEST_ADOPTER"
"""Tells the command under which process it finds what it orphaned."""


def reap() -> None:
    """Collect every adopted child that has ended."""
    while True:
        try:
            pid, _status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def living() -> list[psutil.Process]:
    """Descendants of this process that have not ended."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def describe(process: psutil.Process) -> str:
    """The process id and command line, as far as they can still be read."""
    try:
        return f"{process.pid}: {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return f"{process.pid}: (ended meanwhile)"


def wait_for(command: subprocess.Popen[bytes]) -> int:
    """Wait for the command, reaping whatever else ends meanwhile."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == command.pid:
            command.returncode = os.waitstatus_to_exitcode(status)
            return command.returncode if command.returncode >= 0 else 128 - command.returncode


def end(processes: list[psutil.Process]) -> None:
    """Ask politely, then insist."""
    for kill in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            try:
                kill(process)
            except psutil.NoSuchProcess:
                continue
        deadline = time.monotonic() + 3
        while living() and time.monotonic() < deadline:
            reap()
            time.sleep(0.1)
        processes = living()


def main(arguments: list[str]) -> int:
    """Run the command to its end."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    command = subprocess.Popen(arguments, env=os.environ | {ADOPTER: str(os.getpid())})

    def forward(number: int, _frame: FrameType | None) -> None:
        os.kill(command.pid, number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal has told the command already
    code = wait_for(command)
    deadline = time.monotonic() + GRACE_SECONDS
    while (left := living()) and time.monotonic() < deadline:
        reap()
        time.sleep(0.1)
    if not left:
        return code
    sys.stdout.flush()
    for process in left:
        print(f"supervise: left behind: {describe(process)}", file=sys.stderr)
    end(left)
    return code or LEFT_BEHIND


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
