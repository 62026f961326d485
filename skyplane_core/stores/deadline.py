"""A bound on calls that have none of their own: an SDK's search for credentials may ask a server that never answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def bounded(call: Callable[[], _T], seconds: float, late: Exception) -> _T:
    """The result of ``call``, run in a thread that is left behind if it takes longer than ``seconds``.

    Args:
        late: what is raised then.
    """
    results: list[_T] = []
    failures: list[Exception] = []

    def run() -> None:
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001  raised again below, in the caller's thread
            failures.append(error)

    thread = threading.Thread(target=run, name="credentials", daemon=True)
    thread.start()
    thread.join(seconds)
    if results:
        return results[0]
    raise failures[0] if failures else late
