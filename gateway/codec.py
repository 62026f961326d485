"""Compression of one frame, over the caller's buffers.

The codec is chosen frame by frame, so an archive in the middle of text costs nothing:

* ``lz4`` compresses wherever it shrinks a frame by a tenth: the user said that bytes are dearer than CPU.
* ``auto`` compresses only where it saves at least half. LZ4 costs 1.0-1.5 s/GB of text and everything else on a reader
  0.25 (docs/measurements.md), so on a fast link it makes the CPU the bottleneck; where it halves the bytes,
  it pays on every billed link and on any below about 5 Gbit/s a core; with less to save it often does not.
* ``none`` never compresses.
"""

from __future__ import annotations

from typing import Final

from cramjam import CompressionError, DecompressionError, lz4

from gateway.wire import MAX_RAW, Codec
from skyplane_core.errors import FrameCorrupt
from skyplane_core.model import Compression

_SAMPLE: Final = 16 * 1024
_SAMPLES: Final = 4
"""4 x 16 KiB cost 4-53 us and estimate 2.2 where the truth is 2.7 (docs/measurements.md)."""
_WORTH: Final = {Compression.LZ4: 0.9, Compression.AUTO: 0.5}


def compress_bound(size: int) -> int:
    """Bytes that LZ4 may need for a block of ``size`` which does not shrink at all (LZ4_COMPRESSBOUND)."""
    return size + size // 255 + 16


COMPRESS_BOUND: Final = compress_bound(MAX_RAW)


class Encoder:
    """Encodes frames of one batch. Not thread-safe.

    Args:
        mode: the transfer's compression.
        scratch: at least ``SCRATCH_SIZE`` bytes for the probe, the calling thread's own.
    """

    def __init__(self, mode: Compression, scratch: memoryview) -> None:
        self._worth = _WORTH.get(mode)
        self._scratch = scratch
        self._shrank = False

    def encode_into(self, raw: memoryview, out: memoryview) -> int | None:
        """Compress ``raw`` into ``out`` and return the length; None if it is to be sent raw (``out`` is undefined).

        ``out`` has room for :func:`compress_bound` of its length and does not overlap ``raw``.
        """
        # A frame that shrank says more about the next than a probe, and saves 3 % of what LZ4 costs.
        if self._worth is None or not (self._shrank or self._probe(raw, self._worth)):
            return None
        try:
            length = lz4.compress_block_into(raw, out, store_size=False)
        except CompressionError:
            # Only an output that is too small makes LZ4 fail: the frame did not shrink.
            length = len(raw)
        self._shrank = length <= self._worth * len(raw)
        return length if length < len(raw) else None

    def _probe(self, raw: memoryview, worth: float) -> bool:
        if len(raw) <= 2 * _SAMPLE * _SAMPLES:
            return True
        step = (len(raw) - _SAMPLE) // (_SAMPLES - 1)
        estimate = 0
        for number in range(_SAMPLES):
            sample = raw[number * step : number * step + _SAMPLE]
            estimate += lz4.compress_block_into(sample, self._scratch, store_size=False)
        # A sample starts with an empty dictionary, so its ratio is about a fifth worse than the whole frame's.
        return estimate <= min(1.2 * worth, 0.95) * _SAMPLE * _SAMPLES


SCRATCH_SIZE: Final = _SAMPLE + _SAMPLE // 255 + 16


def decode_into(codec: Codec, body: memoryview, out: memoryview) -> None:
    """Decompress ``body`` so that it fills ``out`` exactly. LZ4 only; raw frames are opened into place.

    Raises:
        FrameCorrupt: it is no such block.
    """
    if codec is not Codec.LZ4:
        raise ValueError(f"codec {codec.name} has nothing to decode")
    try:
        length = lz4.decompress_block_into(body, out, output_len=len(out))
    except DecompressionError as error:
        raise FrameCorrupt("a frame does not decompress", why=str(error)) from error
    if length != len(out):
        raise FrameCorrupt(f"a frame decompresses to {length} bytes, its header says {len(out)}")
