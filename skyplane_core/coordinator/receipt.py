"""The receipt: one line an object and destination, durable before the transfer is called done.

It is written below the transfer's state prefix as ``receipt-<n>.jsonl`` segments while the transfer runs, and closed by
``receipt.json``, the summary, which exists only when all segments do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import msgspec

from skyplane_core.spec import Progress, ReceiptLine

SEGMENT_LINES = 10_000

_encoder = msgspec.json.Encoder()
_line_decoder = msgspec.json.Decoder(ReceiptLine)


class ReceiptSummary(msgspec.Struct, frozen=True):
    """The closing object of a receipt."""

    progress: Progress
    segments: tuple[str, ...]


class ReceiptWriter:
    """Collects lines and stores them in segments. Thread-safe.

    Args:
        put: stores bytes under a key; raises StoreError.
        state: key prefix of this transfer's state, ending in ``/``.
    """

    def __init__(self, put: Callable[[str, bytes], None], state: str) -> None:
        self._put = put
        self._state = state
        self._lock = threading.Lock()
        self._lines: list[ReceiptLine] = []
        self._segments: list[str] = []

    @property
    def key(self) -> str:
        """The key of the summary."""
        return f"{self._state}receipt.json"

    def add(self, line: ReceiptLine) -> None:
        """Take a line; every :data:`SEGMENT_LINES` lines this stores a segment before it returns."""
        with self._lock:
            self._lines.append(line)
            if len(self._lines) >= SEGMENT_LINES:
                self._flush()

    def close(self, progress: Progress) -> None:
        """Store what is left, then the summary: from here on the receipt is durable and complete."""
        with self._lock:
            if self._lines:
                self._flush()
            summary = ReceiptSummary(progress, tuple(self._segments))
            self._put(self.key, _encoder.encode(summary))

    def _flush(self) -> None:
        key = f"{self._state}receipt-{len(self._segments):06d}.jsonl"
        self._put(key, b"".join(_encoder.encode(line) + b"\n" for line in self._lines))
        self._segments.append(key)
        self._lines = []


def read_receipt(get: Callable[[str], bytes], state: str) -> tuple[Progress, Iterator[ReceiptLine]]:
    """The totals and the lines of a closed receipt, one segment in memory at a time.

    Raises:
        ObjectNotFound: the receipt was never closed, so the transfer has not ended.
    """
    summary = msgspec.json.decode(get(f"{state}receipt.json"), type=ReceiptSummary)

    def lines() -> Iterator[ReceiptLine]:
        for key in summary.segments:
            for line in get(key).splitlines():
                yield _line_decoder.decode(line)

    return summary.progress, lines()
