"""The model of an object store: versions, preconditions, uploads, and checksums that it really computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from skyplane_core.checksum import combined_crc32c, crc32c, crc32c_and_crc64nvme
from skyplane_core.errors import (
    ChecksumMismatch,
    ObjectNotFound,
    PreconditionFailed,
    SourceChanged,
    StoreRejected,
    UploadNotFound,
)
from skyplane_core.model import (
    Attestation,
    Copied,
    CopySource,
    CopyStep,
    ObjectAttributes,
    ObjectInfo,
    Precondition,
    Stored,
    StoredPart,
)
from skyplane_core.stores.base import Capabilities, ReadResult
from skyplane_core.stores.paging import Page

COPY_STEP = 15
"""Bytes that one call of a copy moves."""


class Held(NamedTuple):
    """One version of one object."""

    version: str
    data: bytes
    attributes: ObjectAttributes


class Part(NamedTuple):
    part: StoredPart
    data: bytes


class Upload:
    def __init__(self, key: str, attributes: ObjectAttributes, *, ours: bool) -> None:
        self.key = key
        self.attributes = attributes
        self.parts: dict[int, Part] = {}
        self.ours = ours


class ModelStore:
    """One bucket. Every call takes effect at once; losing and delaying calls is the wire's work.

    Args:
        name: for version names.
        attests: whether it computes a checksum over each object, checks what arrives against it, and reports it.
        versioned: whether a version that was replaced can still be read.
        same_id: whether a part that is put again gets the id that it had, as it does where ids are MD5 sums.
        attributes_listed: whether a listing carries attributes.
        wide: what it computes is a CRC64NVME, which no listing shows and no answer to a read of a part.
        max_copy: bytes that it copies by itself in one call; larger objects part by part.
    """

    uri = "s3://model"

    def __init__(
        self,
        name: str,
        *,
        attests: bool = True,
        versioned: bool = False,
        same_id: bool = True,
        attributes_listed: bool = True,
        wide: bool = False,
        max_copy: int = 0,
    ) -> None:
        self.capabilities = Capabilities(
            Attestation.WHOLE if attests else Attestation.READ_BACK,
            min_part_size=1,
            listing_has_attributes=attributes_listed,
            listing_ranges=attributes_listed,
            listing_has_crc32c=attests and not wide,
            max_copy=max_copy,
            copies_parts=True,
            conditional_copy=True,
        )
        self.attests = attests
        self.uri = f"model://{name}"
        self.objects: dict[str, Held] = {}
        self.history: dict[tuple[str, str], bytes] = {}
        self.uploads: dict[str, Upload] = {}
        self.replacing: Callable[[str, Held | None], None] = lambda key, there: None
        """Told what a write through the protocol replaces."""
        self.beside: ModelStore = self
        """The store that it copies from."""
        self.copying: Callable[[bytes], bytes] = bytes
        """Told what a copy reads; returns what it writes, or refuses."""
        self.completed: dict[str, str] = {}
        self._versioned = versioned
        self._same_id = same_id
        self._attributes_listed = attributes_listed
        self._wide = wide
        self._name = name
        self._count = 0

    # --- ObjectStore -------------------------------------------------------------------------------------------------

    def list(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[ObjectInfo]:
        keys = [key for key in sorted(self.objects) if key.startswith(prefix) and key > start_after]
        return iter([self._info(key, attributes=self._attributes_listed, listed=True) for key in keys])

    def list_pages(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[Page]:
        found = list(self.list(prefix, start_after=start_after, delimiter=delimiter))
        for first in range(0, max(1, len(found)), 2):
            yield Page(found[first : first + 2], first + 2 < len(found))

    def head(self, key: str) -> ObjectInfo:
        if key not in self.objects:
            raise ObjectNotFound("no such object", where=key)
        return self._info(key, attributes=True)

    def create_upload(self, key: str, attributes: ObjectAttributes, *, ours: bool = True) -> str:
        upload_id = f"{'u' if ours else 'foreign'}{self._next()}"
        self.uploads[upload_id] = Upload(key, attributes, ours=ours)
        return upload_id

    def list_parts(self, key: str, upload_id: str) -> Iterator[StoredPart]:
        parts = self._upload(key, upload_id).parts
        return iter([parts[number].part for number in sorted(parts)])

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
        listed = list(parts)
        try:
            upload = self._upload(key, upload_id)
        except UploadNotFound:
            # A completion that took effect before returns the same, as the protocol says.
            there = self.objects.get(key)
            if there is not None and self.completed.get(upload_id) == there.version:
                return self._stored(there)
            raise
        for part in listed:
            held = upload.parts.get(part.number)
            if held is None or held.part.part_id != part.part_id:
                raise StoreRejected("a part is not the one that was put", where=f"{key}, part {part.number}")
        data = b"".join(upload.parts[part.number].data for part in listed)
        if len(data) != size or (self.attests and combined_crc32c(_sums(upload, listed)) != crc32c):
            raise ChecksumMismatch("the parts are not the object", where=key)
        self._check(key, precondition)
        del self.uploads[upload_id]
        self.replacing(key, self.objects.get(key))
        held = self.write(key, data, upload.attributes)
        self.completed[upload_id] = held.version
        return self._stored(held)

    def copy(
        self,
        source: CopySource,
        key: str,
        attributes: ObjectAttributes,
        precondition: Precondition,
        token: str = "",
    ) -> CopyStep:
        whole = self._source_of(source)
        moved = int(token or 0) + COPY_STEP
        if moved < len(whole):
            return CopyStep(token=str(moved), moved=moved)
        data = self.copying(whole)
        self._check(key, precondition)
        self.replacing(key, self.objects.get(key))
        stored = self._stored(self.write(key, data, attributes))
        if not self.attests or source.info.crc32c is not None or source.info.crc64nvme is None:
            return CopyStep(Copied(stored))
        attested = Stored(stored.version, stored.size, None, Attestation.WHOLE)
        return CopyStep(Copied(attested, _wide(data)))

    def copy_part(
        self, source: CopySource, key: str, upload_id: str, number: int, offset: int, size: int
    ) -> StoredPart:
        data = self.copying(self._source_of(source)[offset : offset + size])
        return self.put_part(key, upload_id, number, offset, memoryview(data), crc32c=_crc(data))

    def _source_of(self, source: CopySource) -> bytes:
        held = self.beside.objects.get(source.info.key)
        if held is None or held.version != source.info.version:
            raise SourceChanged("the object changed", where=source.info.key)
        return held.data

    def abort_upload(self, key: str, upload_id: str) -> None:
        upload = self.uploads.get(upload_id)
        if upload is not None and upload.key == key:
            del self.uploads[upload_id]

    def delete(self, key: str, precondition: Precondition = Precondition()) -> None:
        there = self.objects.get(key)
        if precondition.version and (there is None or there.version != precondition.version):
            raise PreconditionFailed("another version is there", where=key)
        self.objects.pop(key, None)

    def data(self) -> ModelStore:
        return self

    def close(self) -> None:
        pass

    # --- DataPath ----------------------------------------------------------------------------------------------------

    def read_into(self, key: str, version: str, offset: int, buffer: memoryview) -> ReadResult:
        held = self.objects.get(key)
        whole = held.data if held is not None and held.version == version else None
        if whole is None and self._versioned:
            whole = self.history.get((key, version))
        if whole is None:
            raise SourceChanged("the object changed", where=key)
        buffer[:] = whole[offset : offset + len(buffer)]
        if not self.attests or (self._wide and len(buffer) < len(whole)):
            return ReadResult(ObjectAttributes())
        return ReadResult(ObjectAttributes(), None if self._wide else _crc(whole), _wide(whole) if self._wide else None)

    def put_object(
        self, key: str, data: memoryview, *, crc32c: int, attributes: ObjectAttributes, precondition: Precondition
    ) -> Stored:
        whole = bytes(data)
        if self.attests and _crc(whole) != crc32c:
            raise ChecksumMismatch("other bytes came than were sent", where=key)
        self._check(key, precondition)
        self.replacing(key, self.objects.get(key))
        return self._stored(self.write(key, whole, attributes))

    def put_part(
        self, key: str, upload_id: str, number: int, offset: int, data: memoryview, *, crc32c: int
    ) -> StoredPart:
        upload, whole = self._upload(key, upload_id), bytes(data)
        ours = _crc(whole)
        if self.attests and ours != crc32c:
            raise ChecksumMismatch("other bytes came than were sent", where=key)
        name = f"{ours:08x}" if self._same_id else f"{ours:08x}-{self._next()}"
        part = StoredPart(number, name, len(whole), ours if self.attests else None)
        upload.parts[number] = Part(part, whole)
        return part

    # --- for the world -----------------------------------------------------------------------------------------------

    def write(self, key: str, data: bytes, attributes: ObjectAttributes = ObjectAttributes()) -> Held:
        """A new version of an object, whoever writes it."""
        held = Held(f"{self._name}{self._next()}", data, attributes)
        self.objects[key] = held
        self.history[key, held.version] = data
        return held

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _upload(self, key: str, upload_id: str) -> Upload:
        upload = self.uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise UploadNotFound("no such upload", where=key, why=upload_id)
        return upload

    def _check(self, key: str, precondition: Precondition) -> None:
        there = self.objects.get(key)
        if precondition.absent and there is not None:
            raise PreconditionFailed("an object is there", where=key)
        if precondition.version and (there is None or there.version != precondition.version):
            raise PreconditionFailed("another version is there", where=key)

    def _stored(self, held: Held) -> Stored:
        if not self.attests:
            return Stored(held.version, len(held.data))
        return Stored(held.version, len(held.data), _crc(held.data), Attestation.WHOLE)

    def _info(self, key: str, *, attributes: bool, listed: bool = False) -> ObjectInfo:
        held = self.objects[key]
        return ObjectInfo(
            key,
            len(held.data),
            held.version,
            crc32c=_crc(held.data) if self.attests and not self._wide else None,
            attributes=held.attributes if attributes else None,
            crc64nvme=_wide(held.data) if self.attests and self._wide and not listed else None,
        )


def _crc(data: bytes) -> int:
    return crc32c(data)


def _wide(data: bytes) -> int:
    return crc32c_and_crc64nvme(memoryview(data))[1]


def _sums(upload: Upload, listed: list[StoredPart]) -> list[tuple[int, int]]:
    return [(_crc(upload.parts[part.number].data), part.size) for part in listed]
