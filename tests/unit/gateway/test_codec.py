"""Compression of frames: only where it pays, and never a byte past the caller's buffer."""

from __future__ import annotations

import contextlib
import itertools
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codec import COMPRESS_BOUND, SCRATCH_SIZE, Encoder, decode_into, worth
from gateway.wire import MAX_RAW, Codec
from skyplane_core.errors import FrameCorrupt
from skyplane_core.model import Compression, Shrinkage

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
    ids=itertools.count(),
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


@pytest.mark.parametrize("stays_here", [True, False])
def test_only_auto_asks_whether_bytes_leave_the_machine(stays_here: bool) -> None:
    assert worth(Compression.NONE, stays_here=stays_here) is None
    assert worth(Compression.LZ4, stays_here=stays_here) == 0.9
    assert worth(Compression.AUTO, stays_here=stays_here) == (None if stays_here else 0.5)


def test_what_stays_on_the_machine_is_sent_as_it_is_and_counted_so() -> None:
    encoder = Encoder(Compression.AUTO, memoryview(bytearray(SCRATCH_SIZE)), stays_here=True)
    assert encoder.encode_into(memoryview(TEXT), memoryview(bytearray(COMPRESS_BOUND))) is None
    assert encoder.shrinkage == Shrinkage(Compression.AUTO, local_bytes=len(TEXT))


def test_the_sample_says_why_noise_was_not_compressed() -> None:
    encoder = Encoder(Compression.AUTO, memoryview(bytearray(SCRATCH_SIZE)))
    assert encoder.encode_into(memoryview(NOISE), memoryview(bytearray(COMPRESS_BOUND))) is None
    said = encoder.shrinkage
    assert said is not None
    assert (said.dense_bytes, said.sample_bytes, said.lz4_bytes) == (len(NOISE), 4 * 16 * 1024, 0)
    assert said.sample_bytes_after >= said.sample_bytes


FRAMES = st.lists(
    st.builds(
        lambda noise, size: (NOISE[:noise] + TEXT)[:size],
        st.sampled_from([0, 20_000, 60_000, 120_000, 400_000]),
        st.integers(1, 300_000),
    ),
    max_size=6,
)


@given(st.sampled_from(Compression), FRAMES, st.booleans())
def test_every_byte_is_counted_once_under_what_became_of_it(
    mode: Compression, frames: list[bytes], stays_here: bool
) -> None:
    encoder = Encoder(mode, memoryview(bytearray(SCRATCH_SIZE)), stays_here=stays_here)
    out = memoryview(bytearray(COMPRESS_BOUND))
    lengths = [encoder.encode_into(memoryview(raw), out) for raw in frames]
    shrunk = [(len(raw), length) for raw, length in zip(frames, lengths, strict=True) if length is not None]
    raw = sum(len(frame) for frame, length in zip(frames, lengths, strict=True) if length is None)
    said = encoder.shrinkage
    if said is None:
        assert (mode, shrunk) == (Compression.NONE, [])
        return
    assert said.mode is mode
    assert (said.lz4_bytes, said.lz4_bytes_after) == (sum(n for n, _ in shrunk), sum(n for _, n in shrunk))
    here = mode is Compression.AUTO and stays_here
    assert (said.local_bytes, said.dense_bytes) == ((raw, 0) if here else (0, raw))
    # What was not compressed was tried, and what was tried did not shrink to what the mode asks for.
    assert bool(said.sample_bytes) == bool(said.dense_bytes)
    assert said.sample_bytes_after >= (0.9 if mode is Compression.LZ4 else 0.5) * said.sample_bytes


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
