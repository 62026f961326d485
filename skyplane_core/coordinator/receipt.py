"""The receipt: one line an object and destination, durable before the transfer is called done.

It is written below the transfer's state prefix as ``receipt-<incarnation>-<n>.jsonl`` segments while the transfer
runs, and closed by ``receipt.json``, the summary, which names them and is written when all of them are stored. What an
earlier coordinator of the transfer still writes has other names.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from skyplane_core.errors import StoreRejected
from skyplane_core.spec import Progress, ReceiptLine

T = TypeVar("T")

SEGMENT_LINES = 10_000
LINES_AT_ONCE = 500
SEGMENT_BYTES = 16 * 1024 * 1024
"""A segment of so many bytes is full as well: keys and reasons may be long, and a state object has its limit."""

_encoder = msgspec.json.Encoder()
_line_decoder = msgspec.json.Decoder(ReceiptLine)


class ReceiptSummary(msgspec.Struct, frozen=True):
    """The closing object of a receipt."""

    progress: Progress
    segments: tuple[str, ...]


_summary_decoder = msgspec.json.Decoder(ReceiptSummary)


class ReceiptWriter:
    """Collects lines and stores them in segments. Thread-safe.

    Taking a line never waits for a store, since lines come from threads that must not be held up.

    Args:
        put: stores bytes under a key; raises StoreError.
        state: key prefix of this transfer's state, ending in ``/``.
        incarnation: distinguishes the coordinators that have worked on this transfer.
    """

    def __init__(self, put: Callable[[str, bytes], None], state: str, incarnation: str) -> None:
        self._put = put
        self._state = state
        self._prefix = f"{segment_prefix(state)}{incarnation}-"
        self._lock = threading.Lock()
        self._storing = threading.Lock()
        self._lines: list[bytes] = []
        self._count = self._bytes = 0
        self._full: deque[bytes] = deque()
        self._segments: dict[str, bytes] = {}

    @property
    def key(self) -> str:
        """The key of the summary."""
        return f"{self._state}receipt.json"

    @property
    def unstored(self) -> int:
        """Segments that are full and not stored yet."""
        return len(self._full)

    def add(self, lines: Sequence[ReceiptLine]) -> int:
        """Take lines. Returns how many segments they filled; for each, somebody who may block calls :meth:`store`."""
        segments = 0
        for first in range(0, len(lines), LINES_AT_ONCE):
            some = lines[first : first + LINES_AT_ONCE]
            encoded = _encoder.encode_lines(some)
            with self._lock:
                self._lines.append(encoded)
                self._count += len(some)
                self._bytes += len(encoded)
                if self._count >= SEGMENT_LINES or self._bytes >= SEGMENT_BYTES:
                    self._cut()
                    segments += 1
        return segments

    def store(self) -> None:
        """Store the segments that are full. One that cannot be stored is kept and tried again with the next."""
        with self._storing:
            while self._full:
                key = f"{self._prefix}{len(self._segments):06d}.jsonl"
                self._put(key, self._full[0])
                self._segments[key] = _digest(self._full.popleft())

    def flush(self) -> tuple[str, ...]:
        """Store what is left. Returns the keys of all segments so far."""
        with self._lock:
            if self._lines:
                self._cut()
        self.store()
        return tuple(self._segments)

    def finish(self) -> tuple[str, ...]:
        """As :meth:`flush`; no line may be added any more."""
        return self.flush()

    def check(self, key: str, content: bytes) -> bytes:
        """``content`` as it was read back from segment ``key``.

        Raises:
            StoreRejected: it is not what was stored: whoever can write to the destination must not change what a copy
                of the receipt elsewhere says.
        """
        if self._segments[key] != _digest(content):
            raise StoreRejected("a segment of the receipt was changed after it was stored", where=key)
        return content

    def close(self, progress: Progress) -> None:
        """Store what is left, then the summary: from here on the receipt is durable and complete."""
        segments = self.finish()
        self._put(self.key, _encoder.encode(ReceiptSummary(progress, segments)))

    def _cut(self) -> None:
        self._full.append(b"".join(self._lines))
        self._lines, self._count, self._bytes = [], 0, 0


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=32).digest()


def segment_prefix(state: str) -> str:
    """What the keys of all segments below ``state`` begin with."""
    return f"{state}receipt-"


def read_receipt(get: Callable[[str], bytes], state: str) -> tuple[Progress, Iterator[ReceiptLine]]:
    """The totals and the lines of a closed receipt, one segment in memory at a time.

    Raises:
        ObjectNotFound: the receipt was never closed, so the transfer has not ended.
        StoreRejected: what is there is no receipt of this transfer.
    """
    summary = _decoded(_summary_decoder, get(f"{state}receipt.json"), f"{state}receipt.json")
    for key in summary.segments:
        # Whoever can write to the destination could otherwise have any of its objects read for a receipt.
        if not key.startswith(f"{state}receipt-"):
            raise StoreRejected("the receipt names a segment that is not its own", where=key)

    return summary.progress, segment_lines(get, summary.segments)


def segment_lines(get: Callable[[str], bytes], segments: Iterable[str]) -> Iterator[ReceiptLine]:
    """The lines of segments, one of which is in memory at a time.

    Raises:
        StoreRejected: one is no segment of a receipt.
    """
    for key in segments:
        for line in get(key).splitlines():
            yield _decoded(_line_decoder, line, key)


def _decoded(decoder: msgspec.json.Decoder[T], content: bytes, key: str) -> T:
    try:
        return decoder.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StoreRejected("the receipt cannot be read", where=key, why=type(error).__name__) from error
