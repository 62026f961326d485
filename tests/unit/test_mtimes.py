from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.mtimes import as_rfc3339, as_seconds, parse

# Years 1 to 9999.
IN_ALL_FORMS = st.integers(-62_135_596_800 * 10**9, 253_402_300_799 * 10**9)


@given(IN_ALL_FORMS)
def test_seconds_come_back_to_the_nanosecond(mtime_ns: int) -> None:
    assert parse(as_seconds(mtime_ns)) == mtime_ns


@given(IN_ALL_FORMS)
def test_dates_come_back_to_the_nanosecond(mtime_ns: int) -> None:
    assert parse(as_rfc3339(mtime_ns)) == mtime_ns


@given(st.text(max_size=40))
def test_anything_is_a_time_or_none(text: str) -> None:
    assert parse(text) is None or isinstance(parse(text), int)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1484931135.1", 1_484_931_135_100_000_000),
        ("1484931135.1234567891", 1_484_931_135_123_456_789),
        ("-0.5", -500_000_000),
        ("2017-01-20T16:52:15Z", 1_484_931_135 * 10**9),
        ("2017-01-20T18:52:15.5+02:00", 1_484_931_135_500_000_000),
        ("2017-02-30T00:00:00Z", None),
        ("2017-01-20 16:52:15", None),
        ("1e9", None),
        ("٣", None),
        ("", None),
    ],
)
def test_both_forms(text: str, expected: int | None) -> None:
    assert parse(text) == expected


def test_what_no_form_can_tell_is_no_time() -> None:
    for seconds in ("253402300800", "-62135596801"):
        assert parse(seconds) is None
    assert parse("253402300799.999999999") == 253_402_300_800 * 10**9 - 1
    assert parse(as_rfc3339(-62_135_596_800 * 10**9)) == -62_135_596_800 * 10**9
