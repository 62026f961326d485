"""Compression of frames: only where it pays, and never a byte past the caller's buffer."""

from __future__ import annotations

import contextlib
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codec import COMPRESS_BOUND, SCRATCH_SIZE, Encoder, decode_into
from gateway.wire import MAX_RAW, Codec
from skyplane_core.errors import FrameCorrupt
from skyplane_core.model import Compression

TEXT = (b"2026-11-20 INFO the part was stored; " * 60_000)[:MAX_RAW]
NOISE = random.Random(0).randbytes(MAX_RAW)
# A quarter of it is noise: it shrinks, but not by half.
MIXED = b"".join(NOISE[n : n + 768] + bytes(256) for n in range(0, MAX_RAW, 1024))


def encode(mode: Compression, raw: bytes) -> bytes | None:
    out = memoryview(bytearray(COMPRESS_BOUND))
    length = Encoder(mode, memoryview(bytearray(SCRATCH_SIZE))).encode_into(memoryview(raw), out)
    return None if length is None else bytes(out[:length])


@pytest.mark.parametrize(
    ("mode", "raw", "shrinks"),
    [
        (Compression.AUTO, TEXT, True),
        (Compression.LZ4, TEXT, True),
        (Compression.NONE, TEXT, False),
        (Compression.AUTO, NOISE, False),
        (Compression.LZ4, NOISE, False),
        (Compression.AUTO, MIXED, False),
        (Compression.LZ4, MIXED, True),
        (Compression.AUTO, b"x", False),
        (Compression.LZ4, os.urandom(1000), False),
        (Compression.AUTO, b"small " * 100, True),
    ],
)
def test_what_is_compressed(mode: Compression, raw: bytes, shrinks: bool) -> None:
    body = encode(mode, raw)
    assert (body is not None) is shrinks
    if body is not None:
        assert len(body) < len(raw)
        out = memoryview(bytearray(len(raw)))
        decode_into(Codec.LZ4, memoryview(body), out)
        assert out == raw


def test_noise_after_text_is_sent_raw_and_text_after_noise_is_compressed() -> None:
    encoder = Encoder(Compression.AUTO, memoryview(bytearray(SCRATCH_SIZE)))
    out = memoryview(bytearray(COMPRESS_BOUND))
    shrunk = [encoder.encode_into(memoryview(raw), out) is not None for raw in (TEXT, NOISE, NOISE, TEXT, NOISE)]
    assert shrunk == [True, False, False, True, False]


@given(st.binary(min_size=1, max_size=5000))
def test_small_frames_survive(raw: bytes) -> None:
    body = encode(Compression.LZ4, raw)
    if body is not None:
        out = memoryview(bytearray(len(raw)))
        decode_into(Codec.LZ4, memoryview(body), out)
        assert out == raw


@given(st.binary(max_size=300), st.integers(1, 2000))
def test_any_bytes_decode_within_the_buffer_or_are_corrupt(body: bytes, size: int) -> None:
    guarded = memoryview(bytearray(b"\xaa" * (size + 64)))
    with contextlib.suppress(FrameCorrupt):
        decode_into(Codec.LZ4, memoryview(body), guarded[:size])
    assert guarded[size:] == b"\xaa" * 64


@pytest.mark.parametrize("wrong", [-1, 1, 5000])
def test_another_length_than_announced_is_corrupt(wrong: int) -> None:
    body = encode(Compression.LZ4, TEXT[:100_000])
    assert body is not None
    with pytest.raises(FrameCorrupt):
        decode_into(Codec.LZ4, memoryview(body), memoryview(bytearray(100_000 + wrong)))
