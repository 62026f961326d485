"""Whether, and when, a failed part is tried again: a pure decision by the error's class."""

from __future__ import annotations

from collections.abc import Callable

from skyplane_core.errors import ErrorRecord, Retry, from_record

BASE_DELAY = 0.2
MAX_DELAY = 30.0
THROTTLE_BASE_DELAY = 1.0
MAX_AUTH_ATTEMPTS = 2
AUTH_DELAY = 5.0
MAX_CORRUPT_ATTEMPTS = 3
MAX_RETRY_AFTER = 45.0
"""Longest that a store may send us away: a header must not be able to park a transfer beyond its progress limit."""


def retry_delay(
    error: ErrorRecord, attempt: int, max_attempts: int, uniform: Callable[[float, float], float]
) -> float | None:
    """Seconds to wait before the next attempt, or None if there must be none.

    Exponential backoff with full jitter (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015),
    which keeps many parts that failed together from coming back together. Corrupt bytes are sent again a few times and
    no more: a path that damages data is to be reported, not ridden out. Expired credentials get one more try after a
    pause in which somebody may renew them.

    Args:
        error: what happened.
        attempt: the number of the attempt that failed, from 1.
        max_attempts: the transfer's limit for passing failures.
        uniform: ``random.uniform`` or a deterministic stand-in.
    """
    trait = from_record(error).retry
    if trait is Retry.PERMANENT:
        return None
    if trait is Retry.AUTH:
        return AUTH_DELAY if attempt < MAX_AUTH_ATTEMPTS else None
    if trait is Retry.CORRUPT and attempt >= MAX_CORRUPT_ATTEMPTS:
        return None
    if attempt >= max_attempts:
        return None
    base = THROTTLE_BASE_DELAY if trait is Retry.THROTTLED else BASE_DELAY
    delay = uniform(base / 2, min(MAX_DELAY, base * 2 ** (attempt - 1)))
    return max(delay, min(error.retry_after or 0.0, MAX_RETRY_AFTER))
