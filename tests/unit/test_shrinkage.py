"""What compression chose, added up and in words."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.model import Compression, Shrinkage
from skyplane_core.shrinkage import both, describe

AMOUNTS = st.integers(0, 2**50)
SOME = st.none() | st.builds(Shrinkage, st.just(Compression.AUTO), AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS)


@given(SOME, SOME, SOME)
def test_the_order_of_adding_does_not_matter_and_nothing_is_lost(
    a: Shrinkage | None, b: Shrinkage | None, c: Shrinkage | None
) -> None:
    total = both(both(a, b), c)
    assert total == both(a, both(b, c)) == both(c, both(b, a))
    if total is not None:
        for field in Shrinkage.__struct_fields__[1:]:
            assert getattr(total, field) == sum(getattr(one, field) for one in (a, b, c) if one is not None)


@given(SOME)
def test_it_survives_the_receipt(some: Shrinkage | None) -> None:
    assert msgspec.json.decode(msgspec.json.encode(some), type=Shrinkage | None) == some


GB = 1 << 30


@pytest.mark.parametrize(
    ("shrinkage", "words"),
    [
        (
            Shrinkage(Compression.AUTO, 0, 2 * GB, 1000, 990, GB // 2, GB // 5),
            "auto: 2.0 GiB sent as they are (a sample shrank to 0.99 of its size), 512.0 MiB with LZ4 (to 0.40)",
        ),
        (Shrinkage(Compression.AUTO, GB), "auto: 1.0 GiB sent as they are (they did not leave the machine)"),
        (
            Shrinkage(Compression.LZ4, 0, 4096, 1000, 1004),
            "lz4: 4.0 KiB sent as they are (a sample did not shrink)",
        ),
        (Shrinkage(Compression.LZ4), "lz4: nothing sent"),
    ],
)
def test_words(shrinkage: Shrinkage, words: str) -> None:
    assert describe(shrinkage) == words
