"""Compression of one frame, over the caller's buffers.

The codec is chosen frame by frame, so an archive in the middle of text costs nothing:

* ``lz4`` compresses wherever it shrinks a frame by a tenth: the user said that bytes are dearer than CPU.
* ``auto`` compresses only where it saves at least half, and only what leaves the machine. LZ4 costs 1.0-1.5 s/GB of
  text and everything else on a reader 0.25 (docs/measurements.md). On one machine the wire is faster than that by far
  and costs nothing. Anywhere else a byte may cost money, hundreds of times what the CPU does (docs/performance.md),
  which no measured rate tells; with less than half to save it often does not pay.
* ``none`` never compresses.
"""

from __future__ import annotations

from typing import Final

from cramjam import CompressionError, DecompressionError, lz4

from gateway.wire import MAX_RAW, Codec
from skyplane_core.errors import FrameCorrupt
from skyplane_core.model import Compression, Shrinkage

_SAMPLE: Final = 16 * 1024
_SAMPLES: Final = 4
"""4 x 16 KiB cost 4-53 us and estimate 2.2 where the truth is 2.7 (docs/measurements.md)."""
_WORTH: Final = {Compression.LZ4: 0.9, Compression.AUTO: 0.5}


def compress_bound(size: int) -> int:
    """Bytes that LZ4 may need for a block of ``size`` which does not shrink at all (LZ4_COMPRESSBOUND)."""
    return size + size // 255 + 16


COMPRESS_BOUND: Final = compress_bound(MAX_RAW)


def worth(mode: Compression, *, stays_here: bool) -> float | None:
    """The share of its size to which a frame has to shrink for LZ4 to pay; None: it never does.

    Args:
        mode: the transfer's compression.
        stays_here: all gateways on the way are on this machine.
    """
    return None if stays_here and mode is Compression.AUTO else _WORTH.get(mode)


class Encoder:
    """Encodes frames of one batch. Not thread-safe; what it has done may be read from any thread.

    Args:
        mode: the transfer's compression.
        scratch: at least ``SCRATCH_SIZE`` bytes for the probe, the calling thread's own.
        stays_here: see :func:`worth`.
    """

    def __init__(self, mode: Compression, scratch: memoryview, *, stays_here: bool = False) -> None:
        self._mode = mode
        self._worth = worth(mode, stays_here=stays_here)
        self._scratch = scratch
        self._shrank = False
        self._tried = _Ratio()
        self._dense = 0
        self._local = 0
        self._shrunk = _Ratio()

    @property
    def shrinkage(self) -> Shrinkage | None:
        """What came of all frames so far; None where there is nothing to choose."""
        if self._mode is Compression.NONE:
            return None
        return Shrinkage(
            self._mode,
            self._local,
            self._dense,
            self._tried.before,
            self._tried.after,
            self._shrunk.before,
            self._shrunk.after,
        )

    def encode_into(self, raw: memoryview, out: memoryview) -> int | None:
        """Compress ``raw`` into ``out`` and return the length; None if it is to be sent raw (``out`` is undefined).

        ``out`` has room for :func:`compress_bound` of its length and does not overlap ``raw``.
        """
        if self._worth is None:
            # Of a transfer with ``none`` nobody asks.
            self._local += len(raw)
            return None
        # A frame that shrank says more about the next than a probe, and saves 3 % of what LZ4 costs.
        if not (self._shrank or self._probe(raw, self._worth)):
            self._dense += len(raw)
            return None
        try:
            length = lz4.compress_block_into(raw, out, store_size=False)
        except CompressionError:
            # Only an output that is too small makes LZ4 fail: the frame did not shrink.
            length = len(raw)
        self._shrank = length <= self._worth * len(raw)
        if length < len(raw):
            self._shrunk.add(len(raw), length)
            return length
        self._tried.add(len(raw), length)
        self._dense += len(raw)
        return None

    def _probe(self, raw: memoryview, worth: float) -> bool:
        if len(raw) <= 2 * _SAMPLE * _SAMPLES:
            return True
        step = (len(raw) - _SAMPLE) // (_SAMPLES - 1)
        estimate = 0
        for number in range(_SAMPLES):
            sample = raw[number * step : number * step + _SAMPLE]
            estimate += lz4.compress_block_into(sample, self._scratch, store_size=False)
        # A sample starts with an empty dictionary, so its ratio is about a fifth worse than the whole frame's.
        pays = estimate <= min(1.2 * worth, 0.95) * _SAMPLE * _SAMPLES
        if not pays:
            self._tried.add(_SAMPLE * _SAMPLES, estimate)
        return pays


class _Ratio:
    """Bytes before and after."""

    def __init__(self) -> None:
        self.before = self.after = 0

    def add(self, before: int, after: int) -> None:
        self.before += before
        self.after += after


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
