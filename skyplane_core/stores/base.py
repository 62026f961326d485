"""What the engine asks of an object store: one small protocol, and capabilities as data.

Code elsewhere never asks which store it has, only what that store can do. A store has two faces:

* :class:`ObjectStore`: control calls, made by a store agent. Thread-safe.
* :class:`DataPath`: part bytes, moved by data threads. One per thread, *not* thread-safe, no SDK in the way:
  a keep-alive HTTP connection (or a file descriptor) and the caller's own buffers.

Every call raises the errors of :mod:`skyplane_core.errors` and nothing else; ``where`` is the object's URI.
Every call may be repeated: reads are pinned to a version, writes to a part number or a precondition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, runtime_checkable

import msgspec

from skyplane_core.errors import StoreRejected
from skyplane_core.model import (
    Attestation,
    CopySource,
    CopyStep,
    ObjectAttributes,
    ObjectInfo,
    Precondition,
    Stored,
    StoredPart,
)
from skyplane_core.stores.paging import Page

MIB = 1024 * 1024
NEXT_FOR_MISSING = (
    "Check the name; keys are case-sensitive. For all objects under a prefix copy with -r (recursive=True)."
)


Landed = Callable[[int], None]
"""Told by a reading thread that so many bytes, from the buffer's beginning on, are there."""
LANDING = 512 * 1024
"""Bytes that are read before whoever wants to look at them is told: few enough to be in the core's own cache."""


class Capabilities(msgspec.Struct, frozen=True):
    """What a store can do, as data.

    Sizes are bytes. ``attestation`` is the strongest that this store gives for an object written part by part;
    ``conditional_put``/``conditional_complete`` say whether a :class:`Precondition` is honoured atomically there;
    ``markers_are_implied``: a key that ends in ``/`` is there as soon as a key below it is, and is not listed then.
    ``listing_ranges``: it is a :class:`RangeListing`, so that several ranges of keys can be listed at once.
    ``keys_are_paths``: a key is a relative path of segments of at most ``max_segment_bytes``; ``folds_case``: keys that
    differ only in case, or in how characters are composed, are one; ``windows_names``: names are those of Windows;
    ``blob_names``: names are those of Azure's blobs.
    ``listing_has_attributes`` and ``listing_has_crc32c`` say whether a HEAD can be saved.
    ``max_copy``: it is a :class:`CopyingStore`, and copies objects of so many bytes in one call; larger ones part by
    part where ``copies_parts``. ``conditional_copy`` is as ``conditional_put``.
    """

    attestation: Attestation
    min_part_size: int = 5 * MIB
    max_part_size: int = 5 * 1024 * MIB
    max_parts: int = 10_000
    max_single_put: int = 5 * 1024 * MIB
    max_object_size: int = 5 * 1024 * 1024 * MIB
    max_key_bytes: int = 1024
    conditional_put: bool = True
    conditional_complete: bool = True
    conditional_delete: bool = False
    markers_are_implied: bool = False
    listing_ranges: bool = False
    keys_are_paths: bool = False
    max_segment_bytes: int = 255
    folds_case: bool = False
    windows_names: bool = False
    blob_names: bool = False
    listing_has_attributes: bool = False
    listing_has_crc32c: bool = False
    max_copy: int = 0
    copies_parts: bool = False
    conditional_copy: bool = False


class ReadResult(msgspec.Struct, frozen=True):
    """What a read's answer says about the object besides its bytes.

    ``crc32c`` and ``crc64nvme`` are the store's checksums of the *whole* object if the answer carries them, else None.
    """

    attributes: ObjectAttributes
    crc32c: int | None = None
    crc64nvme: int | None = None


@runtime_checkable
class DataPath(Protocol):
    """Part bytes of one store, for one thread."""

    def read_into(
        self,
        key: str,
        version: str,
        offset: int,
        buffer: memoryview,
        *,
        whole: bool = False,
        landed: Landed | None = None,
    ) -> ReadResult:
        """Fill ``buffer`` completely with the object's bytes from ``offset``; an empty buffer reads none.

        Args:
            whole: these are all bytes of the object. A store that shows checksums only then is asked for all.
            landed: told every so often how much of ``buffer`` is filled, while the last of it is still in a cache.

        Raises:
            SourceChanged: the object is no longer at ``version`` (or is gone).
            StoreUnavailable: fewer bytes came than were asked for.
        """
        ...

    def put_object(
        self, key: str, data: memoryview, *, crc32c: int, attributes: ObjectAttributes, precondition: Precondition
    ) -> Stored:
        """Write a whole object in one request, with the store's native checksum computed from ``crc32c``.

        Raises:
            PreconditionFailed: the destination is not what ``precondition`` demands.
            ChecksumMismatch: the store received other bytes than we sent.
        """
        ...

    def put_part(
        self, key: str, upload_id: str, number: int, offset: int, data: memoryview, *, crc32c: int
    ) -> StoredPart:
        """Write part ``number`` (from 1), which begins at ``offset`` of the object. Writing it again replaces it.

        Where a part's id tells its bytes, other bytes replace nothing: both are kept until one is completed.

        Raises:
            UploadNotFound: the upload is not open (any more).
        """
        ...

    def close(self) -> None:
        """Close the connection. The object must not be used afterwards."""
        ...


