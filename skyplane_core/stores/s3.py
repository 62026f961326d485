"""Amazon S3 and what speaks its protocol. boto3 makes the control calls; part bytes never pass through it."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from skyplane_core.errors import (
    ObjectNotFound,
    PermissionDenied,
    PreconditionFailed,
    StoreError,
    StoreRejected,
    UploadNotFound,
)
from skyplane_core.model import (
    ObjectAttributes,
    ObjectInfo,
    Precondition,
    StoreConfig,
    Stored,
    StoredPart,
)
from skyplane_core.stores import s3_attributes, s3_errors, s3_servers, s3_version
from skyplane_core.stores.base import Capabilities, DataPath
from skyplane_core.stores.s3_client import make_client, resolve
from skyplane_core.stores.s3_complete import Completion
from skyplane_core.stores.s3_data import S3Data
from skyplane_core.stores.s3_errors import mapped
from skyplane_core.stores.s3_listing import list_objects, list_parts, list_uploads
from skyplane_core.stores.s3_sign import is_aws

__all__ = ["S3Store", "open_store", "resolve"]

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
        self._lock = threading.Lock()
        self._opened: Any = None
        self._common: dict[str, Any] = {"Bucket": config.bucket}
        self._mapped = functools.partial(mapped, anonymous=config.credentials.anonymous)
        self._payer: dict[str, Any] = {"RequestPayer": "requester"} if config.requester_pays else {}

    @property
    def uri(self) -> str:
        return self._config.uri

    @functools.cached_property
    def capabilities(self) -> Capabilities:
        """What this server can do; any server but AWS is asked once who it is."""
        if is_aws(self._config.endpoint_url):
            return s3_servers.AWS.capabilities
        with self._mapped(self.uri):
            answer = self._client.head_bucket(**self._common)
        return s3_servers.identify(answer["ResponseMetadata"]["HTTPHeaders"]).capabilities

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._opened is None:
                with self._mapped(self.uri):
                    self._opened = make_client(self._config)
            return self._opened

    def probe(self) -> None:
        try:
            with self._mapped(self.uri):
                self._client.head_bucket(**self._common)
        except (PermissionDenied, StoreRejected, ObjectNotFound):
            # A HEAD's refusal carries no code; that of a listing says whether it is the bucket, the key or the right.
            with self._mapped(self.uri):
                self._client.list_objects_v2(**self._common, **self._payer, MaxKeys=1)

    def list(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[ObjectInfo]:
        arguments = self._common | self._payer | {"Prefix": prefix}
        if start_after:
            arguments["StartAfter"] = start_after
        if delimiter:
            arguments["Delimiter"] = delimiter
        return list_objects(self._client, arguments, self._config)

    def head(self, key: str) -> ObjectInfo:
        where = self._config.object_uri(key)
        try:
            with self._mapped(where):
                answer = self._client.head_object(**self._common, **self._payer, Key=key, ChecksumMode="ENABLED")
        except (PermissionDenied, StoreRejected) as refused:
            raise self._reason(key, refused) from refused
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        return ObjectInfo(
            key=key,
            size=answer["ContentLength"],
            version=s3_version.from_etag(answer["ETag"]),
            modified=answer["LastModified"].timestamp(),
            crc32c=self._checked_crc32c(answer),
            attributes=s3_attributes.from_headers(headers.items()),
        )

    def create_upload(self, key: str, attributes: ObjectAttributes) -> str:
        arguments = self._common | self._payer | {"Key": key} | s3_attributes.to_parameters(attributes)
        if _NOT_IN_XML.search(key):
            raise StoreRejected(
                "the key cannot be uploaded in parts",
                where=self._config.object_uri(key),
                why="S3 answers with the key in XML, which cannot hold one of its characters",
                next_step="Write it as a whole (multipart_threshold above its size), or rename it.",
            )
        with self._mapped(self._config.object_uri(key)):
            try:
                answer = self._client.create_multipart_upload(
                    **arguments, ChecksumAlgorithm="CRC32C", ChecksumType="FULL_OBJECT"
                )
            except self._client.exceptions.ClientError as error:
                if is_aws(self._config.endpoint_url) or not _refuses_checksums(error):
                    raise
                answer = self._client.create_multipart_upload(**arguments)
        return str(answer["UploadId"])

    def list_parts(self, key: str, upload_id: str) -> Iterator[StoredPart]:
        arguments = self._common | self._payer | {"Key": key, "UploadId": upload_id}
        return list_parts(self._client, arguments, self._config.object_uri(key))

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
        completion = Completion(self._client, self._config, key, upload_id, tuple(parts), size, crc32c)
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

    def abort_upload(self, key: str, upload_id: str) -> None:
        try:
            with self._mapped(self._config.object_uri(key)):
                self._client.abort_multipart_upload(**self._common, **self._payer, Key=key, UploadId=upload_id)
        except UploadNotFound:
            return

    def list_uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        return list_uploads(self._client, self._common | self._payer | {"Prefix": prefix}, self.uri)

    def delete(self, key: str, precondition: Precondition = Precondition()) -> None:
        where = self._config.object_uri(key)
        condition: dict[str, Any] = {}
        if precondition != Precondition():
            self._check_before_delete(key, precondition)
            if precondition.version and self.capabilities.conditional_delete:
                condition["IfMatch"] = s3_version.condition_headers(precondition, where)["If-Match"]
        try:
            with self._mapped(where):
                self._client.delete_object(**self._common, **self._payer, **condition, Key=key)
        except ObjectNotFound as error:
            raise s3_errors.of_conditional_write(error, precondition) from error

    def data(self) -> DataPath:
        return S3Data(self._config)

    def close(self) -> None:
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

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

    def _checked_crc32c(self, answer: dict[str, Any]) -> int | None:
        crc32c = s3_version.full_object_crc32c(answer.get("ChecksumCRC32C"), answer.get("ChecksumType"))
        return crc32c if s3_servers.vouches(answer["ResponseMetadata"]["HTTPHeaders"]) else None

    def _reason(self, key: str, refused: StoreError) -> StoreError:
        """What a HEAD's bare status meant, from the body of the GET that is refused alike."""
        try:
            with self._mapped(self._config.object_uri(key)):
                self._client.get_object(**self._common, **self._payer, Key=key, Range="bytes=0-0")["Body"].close()
        except StoreError as reason:
            return reason
        return refused


def _refuses_checksums(error: Any) -> bool:
    """Whether a server refuses a request for the checksum asked of it."""
    code = error.response.get("Error", {}).get("Code", "")
    return code in {"NotImplemented", "InvalidArgument", "InvalidRequest", "MalformedXML", "501", "400"}
