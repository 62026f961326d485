"""A file that becomes an object: written as a stream, in bounded memory, and there as a whole or not at all."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from skyplane_core.checksum import crc32c
from skyplane_core.coordinator.retry import retry_delay
from skyplane_core.errors import ChecksumMismatch, SkyplaneError
from skyplane_core.model import ObjectAttributes, Precondition, Stored, StoredPart
from skyplane_core.stores.base import MIB, DataPath, ObjectStore
from skyplane_core.stores.whole import read_back

T = TypeVar("T")

PART_BYTES = 16 * MIB
"""All parts but the last are of this size, as some stores demand; 10,000 of them are the longest file."""


class ObjectFile(io.RawIOBase):
    """Collects what is written into parts of an upload. Nothing is visible at the key before :meth:`commit`.

    Args:
        store: opens the store; asked for each call, since credentials may be renewed meanwhile.
        max_attempts: how often a call is tried when failures are passing.
    """

    def __init__(self, store: Callable[[], ObjectStore], key: str, content_type: str, *, max_attempts: int = 5) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._attributes = ObjectAttributes(content_type=content_type)
        self._max_attempts = max_attempts
        self._buffer = bytearray()
        self._upload_id = ""
        self._parts: list[StoredPart] = []
        self._stored_bytes = 0
        self._crc = 0

    def writable(self) -> bool:
        """It is for writing only."""
        return True

    def tell(self) -> int:
        """Bytes written so far."""
        return self._stored_bytes + len(self._buffer)

    def write(self, data: Any, /) -> int:
        """Take all of ``data``; a part that it fills is stored before this returns.

        Raises:
            StoreError: a part could not be stored.
        """
        # A part goes out once more is there, so that the last one is never empty.
        size = len(memoryview(data).cast("B"))
        self._buffer += data
        while len(self._buffer) > PART_BYTES:
            self._put_part(PART_BYTES)
        return size

    def commit(self) -> Stored:
        """Make the object visible and return when the store vouches for it, or it was read back.

        Raises:
            StoreError: it could not be written.
            ChecksumMismatch: the store holds other bytes.
        """
        if self._upload_id:
            self._put_part(len(self._buffer))
            stored = self._try(
                lambda: self._store().complete_upload(
                    self._key,
                    self._upload_id,
                    self._parts,
                    size=self._stored_bytes,
                    crc32c=self._crc,
                    precondition=Precondition(),
                )
            )
            self._upload_id = ""
        else:
            whole = bytes(self._buffer)
            self._crc, self._stored_bytes = crc32c(whole), len(whole)
            stored = self._put(whole)
        if stored.attestation is None:
            self._check(self._try(lambda: read_back(self._store(), self._key, stored.version, stored.size)))
        return stored

    def discard(self) -> None:
        """Drop what was written, if it was not committed."""
        if self._upload_id:
            self._store().abort_upload(self._key, self._upload_id)
            self._upload_id = ""

    def _put(self, whole: bytes) -> Stored:
        view = memoryview(whole)
        return self._through(
            lambda data: data.put_object(
                self._key, view, crc32c=self._crc, attributes=self._attributes, precondition=Precondition()
            )
        )

    def _put_part(self, size: int) -> None:
        if not self._upload_id:
            self._upload_id = self._try(lambda: self._store().create_upload(self._key, self._attributes))
        part = bytes(self._buffer[:size])
        view, crc, number = memoryview(part), crc32c(part), len(self._parts) + 1
        self._parts.append(
            self._through(
                lambda data: data.put_part(self._key, self._upload_id, number, self._stored_bytes, view, crc32c=crc)
            )
        )
        del self._buffer[:size]
        self._stored_bytes += size
        self._crc = crc32c(part, self._crc)

    def _check(self, found: int) -> None:
        if found != self._crc:
            raise ChecksumMismatch(
                "reading the object back gave other bytes than were written",
                where=f"{self._store().uri}/{self._key}",
                why=f"CRC32C {found:08x} instead of {self._crc:08x}",
            )

    def _through(self, act: Callable[[DataPath], T]) -> T:
        def once() -> T:
            data = self._store().data()
            try:
                return act(data)
            finally:
                data.close()

        return self._try(once)

    def _try(self, act: Callable[[], T]) -> T:
        attempt = 1
        while True:
            try:
                return act()
            except SkyplaneError as error:
                delay = retry_delay(error.record(), attempt, self._max_attempts, random.uniform)
                if delay is None:
                    raise
            attempt += 1
            time.sleep(delay)
