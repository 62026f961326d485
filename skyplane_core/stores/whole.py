"""Whole objects through a store's data path: small state objects, and reading back what was written."""

from __future__ import annotations

from skyplane_core.checksum import crc32c
from skyplane_core.errors import StoreRejected
from skyplane_core.model import ObjectAttributes, Precondition
from skyplane_core.stores.base import MIB, ObjectStore

READ_BACK_BYTES = 8 * MIB
MAX_STATE_OBJECT = 64 * MIB
"""No state object of ours is larger; a larger one under our name is not ours and is not read into memory."""


def read_back(store: ObjectStore, key: str, version: str, size: int) -> int:
    """Read ``size`` bytes at ``version`` again and return the CRC32C of what came; 8 MiB in memory at a time."""
    scratch = memoryview(bytearray(min(READ_BACK_BYTES, max(size, 1))))
    data = store.data()
    try:
        crc = 0
        for offset in range(0, size, READ_BACK_BYTES):
            piece = scratch[: min(READ_BACK_BYTES, size - offset)]
            data.read_into(key, version, offset, piece)
            crc = crc32c(piece, crc)
        return crc
    finally:
        data.close()


def put_bytes(store: ObjectStore, key: str, content: bytes) -> None:
    """Write a small JSON object, replacing what was there. May be repeated."""
    data = store.data()
    try:
        data.put_object(
            key,
            memoryview(content),
            crc32c=crc32c(content),
            attributes=ObjectAttributes(content_type="application/json"),
            precondition=Precondition(),
        )
    finally:
        data.close()


def get_bytes(store: ObjectStore, key: str) -> bytes:
    """Read a small object.

    Raises:
        ObjectNotFound: it is not there.
        StoreRejected: it is too large to be one of ours.
    """
    info = store.head(key)
    if info.size > MAX_STATE_OBJECT:
        raise StoreRejected(
            f"an object of {info.size} bytes stands where a small one of ours was expected", where=f"{store.uri}/{key}"
        )
    buffer = bytearray(info.size)
    data = store.data()
    try:
        data.read_into(key, info.version, 0, memoryview(buffer))
    finally:
        data.close()
    return bytes(buffer)
