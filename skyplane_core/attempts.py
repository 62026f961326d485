"""The same call for many objects, several at once, of which some may fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from skyplane_core.errors import Retry, SkyplaneError, from_record
from skyplane_core.units import counted

T = TypeVar("T")


def attempt_all(pool: ThreadPoolExecutor, call: Callable[[T], object], items: Iterable[T], noun: str) -> None:
    """Call for every item. One that fails for good spares the others; then the first is raised, and says how many did.

    Args:
        noun: what a call is, for the message.

    Raises:
        SkyplaneError: the first that failed for good; or at once one that says more of the store than of the item, as
            that it is away.
    """

    def attempt(item: T) -> SkyplaneError | None:
        try:
            call(item)
        except SkyplaneError as error:
            if error.retry is not Retry.PERMANENT:
                raise
            return error
        return None

    outcomes = list(pool.map(attempt, items))
    failed = [error for error in outcomes if error is not None]
    if len(failed) > 1:
        what = f"{len(failed):,} of {counted(len(outcomes), noun)} failed; the first: {failed[0].what}"
        raise from_record(msgspec.structs.replace(failed[0].record(), what=what)) from failed[0]
    if failed:
        raise failed[0]
