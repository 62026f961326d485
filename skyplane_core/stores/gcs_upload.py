"""Multipart uploads of GCS (XML API): open, look at, complete with attestation, abort."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from skyplane_core.errors import (
    BucketNotFound,
    ObjectNotFound,
    PreconditionFailed,
    StoreRejected,
    StoreUnavailable,
    UploadNotFound,
)
from skyplane_core.model import Attestation, ObjectAttributes, Precondition, Stored, StoredPart
from skyplane_core.stores import gcs_wire as wire
from skyplane_core.stores import gcs_xml as xml
from skyplane_core.stores.gcs_calls import GcsCalls, open_http
from skyplane_core.stores.gcs_data import reject_written
from skyplane_core.stores.http_data import HttpData
from skyplane_core.stores.http_pool import ConnectionPool
from skyplane_core.stores.paging import Pages

_PAGE = 1000
# A page of the longest keys, escaped, has to fit into what the HTTP client keeps of an answer.
_UPLOADS_PAGE = 100
_COMPLETION_TIMEOUT = 600.0
"""Seconds. GCS says that a completion can take several minutes, and sends nothing meanwhile."""


class GcsUploads:
    """The multipart half of the store's protocol, for one bucket. Thread-safe."""

    def __init__(self, calls: GcsCalls, pool: ConnectionPool) -> None:
        self._calls = calls
        self._pool = pool
        self._bucket = calls.config.bucket

    def create(self, key: str, attributes: ObjectAttributes) -> str:
        """As the protocol says. Attributes beyond what headers can carry are parked and set on completion."""
        self._calls.check_key(key)
        fits = wire.fits_headers(attributes)
        with self._pool.connection() as http:
            answer = self._calls.send(
                http,
                "POST",
                wire.xml_target(self._bucket, key, flag="uploads"),
                "cannot open a multipart upload",
                key=key,
                headers=(wire.attribute_headers(attributes) if fits else wire.stash_headers(attributes))
                | wire.placement_headers(attributes, self._calls.config.kms_key),
                missing=BucketNotFound,
            )
        try:
            return xml.parse_initiate(answer.body)
        except ValueError as error:
            raise self._calls.garbled(error, key) from error

    def parts(self, key: str, upload_id: str) -> Iterator[StoredPart]:
        marker = 0
        while True:
            target = wire.xml_target(
                self._bucket, key, uploadId=upload_id, max_parts=_PAGE, part_number_marker=marker or ""
            )
            with self._pool.connection() as http:
                answer = self._calls.send(http, "GET", target, "cannot list parts", key=key, missing=UploadNotFound)
            try:
                page = xml.parse_parts(answer.body)
                if page.next_marker is not None and page.next_marker <= marker:
                    raise ValueError("the next page of parts is not after this one")
            except ValueError as error:
                raise self._calls.garbled(error, key) from error
            yield from page.parts
            if page.next_marker is None:
                return
            marker = page.next_marker

    def complete(
        self, key: str, upload_id: str, parts: list[StoredPart], size: int, crc32c: int, precondition: Precondition
    ) -> Stored:
        """As the protocol says, but for ``precondition``, which is looked at before and not atomically.

        Raises:
            PreconditionFailed: it did not hold, or somebody else's object took the place of ours at once.
            ChecksumMismatch: GCS's checksum is not ours; exactly the generation that we wrote was deleted.
        """
        if sum(part.size for part in parts) != size:
            raise StoreRejected(f"the parts do not add up to {size} bytes", where=self._calls.where(key))
        if (done := self._check(key, upload_id, size, crc32c, precondition)) is not None:
            return done
        with contextlib.closing(open_http(self._calls.config, _COMPLETION_TIMEOUT)) as http:
            try:
                answer = self._calls.send(
                    http,
                    "POST",
                    wire.xml_target(self._bucket, key, uploadId=upload_id),
                    "cannot complete the upload",
                    key=key,
                    headers={"Content-Type": "application/xml"},
                    body=xml.build_complete(parts),
                    missing=UploadNotFound,
                )
            except UploadNotFound:
                if (done := self._already(http, key, size, crc32c)) is None:
                    raise
                return done
            if (failure := xml.parse_error(answer.body)) is not None:
                raise StoreUnavailable("the completion failed", where=self._calls.where(key), why=" ".join(failure))
            try:
                etag = xml.parse_complete(answer.body)
            except ValueError as error:
                raise self._calls.garbled(error, key) from error
            return self._attest(http, key, etag, answer.headers.get("x-goog-generation", ""), size, crc32c)

    def abort(self, key: str, upload_id: str) -> None:
        with self._pool.connection() as http, contextlib.suppress(UploadNotFound):
            target = wire.xml_target(self._bucket, key, uploadId=upload_id)
            self._calls.send(http, "DELETE", target, "cannot abort the upload", key=key, missing=UploadNotFound)

    def open_uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        key_marker = upload_marker = encoding = ""
        pages = Pages(self._calls.where(""))
        while True:
            target = wire.xml_target(
                self._bucket,
                flag="uploads",
                prefix=prefix,
                max_uploads=_UPLOADS_PAGE,
                key_marker=key_marker,
                upload_id_marker=upload_marker,
                encoding_type=encoding,
            )
            with self._pool.connection() as http:
                answer = self._calls.send(http, "GET", target, "cannot list uploads", missing=BucketNotFound)
            try:
                page = xml.parse_uploads(answer.body)
                if page.next_key and page.next_key.encode() < key_marker.encode():
                    raise ValueError("the next page of uploads is not after this one")
            except ValueError as error:
                if encoding:
                    raise self._calls.garbled(error) from error
                # A key with a control character, which XML cannot hold.
                encoding = "url"
                continue
            yield from (found for found in page.uploads if found[0].startswith(prefix))
            if not (page.next_key or page.next_upload):
                return
            pages.turn((page.next_key, page.next_upload), len(page.uploads))
            key_marker, upload_marker = page.next_key, page.next_upload

    def _check(self, key: str, upload_id: str, size: int, crc32c: int, precondition: Precondition) -> Stored | None:
        """None if ``precondition`` holds; the result if it does not because this very upload was completed before."""
        if not (precondition.absent or precondition.version):
            return None
        with self._pool.connection() as http:
            try:
                current = self._calls.head(http, key).generation
            except ObjectNotFound:
                current = ""
            if current == precondition.version:
                return None
            if not self._is_open(key, upload_id) and (done := self._already(http, key, size, crc32c)) is not None:
                return done
        raise PreconditionFailed(
            "the destination is not what was expected",
            where=self._calls.where(key),
            why=f"its generation is {current or 'none'}, not {precondition.version or 'none'}",
        )

    def _is_open(self, key: str, upload_id: str) -> bool:
        try:
            next(self.parts(key, upload_id), None)
        except UploadNotFound:
            return False
        return True

    def _already(self, http: HttpData, key: str, size: int, crc32c: int) -> Stored | None:
        """The current object as the result of an earlier completion, if it holds exactly our bytes."""
        try:
            found = self._calls.head(http, key)
        except ObjectNotFound:
            return None
        if found.size != size or wire.decode_crc32c(found.crc32c) != crc32c:
            return None
        self._unstash(http, key, found)
        return Stored(found.generation, size, crc32c, Attestation.WHOLE)

    def _attest(self, http: HttpData, key: str, etag: str, generation: str, size: int, crc32c: int) -> Stored:
        """What GCS says about the object that a completion made.

        The answer to a completion is not documented to name the generation, so a HEAD asks; its ETag tells whether
        the object is still ours.
        """
        target = wire.xml_target(self._bucket, key, generation=generation)
        headers = {"Accept-Encoding": "gzip"}
        answer = self._calls.send(
            http, "HEAD", target, "the completed object is gone", key=key, headers=headers, missing=PreconditionFailed
        )
        ours = bool(generation) or answer.headers.get("ETag", "").strip('"') == etag.strip('"')
        stored = Stored(
            version=answer.headers.get("x-goog-generation", generation),
            size=size,
            crc32c=wire.hash_crc32c(answer.headers),
            attestation=Attestation.WHOLE,
        )
        if stored.crc32c != crc32c:
            if ours:
                reject_written(self._calls, http, key, stored, crc32c)
            raise PreconditionFailed("somebody else replaced the object at once", where=self._calls.where(key))
        if wire.META + wire.STASH in answer.headers:
            self._unstash(http, key, self._calls.head(http, key, stored.version))
        return stored

    def _unstash(self, http: HttpData, key: str, found: wire.JsonObject) -> None:
        """Give an object the attributes that were parked in its metadata, if any were."""
        if wire.STASH not in found.metadata:
            return
        try:
            attributes = wire.unstash(found.metadata[wire.STASH])
        except ValueError as error:
            raise self._calls.garbled(error, key) from error
        self._calls.patch(
            http,
            key,
            found,
            {**wire.json_attributes(attributes), "metadata": {**attributes.metadata, wire.STASH: None}},
        )
