"""Exit codes, and the one place that knows which error means which."""

from __future__ import annotations

import enum

from skyplane_core.errors import SkyplaneError, TransferCancelled, TransferFailed, TransferStalled, UsageError


class Exit(enum.IntEnum):
    """What the shell is told. A script may rely on these numbers."""

    OK = 0
    FAILED = 1
    """It ran, and some objects did not arrive (or, in a dry run, could not)."""
    USAGE = 2
    """The request itself is wrong; nothing was provisioned or written."""
    START = 3
    """It could not start, or a store or gateway could not be reached."""
    CANCELLED = 4


def exit_of(error: BaseException) -> Exit:
    """The exit code of a command that ended with ``error``."""
    if isinstance(error, KeyboardInterrupt | TransferCancelled | BrokenPipeError):
        return Exit.CANCELLED
    if isinstance(error, UsageError):
        return Exit.USAGE
    if isinstance(error, TransferFailed | TransferStalled):
        return Exit.FAILED
    return Exit.START


def as_error(error: BaseException) -> SkyplaneError:
    """``error`` with what, where, why and next step, whatever it was."""
    if isinstance(error, SkyplaneError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return TransferCancelled("cancelled", next_step="The gateways that were started have been stopped.")
    if isinstance(error, BrokenPipeError):
        return TransferCancelled("cancelled, because nobody reads the output any more")
    if isinstance(error, OSError):
        return SkyplaneError(error.strerror or str(error), where=str(error.filename or ""))
    return SkyplaneError(str(error))
