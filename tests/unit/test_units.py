"""Quantities in words."""

from __future__ import annotations

import pytest

from skyplane_core.units import human


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (5 << 50, "5120.0 TiB")]
)
def test_numbers_of_bytes_for_people(number: int, text: str) -> None:
    assert human(number) == text