@runtime_checkable
class ObjectStore(Protocol):
    """One bucket, container or directory. Thread-safe."""

    @property
    def uri(self) -> str:
        """``s3://bucket``, ``gs://bucket``, ``az://account/container`` or ``file:///directory``; for messages."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do."""
        ...

    def probe(self) -> None:
        """Raise BucketNotFound, PermissionDenied or Unauthenticated if this store cannot be used at all."""
        ...

    def list(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[ObjectInfo]:
        """Objects whose key starts with ``prefix``, in ascending order of the key's UTF-8 bytes, as a stream.

        Keys up to and including ``start_after`` are left out. With a ``delimiter``, keys that contain it after the
        prefix are left out, and nothing stands in for them.
        """
        ...

    def head(self, key: str) -> ObjectInfo:
        """One object, with its attributes. Raises ObjectNotFound."""
        ...

    def create_upload(self, key: str, attributes: ObjectAttributes) -> str:
        """Open a multipart upload and return its id. Nothing is visible at ``key`` until it is completed."""
        ...

    def list_parts(self, key: str, upload_id: str) -> Iterator[StoredPart]:
        """The parts that the store holds for an open upload, by part number. Raises UploadNotFound."""
        ...

    def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Iterable[StoredPart],
        *,
        size: int,
        crc32c: int,
        precondition: Precondition,
    ) -> Stored:
        """Make the object visible, whole or not at all; ``crc32c`` is over the whole object.

        Where the store computes a whole-object checksum, it is compared here (ChecksumMismatch) and the result is
        attested. Repeating a completion that already took effect returns the same Stored.
        """
        ...

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an open upload and its parts; one that is not open is no error."""
        ...

    def list_uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """``(key, upload id)`` of the open uploads under ``prefix``."""
        ...

    def delete(self, key: str, precondition: Precondition = Precondition()) -> None:
        """Delete one object; one that is not there is no error unless ``precondition`` names a version."""
        ...

    def data(self) -> DataPath:
        """A new data path for the calling thread."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...


@runtime_checkable
class RangeListing(Protocol):
    """What a store has besides that can begin a listing anywhere at the price of one request."""

    @property
    def uri(self) -> str:
        """As :attr:`ObjectStore.uri`."""
        ...

    def list_pages(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[Page]:
        """As :meth:`ObjectStore.list`, a page at a time. ``start_after`` may be any text."""
        ...


@runtime_checkable
class TaggedStore(Protocol):
    """A store whose objects have tags, which cost a request of their own."""

    def tags(self, key: str) -> dict[str, str]:
        """The object's tags. Raises ObjectNotFound."""
        ...


@runtime_checkable
class CopyingStore(Protocol):
    """A store that copies objects by itself, from any bucket of its service that its credentials can read."""

    def copy(
        self,
        source: CopySource,
        key: str,
        attributes: ObjectAttributes,
        precondition: Precondition,
        token: str = "",
    ) -> CopyStep:
        """Copy a whole object of at most ``capabilities.max_copy`` bytes. It gets ``attributes``, not the source's.

        A store may want several calls for it, so that none takes long: what one returns says how to go on.

        Raises:
            SourceChanged: the source is no longer at the version of ``source.info`` (or is gone).
            PreconditionFailed: the destination is not what ``precondition`` demands.
            PermissionDenied, StoreRejected: the store does not do it, perhaps as the source cannot be read from here.
        """
        ...

    def copy_part(
        self, source: CopySource, key: str, upload_id: str, number: int, offset: int, size: int
    ) -> StoredPart:
        """As :meth:`DataPath.put_part`, with ``size`` bytes of the source from ``offset``.

        Raises:
            StoreRejected: the store does not do it, or says no checksum of the part.
        """
        ...


def copying(store: ObjectStore) -> CopyingStore:
    """The store as one that copies. Raises StoreRejected if it is none."""
    if isinstance(store, CopyingStore):
        return store
    raise StoreRejected("the store does not copy objects by itself", where=store.uri)


def tags_of(store: ObjectStore, key: str) -> dict[str, str]:
    """The tags of an object of a store that has some."""
    return store.tags(key) if isinstance(store, TaggedStore) else {}
