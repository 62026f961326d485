"""What a report is made of, as a value that can be kept as JSON: no secret, and at most some tens of KB."""

from __future__ import annotations

import msgspec

from skyplane_core.errors import UsageError
from skyplane_core.spec import Progress

MAX_TEXT = 400
"""Characters of a key or a reason: a report is to be read, and the receipt has all of it."""


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """One transfer, as far as it got.

    Args:
        progress: with its history, if the transfer has ended.
        run: whose transfer it was, such as a task's name; empty for nobody's.
    """

    progress: Progress
    run: str = ""


def brief(progress: Progress) -> Progress:
    """The same with keys and reasons cut off where they are too long to be read."""
    history = progress.history
    if history is not None:
        reasons = tuple(
            msgspec.structs.replace(reason, reason=_cut(reason.reason), examples=tuple(map(_cut, reason.examples)))
            for reason in history.reasons
        )
        history = msgspec.structs.replace(
            history,
            source=_cut(history.source),
            destinations=tuple(map(_cut, history.destinations)),
            reasons=reasons,
        )
    failures = tuple((_cut(key), _cut(reason)) for key, reason in progress.failures)
    return msgspec.structs.replace(progress, failures=failures, error=_cut(progress.error), history=history)


def encode(reports: tuple[Report, ...]) -> str:
    """As JSON."""
    return msgspec.json.encode(reports).decode()


def decode(content: str) -> tuple[Report, ...]:
    """The inverse of :func:`encode`.

    Raises:
        UsageError: these are none.
    """
    try:
        return msgspec.json.decode(content, type=tuple[Report, ...])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise UsageError("this is no report of a transfer", why=type(error).__name__) from error


def _cut(words: str) -> str:
    return words if len(words) <= MAX_TEXT else words[: MAX_TEXT - 1] + "…"
