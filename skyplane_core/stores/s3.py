"""Amazon S3 and what speaks its protocol.

Every request is a locally signed one of ours. boto3 is imported to resolve an environment's credentials and region
(:func:`resolve`), which a gateway is given and never does.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator

from skyplane_core.errors import (
    BucketNotFound,
    ObjectNotFound,
    PermissionDenied,
    PreconditionFailed,
    StoreError,
    StoreRejected,
    Unauthenticated,
    UploadNotFound,
)
from skyplane_core.model import (
    CopySource,
    CopyStep,
    ObjectAttributes,
    ObjectInfo,
    Precondition,
    StoreConfig,
    Stored,
    StoredPart,
)
from skyplane_core.stores import s3_attributes, s3_errors, s3_servers, s3_version, s3_xml
from skyplane_core.stores.base import Capabilities, DataPath
from skyplane_core.stores.http_data import Answer
from skyplane_core.stores.paging import Page
from skyplane_core.stores.s3_auth import resolve
from skyplane_core.stores.s3_calls import S3Calls
from skyplane_core.stores.s3_complete import Completion
from skyplane_core.stores.s3_copy import S3Copies
from skyplane_core.stores.s3_data import S3Data
from skyplane_core.stores.s3_head import head, pin
from skyplane_core.stores.s3_listing import list_pages, list_parts, list_uploads

__all__ = ["S3Store", "open_store", "resolve"]

_CHECKS: tuple[dict[str, str], ...] = (
    {"x-amz-checksum-algorithm": "CRC32C", "x-amz-checksum-type": "FULL_OBJECT"},
    {"x-amz-checksum-algorithm": "CRC32C"},
    {},
)
"""The checksums that an upload may have, from the strongest on: of the whole, of its parts (R2), none (Backblaze)."""
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def open_store(config: StoreConfig) -> S3Store:
    """The bucket that ``config`` describes. Opens no connection."""
    return S3Store(config)


class S3Store:
    """One bucket (see :class:`skyplane_core.stores.base.ObjectStore`).

    Versions are ETags (:mod:`skyplane_core.stores.s3_version`). What is attested and which preconditions can be relied
    on depends on the server (:mod:`skyplane_core.stores.s3_servers`).
    """

    def __init__(self, config: StoreConfig) -> None:
        self._config = config
        self._calls = S3Calls(config)
        self._copies = S3Copies(config, lambda: self.capabilities)

    @property
    def uri(self) -> str:
        return self._config.uri

    @functools.cached_property
    def capabilities(self) -> Capabilities:
        """What this server can do; any server but AWS is asked once who it is."""
        if self._calls.aws:
            return s3_servers.AWS.capabilities
        if self._config.service == "r2":
            return s3_servers.R2.capabilities
        return s3_servers.identify(self._calls.send("HEAD").headers).capabilities

    def probe(self) -> None:
        try:
            self._calls.send("HEAD")
        except (PermissionDenied, Unauthenticated, StoreRejected, BucketNotFound):
            # A HEAD's refusal carries no code; that of a listing says whether it is the bucket, the key or the right.
            self._calls.send("GET", query={"list-type": "2", "max-keys": "1"})

    def list(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[ObjectInfo]:
        for page in self.list_pages(prefix, start_after=start_after, delimiter=delimiter):
            yield from page.objects

    def list_pages(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[Page]:
        return list_pages(self._calls, prefix, start_after, delimiter)

    def head(self, key: str) -> ObjectInfo:
        try:
            found = head(self._calls, key)
        except (PermissionDenied, StoreRejected) as refused:
            raise self._reason(key, refused) from refused
        return ObjectInfo(
            key=key,
            size=found.size,
            version=found.version,
            modified=found.modified,
            crc32c=found.crc32c,
            attributes=s3_attributes.from_headers(found.headers.items()),
            crc64nvme=found.crc64nvme,
            other_checksum=found.other_checksum,
        )

    def tags(self, key: str) -> dict[str, str]:
        try:
            answer = self._calls.send("GET", key, query={"tagging": ""} | pin(self._calls))
        except PermissionDenied as refused:
            raise PermissionDenied(
                "the object's tags cannot be read",
                where=refused.where,
                why=refused.why,
                next_step="Let these credentials read tags there (s3:GetObjectTagging), or do not keep them.",
            ) from refused
        try:
            return s3_xml.tags(answer.body)
        except ValueError as error:
            raise self._calls.garbled(error, key) from error

    def create_upload(self, key: str, attributes: ObjectAttributes) -> str:
        if _NOT_IN_XML.search(key):
            raise StoreRejected(
                "the key cannot be uploaded in parts",
                where=self._config.object_uri(key),
                why="S3 answers with the key in XML, which cannot hold one of its characters",
                next_step="Write it as a whole (multipart_threshold above its size), or rename it.",
            )
        headers = s3_attributes.to_headers(attributes) | s3_attributes.protection_headers(self._config, key)
        weaker = iter(_CHECKS)
        answer = self._initiate(key, headers | next(weaker))
        while s3_errors.is_refusal(answer) and s3_errors.refuses_checksums(answer) and not self._calls.aws:
            checks = next(weaker, None)
            if checks is None:
                break
            answer = self._initiate(key, headers | checks)
        if s3_errors.is_refusal(answer):
            raise self._calls.refused(answer, key)
        try:
            return s3_xml.read(answer.body, "InitiateMultipartUploadResult").fields["UploadId"]
        except (KeyError, ValueError) as error:
            raise self._calls.garbled(error, key) from error

    def list_parts(self, key: str, upload_id: str) -> Iterator[StoredPart]:
        return list_parts(self._calls, key, upload_id)

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
        completion = Completion(self._calls, key, upload_id, tuple(parts), size, crc32c)
        try:
            return completion.run(precondition)
        except ObjectNotFound as error:
            raise s3_errors.of_conditional_write(error, precondition) from error
        except UploadNotFound:
            return completion.repeated()
        except PreconditionFailed:
            # The first attempt may have met its precondition, and its own object now stands in the way of the repeat.
            if self._is_open(key, upload_id):
                raise
            return completion.repeated()

    def copy(
        self,
        source: CopySource,
        key: str,
        attributes: ObjectAttributes,
        precondition: Precondition,
        token: str = "",
    ) -> CopyStep:
        del token  # S3 makes a copy in one call.
        return CopyStep(self._copies.copy(source, key, attributes, precondition))

    def copy_part(
        self, source: CopySource, key: str, upload_id: str, number: int, offset: int, size: int
    ) -> StoredPart:
        return self._copies.copy_part(source, key, upload_id, number, offset, size)

    def abort_upload(self, key: str, upload_id: str) -> None:
        try:
            self._calls.send("DELETE", key, query={"uploadId": upload_id})
        except UploadNotFound:
            return

    def list_uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        return list_uploads(self._calls, prefix)

    def delete(self, key: str, precondition: Precondition = Precondition()) -> None:
        condition: dict[str, str] = {}
        if precondition != Precondition():
            self._check_before_delete(key, precondition)
            if precondition.version and self.capabilities.conditional_delete:
                condition = s3_version.condition_headers(precondition, self._calls.where(key))
        try:
            self._calls.send("DELETE", key, headers=condition)
        except ObjectNotFound as error:
            if not precondition.version:
                return
            raise s3_errors.of_conditional_write(error, precondition) from error

    def data(self) -> DataPath:
        return S3Data(self._config)

    def close(self) -> None:
        self._calls.close()
        self._copies.close()

    def _initiate(self, key: str, headers: dict[str, str]) -> Answer:
        return self._calls.exchange("POST", key, query={"uploads": ""}, headers=headers)

    def _check_before_delete(self, key: str, precondition: Precondition) -> None:
        """Where the server has no conditional delete this is all there is, and not atomic (``conditional_delete``)."""
        where = self._config.object_uri(key)
        try:
            seen = self.head(key).version
        except ObjectNotFound:
            seen = ""
        if seen != precondition.version:
            raise PreconditionFailed(
                "the object to delete is not the one that was meant", where=where, why=f"it is {seen or 'gone'}"
            )

    def _is_open(self, key: str, upload_id: str) -> bool:
        try:
            next(self.list_parts(key, upload_id), None)
        except UploadNotFound:
            return False
        return True

    def _reason(self, key: str, refused: StoreError) -> StoreError:
        """What a HEAD's bare status meant, from the body of the GET that is refused alike."""
        try:
            self._calls.send("GET", key, headers={"Range": "bytes=0-0"})
        except StoreError as reason:
            return reason
        return refused
