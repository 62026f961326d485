"""Damaged forms of valid inputs: bits flipped, bytes cut out, doubled and mixed, lengths at their extremes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import hypothesis
from hypothesis import strategies as st

CORPUS = Path(__file__).with_name("corpus")

_NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**53, 2**63, 2**64 - 1]
# Length prefixes of msgpack that promise much, numbers and tokens that parsers of JSON, XML and HTTP stumble over.
_TOKENS = [
    b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
    b"\xdc\xff\xff", b"\xc1", b"\xc0", b"\x91" * 300, b"\x81\xa0" * 100, b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"1e999", b"-1", b"99999999999999999999999999", b"NaN", b"null", b"true", b"[]", b"{}", b'""', b"[" * 300,
    b'{"a":' * 200, b'"\\ud800"', b"\\u0000", b"\x00", b"\xff", b"\xed\xa0\x80", b"\r\n", b"\r\n\r\n", b" ",
    b"<a>" * 50, b"</Key>", b"&#0;", b"&x;", b"<!DOCTYPE a [<!ENTITY x 'y'>]>", b"<![CDATA[", b"<!--", b"%",
    b"%zz", b"%00", b"Content-Length: -1\r\n", b"Content-Length: 99999999999\r\n",
    b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffff\r\n",
]  # fmt: skip


def corpus(folder: str) -> list[bytes]:
    """The seeds of one kind, by name of their files. There are some."""
    seeds = [path.read_bytes() for path in sorted((CORPUS / folder).iterdir())]
    assert seeds, folder
    return seeds


def effort(examples: int) -> hypothesis.settings:
    """So many examples in a usual run, and twenty times as many with ``HYPOTHESIS_PROFILE=explore``."""
    factor = max(1, hypothesis.settings.default.max_examples // 100)
    return hypothesis.settings(
        max_examples=examples * factor,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate, hypothesis.Phase.shrink],
    )


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[bytes], most: int = 6) -> bytes:
    """One of ``seeds`` after up to ``most`` mutations; zero is among them, so that the seeds themselves are tried."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, most))):
        _mutate(draw, data, seeds)
    return bytes(data)


def _mutate(draw: st.DrawFn, data: bytearray, seeds: Sequence[bytes]) -> None:
    at = draw(st.integers(0, max(0, len(data) - 1)))
    to = min(len(data), at + draw(st.integers(1, 40)))
    match draw(st.integers(0, 8)):
        case 0 if data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        case 1 if data:
            data[at] = draw(st.integers(0, 255))
        case 2:
            del data[at:]
        case 3:
            del data[at:to]
        case 4:
            data[to:to] = data[at:to]
        case 5:
            other = draw(st.sampled_from(seeds))
            data[at:] = other[draw(st.integers(0, len(other))) :]
        case 6:
            width = draw(st.sampled_from([1, 2, 4, 8]))
            number = draw(st.sampled_from(_NUMBERS)) & (256**width - 1)
            data[at : at + width] = number.to_bytes(width, "big")
        case 7:
            data[at:to] = draw(st.sampled_from(_TOKENS))
        case _:
            data[at:at] = draw(st.sampled_from(_TOKENS))
