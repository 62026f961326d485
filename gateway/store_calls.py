"""Store calls as values: what the coordinator asks a store agent, here or on another gateway."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec

from skyplane_core.checksum import crc32c
from skyplane_core.errors import ObjectNotFound
from skyplane_core.model import ObjectAttributes, ObjectInfo, Precondition, StoredPart
from skyplane_core.stores.base import ObjectStore

READ_BACK_BYTES = 8 * 1024 * 1024
MAX_STATE_OBJECT = 32 * 1024 * 1024


class GetCapabilities(msgspec.Struct, frozen=True, tag=True):
    pass


class ListPage(msgspec.Struct, frozen=True, tag=True):
    prefix: str
    start_after: str
    delimiter: str
    limit: int


class Head(msgspec.Struct, frozen=True, tag=True):
    key: str


class CreateUpload(msgspec.Struct, frozen=True, tag=True):
    key: str
    attributes: ObjectAttributes


class ListParts(msgspec.Struct, frozen=True, tag=True):
    key: str
    upload_id: str


class CompleteUpload(msgspec.Struct, frozen=True, tag=True):
    key: str
    upload_id: str
    parts: tuple[StoredPart, ...]
    size: int
    crc32c: int
    precondition: Precondition


class AbortUpload(msgspec.Struct, frozen=True, tag=True):
    key: str
    upload_id: str


class Delete(msgspec.Struct, frozen=True, tag=True):
    key: str


class ReadBack(msgspec.Struct, frozen=True, tag=True):
    key: str
    version: str
    size: int


class PutBytes(msgspec.Struct, frozen=True, tag=True):
    key: str
    data: bytes


class GetBytes(msgspec.Struct, frozen=True, tag=True):
    key: str


StoreCall = (
    GetCapabilities
    | ListPage
    | Head
    | CreateUpload
    | ListParts
    | CompleteUpload
    | AbortUpload
    | Delete
    | ReadBack
    | PutBytes
    | GetBytes
)


def perform(store: ObjectStore, call: StoreCall) -> Any:
    """Do what ``call`` says on ``store``; the result is a value that msgpack can carry."""
    match call:
        case GetCapabilities():
            return store.capabilities
        case ListPage():
            listing = store.list(call.prefix, start_after=call.start_after, delimiter=call.delimiter)
            return list(itertools.islice(listing, call.limit))
        case Head():
            return store.head(call.key)
        case CreateUpload():
            return store.create_upload(call.key, call.attributes)
        case ListParts():
            return list(store.list_parts(call.key, call.upload_id))
        case CompleteUpload():
            return store.complete_upload(
                call.key,
                call.upload_id,
                call.parts,
                size=call.size,
                crc32c=call.crc32c,
                precondition=call.precondition,
            )
        case AbortUpload():
            return store.abort_upload(call.key, call.upload_id)
        case Delete():
            return store.delete(call.key)
        case ReadBack():
            return _read_back(store, call)
        case PutBytes():
            return _put_bytes(store, call)
        case GetBytes():
            return _get_bytes(store, call.key)


def _read_back(store: ObjectStore, call: ReadBack) -> int:
    scratch = memoryview(bytearray(min(READ_BACK_BYTES, max(call.size, 1))))
    data = store.data()
    try:
        crc = 0
        for offset in range(0, call.size, READ_BACK_BYTES):
            piece = scratch[: min(READ_BACK_BYTES, call.size - offset)]
            data.read_into(call.key, call.version, offset, piece)
            crc = crc32c(piece, crc)
        return crc
    finally:
        data.close()


def _put_bytes(store: ObjectStore, call: PutBytes) -> None:
    data = store.data()
    try:
        data.put_object(
            call.key,
            memoryview(call.data),
            crc32c=crc32c(call.data),
            attributes=ObjectAttributes(content_type="application/json"),
            precondition=Precondition(),
        )
    finally:
        data.close()


def _get_bytes(store: ObjectStore, key: str) -> bytes:
    info: ObjectInfo = store.head(key)
    if info.size > MAX_STATE_OBJECT:
        raise ObjectNotFound(
            f"an object of {info.size} bytes stands where a small one of ours was expected", where=f"{store.uri}/{key}"
        )
    buffer = bytearray(info.size)
    data = store.data()
    try:
        data.read_into(key, info.version, 0, memoryview(buffer))
    finally:
        data.close()
    return bytes(buffer)
