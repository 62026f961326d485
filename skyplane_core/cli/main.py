"""Entry point of the program ``skyplane``: imports the rest of it, during which Ctrl-C waits."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command that the program's arguments hold, and end with its exit code."""
    argv = sys.argv[1:]
    # Interrupted, an import would end in Python's traceback, and could not be repeated to say something better.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    from skyplane_core.cli.program import fail, run

    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        code = run(argv)
    except KeyboardInterrupt as error:
        code = fail(argv, error)
    sys.exit(code)
