"""Quantities in words."""

from __future__ import annotations

import pytest

from skyplane_core.units import counted, human


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (5 << 50, "5120.0 TiB")]
)
def test_numbers_of_bytes_for_people(number: int, text: str) -> None:
    assert human(number) == text


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "object", "0 objects"),
        (1, "object", "1 object"),
        (1234, "file", "1,234 files"),
        (2, "process", "2 processes"),
    ],
)
def test_a_count_agrees_with_its_noun(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text
