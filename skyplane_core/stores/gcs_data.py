"""Part bytes of GCS, over the XML API."""

from __future__ import annotations

import secrets

from skyplane_core.errors import (
    BucketNotFound,
    ChecksumMismatch,
    ObjectNotFound,
    SourceChanged,
    StoreError,
    StoreRejected,
    StoreUnavailable,
    UploadNotFound,
)
from skyplane_core.model import Attestation, ObjectAttributes, Precondition, Stored, StoredPart
from skyplane_core.stores import gcs_wire as wire
from skyplane_core.stores.base import Landed, ReadResult
from skyplane_core.stores.gcs_calls import GcsCalls, open_http
from skyplane_core.stores.http_data import DATA_TIMEOUT, Answer, HttpData

_READ = "cannot read the object"


class GcsData:
    """A :class:`~skyplane_core.stores.base.DataPath` on one keep-alive connection."""

    def __init__(self, calls: GcsCalls) -> None:
        self._calls = calls
        self._bucket = calls.config.bucket
        self._http = open_http(calls.config, DATA_TIMEOUT)

    def read_into(
        self,
        key: str,
        version: str,
        offset: int,
        buffer: memoryview,
        *,
        whole: bool = False,  # noqa: ARG002 - the protocol's
        landed: Landed | None = None,
    ) -> ReadResult:
        """As the protocol says. ``crc32c`` is over the whole object as stored, whatever range was asked for."""
        target = wire.xml_target(self._bucket, key, generation=version)
        # Without accepting gzip, GCS unpacks an object whose Content-Encoding is gzip, and then ignores the range.
        headers = {"Accept-Encoding": "gzip"}
        if not len(buffer):
            answer = self._calls.send(
                self._http,
                "HEAD",
                target,
                _READ,
                key=key,
                headers=headers,
                missing=SourceChanged,
                conflict=SourceChanged,
            )
        else:
            headers["Range"] = f"bytes={offset}-{offset + len(buffer) - 1}"
            answer = self._get(key, target, headers, buffer, landed)
        if answer.headers.defects:
            # A metadata name that is no header name is not among the headers; the JSON API has it. The version is
            # pinned by the request, and the status said that it is the range.
            described = self._head(key, version)
            return ReadResult(described.attributes(), wire.decode_crc32c(described.crc32c))
        self._check_answer(key, version, offset, buffer, answer)
        attributes = wire.parse_attributes(answer.headers)
        if attributes is None:
            attributes = self._head(key, version).attributes()
        return ReadResult(attributes=attributes, crc32c=wire.hash_crc32c(answer.headers))

    def put_object(
        self, key: str, data: memoryview, *, crc32c: int, attributes: ObjectAttributes, precondition: Precondition
    ) -> Stored:
        """As the protocol says; attested WHOLE, because GCS returns the checksum that it computed."""
        self._calls.check_key(key)
        if wire.fits_headers(attributes):
            stored = self._put_xml(key, data, crc32c, attributes, precondition)
        else:
            stored = self._put_json(key, data, crc32c, attributes, precondition)
        if stored.crc32c != crc32c:
            reject_written(self._calls, self._http, key, stored, crc32c)
        return stored

    def put_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        offset: int,  # noqa: ARG002  GCS orders parts by their number
        data: memoryview,
        *,
        crc32c: int,
    ) -> StoredPart:
        """As the protocol says; GCS refuses a part whose bytes do not have ``crc32c``."""
        answer = self._calls.send(
            self._http,
            "PUT",
            wire.xml_target(self._bucket, key, partNumber=number, uploadId=upload_id),
            f"cannot write part {number}",
            key=key,
            headers={"x-goog-hash": f"crc32c={wire.encode_crc32c(crc32c)}"},
            body=data,
            missing=UploadNotFound,
        )
        etag = answer.headers.get("ETag")
        if not etag:
            raise self._calls.garbled(ValueError("a stored part without an ETag"), key)
        theirs = wire.hash_crc32c(answer.headers)
        if theirs is not None and theirs != crc32c:
            raise ChecksumMismatch(
                f"part {number} has crc32c {theirs:08x} at GCS, {crc32c:08x} here", where=self._calls.where(key)
            )
        # Without the checksum, as in a listing of parts: GCS lists none.
        return StoredPart(number=number, part_id=etag, size=len(data))

    def close(self) -> None:
        self._http.close()

    def _get(self, key: str, target: str, headers: dict[str, str], buffer: memoryview, landed: Landed | None) -> Answer:
        request = self._calls.request("GET", target, headers)
        try:
            answer = self._http.get_into(request, buffer, expect=(206,), landed=landed)
        except StoreUnavailable as error:
            raise StoreUnavailable(
                _READ, where=self._calls.where(key), why=error.why, next_step=error.next_step
            ) from error
        if answer.status >= 300:
            raise self._calls.refused(answer, _READ, key=key, missing=SourceChanged, conflict=SourceChanged)
        return answer

    def _check_answer(self, key: str, version: str, offset: int, buffer: memoryview, answer: Answer) -> None:
        """Refuse an answer about other bytes than those that were asked for."""
        where = self._calls.where(key)
        headers = answer.headers
        stored = headers.get("x-goog-stored-content-encoding")
        served = headers.get("Content-Encoding", "identity")
        if stored is not None and stored != served and "gzip" in (stored, served):
            raise StoreRejected(
                f"GCS serves the object as {served}, and stores it as {stored}",
                where=where,
                why="It unpacks what is compressed twice (a zip with Content-Encoding gzip).",
                next_step="Set Cache-Control: no-transform on the object.",
            )
        generation = headers.get("x-goog-generation")
        if version and generation is not None and generation != version:
            raise SourceChanged(f"generation {generation} came instead of {version}", where=where)
        if len(buffer) and not (
            answer.status == 206 and headers.get("Content-Range", "").startswith(f"bytes {offset}-")
        ):
            raise StoreUnavailable(
                "GCS ignored the range",
                where=where,
                why=f"HTTP {answer.status}, Content-Range {headers.get('Content-Range')!r}",
            )

    def _head(self, key: str, version: str) -> wire.JsonObject:
        try:
            return self._calls.head(self._http, key, version)
        except ObjectNotFound as error:
            raise SourceChanged(_READ, where=error.where, why=error.why) from error

    def _put_xml(
        self, key: str, data: memoryview, crc32c: int, attributes: ObjectAttributes, precondition: Precondition
    ) -> Stored:
        headers = wire.attribute_headers(attributes)
        headers |= wire.placement_headers(attributes, self._calls.config.kms_key)
        headers["x-goog-hash"] = f"crc32c={wire.encode_crc32c(crc32c)}"
        if match := wire.generation_match(precondition):
            headers["x-goog-if-generation-match"] = match
        answer = self._calls.send(
            self._http,
            "PUT",
            wire.xml_target(self._bucket, key),
            "cannot write the object",
            key=key,
            headers=headers,
            body=data,
            missing=BucketNotFound,
        )
        generation = answer.headers.get("x-goog-generation", "")
        theirs = wire.hash_crc32c(answer.headers)
        if not generation or theirs is None:
            found = self._calls.head(self._http, key, generation)
            generation, theirs = found.generation, wire.decode_crc32c(found.crc32c)
        return Stored(generation, len(data), theirs, Attestation.WHOLE)

    def _put_json(
        self, key: str, data: memoryview, crc32c: int, attributes: ObjectAttributes, precondition: Precondition
    ) -> Stored:
        """For attributes that headers cannot carry. Copies the data; such objects are rare."""
        resource = {**wire.json_attributes(attributes), "name": key, "crc32c": wire.encode_crc32c(crc32c)}
        if attributes.storage_class:
            resource["storageClass"] = attributes.storage_class
        boundary = secrets.token_hex(24)
        answer = self._calls.send(
            self._http,
            "POST",
            wire.json_target(
                self._bucket,
                upload=True,
                uploadType="multipart",
                ifGenerationMatch=wire.generation_match(precondition),
                kmsKeyName=self._calls.config.kms_key,
            ),
            "cannot write the object",
            key=key,
            headers={"Content-Type": f"multipart/related; boundary={boundary}"},
            body=wire.multipart_related(boundary, resource, data),
            missing=BucketNotFound,
        )
        found = self._calls.decode(answer.body, wire.OBJECT, key)
        return Stored(found.generation, found.size, wire.decode_crc32c(found.crc32c), Attestation.WHOLE)


def reject_written(calls: GcsCalls, http: HttpData, key: str, stored: Stored, crc32c: int) -> None:
    """Delete exactly the generation that we wrote, whose checksum is not ours, and raise ChecksumMismatch."""
    outcome = "That generation was deleted."
    try:
        calls.delete_generation(http, key, stored.version)
    except StoreError as error:
        outcome = f"That generation could NOT be deleted: {error}"
    theirs = "none" if stored.crc32c is None else f"{stored.crc32c:08x}"
    raise ChecksumMismatch(
        f"generation {stored.version} has crc32c {theirs} at GCS, {crc32c:08x} here",
        where=calls.where(key),
        why=outcome,
    )
