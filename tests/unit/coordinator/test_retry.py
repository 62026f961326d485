from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.coordinator.retry import MAX_CORRUPT_ATTEMPTS, MAX_DELAY, retry_delay
from skyplane_core.errors import (
    ChecksumMismatch,
    LinkLost,
    ObjectNotFound,
    PermissionDenied,
    SourceChanged,
    StoreUnavailable,
    Throttled,
    Unauthenticated,
)
from skyplane_core.spec import TransferOptions


def highest(_low: float, high: float) -> float:
    return high


@pytest.mark.parametrize("kind", [ObjectNotFound, PermissionDenied, SourceChanged])
def test_permanent_errors_are_not_tried_again(kind: type) -> None:
    assert retry_delay(kind("x").record(), 1, 5, highest) is None


@pytest.mark.parametrize("kind", [StoreUnavailable, LinkLost])
def test_passing_errors_back_off_and_end(kind: type) -> None:
    delays = [retry_delay(kind("x").record(), attempt, 5, highest) for attempt in range(1, 6)]
    assert delays == [0.2, 0.4, 0.8, 1.6, None]


def test_a_throttling_store_is_given_more_time_and_its_own_wish_is_respected() -> None:
    assert retry_delay(Throttled("x").record(), 1, 5, highest) == 1.0
    assert retry_delay(Throttled("x", retry_after=20.0).record(), 1, 5, highest) == 20.0


def test_expired_credentials_get_one_more_try() -> None:
    assert retry_delay(Unauthenticated("x").record(), 1, 5, highest) is not None
    assert retry_delay(Unauthenticated("x").record(), 2, 5, highest) is None


def test_corrupt_bytes_are_sent_again_a_bounded_number_of_times() -> None:
    answers = [retry_delay(ChecksumMismatch("x").record(), n, 99, highest) for n in range(1, MAX_CORRUPT_ATTEMPTS + 1)]
    assert answers[-1] is None
    assert None not in answers[:-1]


@given(st.integers(1, 200), st.integers(1, 200), st.integers())
def test_a_delay_is_positive_and_bounded(attempt: int, limit: int, seed: int) -> None:
    delay = retry_delay(StoreUnavailable("x").record(), attempt, limit, random.Random(seed).uniform)
    assert (delay is None) == (attempt >= limit)
    assert delay is None or 0 < delay <= MAX_DELAY


def test_a_store_cannot_send_us_away_for_longer_than_a_transfer_may_stand_still() -> None:
    delay = retry_delay(Throttled("x", retry_after=86400.0).record(), 1, 5, highest)
    assert delay is not None
    assert delay < TransferOptions().progress_timeout
