"""Copies that S3 makes by itself: CopyObject for a whole object, UploadPartCopy for a part of an upload."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import msgspec

from skyplane_core.errors import (
    ObjectNotFound,
    PreconditionFailed,
    SourceChanged,
    StoreError,
    StoreRejected,
)
from skyplane_core.model import (
    Attestation,
    Copied,
    CopySource,
    ObjectAttributes,
    ObjectInfo,
    Precondition,
    StoreConfig,
    Stored,
    StoredPart,
)
from skyplane_core.stores import s3_attributes, s3_servers, s3_version, s3_xml
from skyplane_core.stores.base import Capabilities
from skyplane_core.stores.http_data import Answer
from skyplane_core.stores.s3_calls import S3Calls
from skyplane_core.stores.s3_head import head

COPY_TIMEOUT = 280.0
"""Seconds without a byte of an answer. A copy of 5 GiB takes a minute or two; whoever asks over a link waits 300."""


class S3Copies:
    """Copies into one bucket. Thread-safe.

    Args:
        capabilities: asks what the server can do.
    """

    def __init__(self, config: StoreConfig, capabilities: Callable[[], Capabilities]) -> None:
        self._config = config
        self._calls = S3Calls(config, timeout=COPY_TIMEOUT)
        self._capabilities = capabilities

    def copy(self, source: CopySource, key: str, attributes: ObjectAttributes, precondition: Precondition) -> Copied:
        """As :meth:`skyplane_core.stores.base.CopyingStore.copy`."""
        limits, info = self._capabilities(), source.info
        headers = s3_attributes.to_headers(attributes) | s3_attributes.protection_headers(self._config, key)
        headers |= self._from(source)
        tagging = "COPY" if source.keeps_tags else "REPLACE"
        headers |= {"x-amz-metadata-directive": "REPLACE", "x-amz-tagging-directive": tagging}
        if limits.attestation is Attestation.WHOLE:
            headers["x-amz-checksum-algorithm"] = _algorithm(info)
        condition = s3_version.condition_headers(precondition, self._calls.where(key))
        if limits.conditional_copy:
            headers |= condition
        elif condition:
            # Not atomic, and all there is (``conditional_copy``).
            s3_version.check_seen(precondition, self._current_etag(key), self._calls.where(key))
        answer = self._put(source, key, {}, headers)
        fields = self._read(answer, "CopyObjectResult", key)
        crc32c, crc64nvme, other = None, None, ""
        if not s3_servers.identify(answer.headers).echoes_checksums:
            kind = fields.get("ChecksumType")
            crc32c = s3_version.full_object_crc32c(fields.get("ChecksumCRC32C"), kind)
            crc64nvme = s3_version.decode_crc64nvme(fields.get("ChecksumCRC64NVME", ""), kind or "")
            other = s3_version.other_checksum(lambda name: fields.get(f"Checksum{name}"), kind)
        attested = crc32c is not None or crc64nvme is not None or bool(other)
        version = s3_version.from_etag(fields["ETag"])
        return Copied(Stored(version, info.size, crc32c, Attestation.WHOLE if attested else None), crc64nvme, other)

    def copy_part(
        self, source: CopySource, key: str, upload_id: str, number: int, offset: int, size: int
    ) -> StoredPart:
        """As :meth:`skyplane_core.stores.base.CopyingStore.copy_part`."""
        headers = self._from(source) | {"x-amz-copy-source-range": f"bytes={offset}-{offset + size - 1}"}
        answer = self._put(source, key, {"partNumber": str(number), "uploadId": upload_id}, headers)
        fields = self._read(answer, "CopyPartResult", key)
        echo = s3_servers.identify(answer.headers).echoes_checksums
        crc32c = None if echo else s3_version.decode_crc32c(fields.get("ChecksumCRC32C"))
        if crc32c is None:
            raise StoreRejected("the store says no checksum of a part that it copied", where=self._calls.where(key))
        return StoredPart(number, fields["ETag"], size, crc32c)

    def close(self) -> None:
        self._calls.close()

    def _from(self, source: CopySource) -> dict[str, str]:
        version = source.info.version
        place = quote(f"{source.bucket}/{source.info.key}", safe="/~")
        if version_id := s3_version.version_id_of(version):
            return {"x-amz-copy-source": f"{place}?versionId={quote(version_id, safe='')}"}
        etag = s3_version.etag_of(version)
        if not etag:
            raise StoreRejected("not a version of this store", where=self._where(source), why=repr(version))
        return {"x-amz-copy-source": place, "x-amz-copy-source-if-match": etag}

    def _put(self, source: CopySource, key: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
        if source.requester_pays:
            headers = headers | {"x-amz-request-payer": "requester"}
        try:
            return self._calls.send("PUT", key, query=query, headers=headers)
        except (PreconditionFailed, ObjectNotFound) as refused:
            raise self._which(source, key, refused) from refused

    def _which(self, source: CopySource, key: str, refused: StoreError) -> StoreError:
        """Whether it was the source or the destination that was not as demanded: S3 says the same of both."""
        config = msgspec.structs.replace(
            self._config,
            bucket=source.bucket,
            requester_pays=source.requester_pays or self._config.requester_pays,
        )
        calls = S3Calls(config)
        try:
            seen = head(calls, source.info.key).version
        except ObjectNotFound:
            seen = ""
        finally:
            calls.close()
        if seen != source.info.version:
            return SourceChanged(
                "the source object is no longer the one that was listed",
                where=self._where(source),
                why=f"listed at {source.info.version}, it is {seen or 'gone'}",
                next_step="Run the transfer again to list it anew.",
            )
        return PreconditionFailed(
            "the object is not what the copy's precondition demands", where=self._calls.where(key), why=refused.why
        )

    def _where(self, source: CopySource) -> str:
        return msgspec.structs.replace(self._config, bucket=source.bucket).object_uri(source.info.key)

    def _current_etag(self, key: str) -> str:
        try:
            return s3_version.etag_of(head(self._calls, key).version)
        except ObjectNotFound:
            return ""

    def _read(self, answer: Answer, root: str, key: str) -> dict[str, str]:
        """The fields of an answer, of which the ETag is sure to be there."""
        try:
            fields = s3_xml.read(answer.body, root).fields
            if not fields.get("ETag"):
                raise ValueError(f"a {root} without an ETag")
        except ValueError as error:
            raise self._calls.garbled(error, key) from error
        return fields


def _algorithm(info: ObjectInfo) -> str:
    """In which the copy is summed, so that it can be compared with its source."""
    if info.crc32c is not None:
        return "CRC32C"
    if info.crc64nvme is not None:
        return "CRC64NVME"
    return info.other_checksum.partition(":")[0] or "CRC32C"
