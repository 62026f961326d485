"""What the server knows: buckets, objects with their versions, open uploads. In memory, behind one lock.

The protocols read objects as immutable values and change the state only through :class:`Bucket`'s methods, each of
which is atomic and takes the precondition to be checked at that very moment.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

from skyplane_core.testing.objectserver.arena import Arena
from skyplane_core.testing.objectserver.blobs import Blob
from skyplane_core.testing.objectserver.messages import ApiError

CONTENT_HEADERS = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)
"""Headers that are stored with an object and given back with it."""


@dataclasses.dataclass(slots=True, frozen=True)
class StoredObject:
    """One version of one object. ``deleted`` marks a version that says the object is gone (a delete marker).

    ``checksums`` are those that S3 attests, base64 by algorithm (a composite one ends in ``-N``), of ``checksum_type``.
    ``part_sizes`` is empty for an object that was written in one piece; ``components`` counts the pieces of a GCS
    composite object (0: not composite). ``generation`` grows with every write to the server.
    """

    key: str
    blob: Blob
    etag: str
    generation: int
    modified: float
    created: float
    attributes: dict[str, str] = dataclasses.field(default_factory=dict)
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    checksums: dict[str, str] = dataclasses.field(default_factory=dict)
    checksum_type: str = "FULL_OBJECT"
    part_sizes: tuple[int, ...] = ()
    metageneration: int = 1
    md5: bytes | None = None
    components: int = 0
    deleted: bool = False

    @property
    def version_id(self) -> str:
        """The generation, as S3 would show it."""
        return f"{self.generation:032x}"


@dataclasses.dataclass(slots=True)
class StoredPart:
    """One part of an open upload."""

    number: int
    blob: Blob
    etag: str
    modified: float
    checksum: str = ""


@dataclasses.dataclass(slots=True)
class Upload:
    """An open multipart upload, resumable session or uncommitted block list."""

    id: str
    key: str
    created: float
    attributes: dict[str, str]
    metadata: dict[str, str]
    algorithm: str = ""
    checksum_type: str = ""
    parts: dict[int, StoredPart] = dataclasses.field(default_factory=dict)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


Condition = Callable[[StoredObject | None], None]
"""Looks at the current object (None: there is none) and raises ApiError if the write must not happen."""


class Bucket:
    """The objects and uploads of one bucket. Every method is atomic."""

    def __init__(self, name: str, lock: threading.RLock, *, versioning: bool) -> None:
        self.name = name
        self.created = time.time()
        self.versioning = versioning
        self.uploads: dict[str, Upload] = {}
        # Azure's blocks by id: those that wait, by key; those of a committed blob, by its generation.
        self.blocks: dict[str, dict[str, Blob]] = {}
        self.committed: dict[int, dict[str, Blob]] = {}
        self._lock = lock
        self._keys: list[str] = []
        self._versions: dict[str, list[StoredObject]] = {}

    def current(self, key: str) -> StoredObject | None:
        """The live object at ``key``."""
        versions = self._versions.get(key)
        if not versions:
            return None
        newest = versions[-1]
        return None if newest.deleted else newest

    def version(self, key: str, generation: int) -> StoredObject | None:
        """That very version, live or not; may be a delete marker."""
        with self._lock:
            return next((found for found in self._versions.get(key, ()) if found.generation == generation), None)

    def put(self, stored: StoredObject, condition: Condition | None = None) -> StoredObject | None:
        """Make ``stored`` the current version of its key; returns the one that it replaces."""
        with self._lock:
            before = self.current(stored.key)
            if condition is not None:
                condition(before)
            versions = self._versions.get(stored.key)
            if versions is None:
                self._versions[stored.key] = [stored]
                bisect.insort(self._keys, stored.key)
            elif self.versioning:
                versions.append(stored)
            else:
                self._versions[stored.key] = [stored]
            return before

    def replace(self, old: StoredObject, new: StoredObject) -> None:
        """Swap a version for one with other metadata. Raises ApiError if ``old`` is no longer there."""
        with self._lock:
            versions = self._versions.get(old.key, [])
            for index, found in enumerate(versions):
                if found is old:
                    versions[index] = new
                    return
            raise ApiError(412, "PreconditionFailed", "the object changed meanwhile")

    def delete(self, key: str, condition: Condition | None = None) -> StoredObject | None:
        """Remove the current object for good, all its versions with it; returns it, None if there was none."""
        with self._lock:
            before = self.current(key)
            if condition is not None:
                condition(before)
            if key in self._versions:
                self._forget(key)
            return before

    def delete_version(self, key: str, generation: int, condition: Condition | None = None) -> StoredObject | None:
        """Remove one version for good; returns it, None if there was none."""
        with self._lock:
            versions = self._versions.get(key, [])
            for index, found in enumerate(versions):
                if found.generation == generation:
                    if condition is not None:
                        condition(found)
                    del versions[index]
                    if not versions:
                        self._forget(key)
                    return found
            return None

    def _forget(self, key: str) -> None:
        del self._versions[key]
        del self._keys[bisect.bisect_left(self._keys, key)]

    def objects(self, prefix: str = "", start: str = "", *, after: bool = False) -> Iterator[StoredObject]:
        """Live objects under ``prefix`` from the key ``start`` on (``after``: without it), in order of UTF-8 bytes.

        Code points sort as their UTF-8 bytes do, so the keys are kept as text. Objects that come or go
        during the iteration may or may not be seen, all others are seen once.
        """
        for key in self.keys(prefix, start, after=after):
            stored = self.current(key)
            if stored is not None:
                yield stored

    def keys(self, prefix: str = "", start: str = "", *, after: bool = False) -> Iterator[str]:
        """Keys with at least one version, as :meth:`objects` orders them."""
        at, find = max(prefix, start), bisect.bisect_right if after and start >= prefix else bisect.bisect_left
        while True:
            with self._lock:
                index = find(self._keys, at)
                page = self._keys[index : index + 1024]
            for key in page:
                if not key.startswith(prefix):
                    return
                yield key
            if not page:
                return
            at, find = page[-1], bisect.bisect_right

    def versions(self, key: str) -> list[StoredObject]:
        """All versions of a key, newest first."""
        with self._lock:
            return list(reversed(self._versions.get(key, ())))

    def upload(self, upload_id: str, key: str) -> Upload:
        """An open upload. Raises ApiError NoSuchUpload."""
        found = self.uploads.get(upload_id)
        if found is None or found.key != key:
            raise ApiError(
                404,
                "NoSuchUpload",
                "The specified upload does not exist. The upload ID may be invalid, or the upload may have been "
                "aborted or completed.",
                fields={"UploadId": upload_id},
            )
        return found

    def finish_upload(self, upload: Upload, stored: StoredObject, condition: Condition | None) -> None:
        """Make the object of an upload visible and close the upload, both or neither."""
        with self._lock:
            self.upload(upload.id, upload.key)
            self.put(stored, condition)
            del self.uploads[upload.id]

    def abort_upload(self, upload_id: str, key: str) -> None:
        """Drop an upload and its parts. Raises ApiError NoSuchUpload."""
        with self._lock:
            self.upload(upload_id, key)
            del self.uploads[upload_id]


class State:
    """All buckets of one server, and where their bytes live."""

    def __init__(
        self,
        directory: str,
        *,
        versioning: bool = False,
        md5: bool = False,
        requester_pays: Collection[str] = (),
        public: Collection[str] = (),
        hierarchical: bool = False,
    ) -> None:
        self.arena = Arena(directory)
        self.versioning = versioning
        self.md5 = md5
        self.hierarchical = hierarchical
        self.requester_pays = frozenset(requester_pays)
        self.public = frozenset(public)
        self.lock = threading.RLock()
        self._buckets: dict[str, Bucket] = {}
        self._generations = itertools.count(int(time.time() * 1_000_000))

    def bucket(self, name: str) -> Bucket:
        """Raises ApiError NoSuchBucket."""
        found = self._buckets.get(name)
        if found is None:
            raise ApiError(404, "NoSuchBucket", "The specified bucket does not exist", fields={"BucketName": name})
        return found

    def create_bucket(self, name: str) -> Bucket:
        """Raises ApiError BucketAlreadyOwnedByYou."""
        with self.lock:
            if name in self._buckets:
                raise ApiError(409, "BucketAlreadyOwnedByYou", "You already own this bucket")
            self._buckets[name] = made = Bucket(name, self.lock, versioning=self.versioning)
            return made

    def delete_bucket(self, name: str) -> None:
        """Raises ApiError NoSuchBucket or BucketNotEmpty."""
        with self.lock:
            if next(self.bucket(name).keys(), None) is not None:
                raise ApiError(409, "BucketNotEmpty", "The bucket you tried to delete is not empty")
            del self._buckets[name]

    def drop_bucket(self, name: str) -> None:
        """As :meth:`delete_bucket`, with all that is in it."""
        with self.lock:
            self.bucket(name)
            del self._buckets[name]

    def buckets(self) -> list[Bucket]:
        """By name."""
        with self.lock:
            return [self._buckets[name] for name in sorted(self._buckets)]

    def generation(self) -> int:
        """The next generation number: unique and growing."""
        return next(self._generations)

    def new_object(self, key: str, blob: Blob, **fields: Any) -> StoredObject:
        """A new version of ``key``, not yet visible. Without an ``etag`` one is made up (the MD5, if wanted)."""
        now = time.time()
        md5 = fields.pop("md5", None) or blob.digests.get("MD5")
        etag = fields.pop("etag", "")
        if not etag:
            etag = blob.digest("MD5").hex() if self.md5 else opaque_etag()
        return StoredObject(key, blob, etag, self.generation(), now, now, md5=md5, **fields)


def opaque_etag() -> str:
    """An ETag that says nothing about the bytes, as those of SSE-KMS objects do."""
    return os.urandom(16).hex()
