"""What the operating system is asked to do for a gateway's processes: die together, leave no core, fork cleanly."""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15


def harden() -> None:
    """No core dump of a process whose memory holds keys, and no look into it by others of the same user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The kernel ignores the limit where cores are piped to a program, as systemd and apport set it up.
    _prctl(_PR_SET_DUMPABLE, 0)


def raise_file_limit() -> None:
    """As many open files as this user may have: a connection each for links and for store requests."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def set_name(name: str) -> None:
    """The name that ``ps -o comm`` and ``top`` show; 15 bytes at most."""
    _prctl(_PR_SET_NAME, name.encode()[:15])


def fork(name: str, target: Callable[[], None]) -> int:
    """Run ``target`` in a forked child and return its pid.

    The child is killed when this process ends, whatever ended it. It exits with 0 when ``target`` returns and with
    1, and a log line, when it raises. To be called while this process has one thread.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _child(name, parent, target)
    return pid


def _child(name: str, parent: int, target: Callable[[], None]) -> NoReturn:
    status = 1
    try:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            # The parent ended between the fork and the call above, so no signal will come.
            os._exit(1)
        set_name(f"skyplane-{name}")
        # Ctrl-C goes to every process of a terminal, but it is the parent that ends the others in order.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        target()
        status = 0
    except BaseException:  # the boundary of a process: whatever it is, it is logged and becomes the exit status
        logger.critical("process failed", exc_info=True)
    finally:
        # Not sys.exit: the parent's exit handlers are not the child's.
        logging.shutdown()
        os._exit(status)


def _prctl(option: int, value: int | bytes) -> None:
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value if isinstance(value, bytes) else ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
