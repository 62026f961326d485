"""Store calls as values: what the coordinator asks a store agent, here or on another gateway."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec

from skyplane_core.model import (
    CopySource,
    CopyStep,
    ObjectAttributes,
    ObjectInfo,
    Precondition,
    Stored,
    StoredPart,
)
from skyplane_core.read_ahead import page_behind
from skyplane_core.stores.base import Capabilities, CopyingStore, ObjectStore, RangeListing, copying, tags_of
from skyplane_core.stores.paging import Page
from skyplane_core.stores.whole import get_bytes, put_bytes, read_back


class GetCapabilities(msgspec.Struct, frozen=True, tag=True):
    pass


class ListPage(msgspec.Struct, frozen=True, tag=True):
    """A :class:`Page`, which has something on it unless nothing is left. ``limit`` is for stores without pages."""

    prefix: str
    start_after: str
    delimiter: str
    limit: int


class Head(msgspec.Struct, frozen=True, tag=True):
    key: str


class GetTags(msgspec.Struct, frozen=True, tag=True):
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


class CopyObject(msgspec.Struct, frozen=True, tag=True):
    source: CopySource
    key: str
    attributes: ObjectAttributes
    precondition: Precondition
    token: str = ""


class CopyPart(msgspec.Struct, frozen=True, tag=True):
    source: CopySource
    key: str
    upload_id: str
    number: int
    offset: int
    size: int


class AbortUpload(msgspec.Struct, frozen=True, tag=True):
    key: str
    upload_id: str


class Delete(msgspec.Struct, frozen=True, tag=True):
    key: str
    precondition: Precondition = Precondition()


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
    | GetTags
    | CreateUpload
    | ListParts
    | CompleteUpload
    | CopyObject
    | CopyPart
    | AbortUpload
    | Delete
    | ReadBack
    | PutBytes
    | GetBytes
)


# Made once and here: msgspec works out a type on its first use, and crashes if two threads do so at once.
_DECODERS: dict[Any, msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(kind)
    for kind in (
        Capabilities, ObjectInfo, Page, list[StoredPart], StoredPart, Stored, CopyStep, str, int, bytes, type(None),
        dict[str, str],
    )
}  # fmt: skip


def decode_result(data: bytes, kind: Any) -> Any:
    """The encoded result of a call as the given type, which must be one of those that calls have."""
    return _DECODERS[kind].decode(data)


def perform(store: ObjectStore, call: StoreCall) -> Any:
    """Do what ``call`` says on ``store``; the result is a value that msgpack can carry."""
    match call:
        case GetCapabilities():
            return store.capabilities
        case ListPage():
            return _page(store, call)
        case Head():
            return store.head(call.key)
        case GetTags():
            return tags_of(store, call.key)
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
        case CopyObject() | CopyPart():
            return _copy(copying(store), call)
        case AbortUpload():
            return store.abort_upload(call.key, call.upload_id)
        case Delete():
            return store.delete(call.key, call.precondition)
        case ReadBack() | PutBytes() | GetBytes():
            return _whole(store, call)


def _copy(store: CopyingStore, call: CopyObject | CopyPart) -> Any:
    match call:
        case CopyObject():
            return store.copy(call.source, call.key, call.attributes, call.precondition, call.token)
        case CopyPart():
            return store.copy_part(call.source, call.key, call.upload_id, call.number, call.offset, call.size)


def _whole(store: ObjectStore, call: ReadBack | PutBytes | GetBytes) -> Any:
    match call:
        case ReadBack():
            return read_back(store, call.key, call.version, call.size)
        case PutBytes():
            return put_bytes(store, call.key, call.data)
        case GetBytes():
            return get_bytes(store, call.key)


def _page(store: ObjectStore, call: ListPage) -> Page:
    if isinstance(store, RangeListing):
        return page_behind(store, call.start_after, call.prefix, call.delimiter)
    listing = store.list(call.prefix, start_after=call.start_after, delimiter=call.delimiter)
    objects = list(itertools.islice(listing, call.limit))
    return Page(objects, more=len(objects) == call.limit)
