"""What a sync is going to delete: collected while it lists, durable before the first of it goes, read back in pieces.

It is kept below the transfer's state prefix as ``deletions-<incarnation>-<n>.jsonl``, an object a line: memory does not
grow with their number, a gateway needs no disk for it, and a coordinator that continues the transfer finds it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import msgspec

from skyplane_core.coordinator.receipt import SEGMENT_BYTES, SEGMENT_LINES
from skyplane_core.errors import StoreRejected
from skyplane_core.model import ObjectInfo


class Doomed(msgspec.Struct, frozen=True):
    """One destination object that is to go, as it was seen."""

    key: str
    version: str
    size: int


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Doomed)


class DeletionList:
    """Collects objects and gives them back in order. For one thread.

    Args:
        put, get: store and read small state objects; raise StoreError.
        state: key prefix of this transfer's state, ending in ``/``.
        incarnation: distinguishes the coordinators that have worked on this transfer.
    """

    def __init__(
        self, put: Callable[[str, bytes], None], get: Callable[[str], bytes], state: str, incarnation: str
    ) -> None:
        self._put = put
        self._get = get
        self._prefix = f"{deletions_prefix(state)}{incarnation}-"
        self._lines: list[bytes] = []
        self._bytes = 0
        self._digests: dict[str, bytes] = {}
        self.objects = 0

    def add(self, info: ObjectInfo) -> None:
        """Take an object; may store a segment."""
        line = _encoder.encode(Doomed(info.key, info.version, info.size)) + b"\n"
        self._lines.append(line)
        self._bytes += len(line)
        self.objects += 1
        if len(self._lines) >= SEGMENT_LINES or self._bytes >= SEGMENT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Store what is not stored yet: from here on the list is durable."""
        if not self._lines:
            return
        key = f"{self._prefix}{len(self._digests):06d}.jsonl"
        data = b"".join(self._lines)
        self._put(key, data)
        self._digests[key] = hashlib.sha256(data).digest()
        self._lines, self._bytes = [], 0

    @property
    def segments(self) -> list[str]:
        """The keys of what is stored."""
        return list(self._digests)

    def __iter__(self) -> Iterator[Doomed]:
        """What was flushed, one segment in memory at a time.

        Raises:
            StoreRejected: somebody has changed it, who could otherwise have anything deleted with our rights.
        """
        return read_deletions(self._unchanged, self.segments)

    def _unchanged(self, key: str) -> bytes:
        data = self._get(key)
        if hashlib.sha256(data).digest() != self._digests[key]:
            raise StoreRejected(
                "the list of what is to be deleted was changed by somebody else",
                where=key,
                next_step="Find out who writes there, then run the sync again.",
            )
        return data


def deletions_prefix(state: str) -> str:
    """What the keys of all segments below ``state`` begin with."""
    return f"{state}deletions-"


def read_deletions(get: Callable[[str], bytes], segments: list[str]) -> Iterator[Doomed]:
    """The objects that some segments list.

    Raises:
        StoreRejected: one is no such list.
    """
    for key in segments:
        for line in get(key).splitlines():
            try:
                yield _decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise StoreRejected(
                    "a list of deletions cannot be read", where=key, why=type(error).__name__
                ) from error
