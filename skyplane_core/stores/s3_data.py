"""Part bytes of one S3 bucket, for one thread: locally signed requests on a plain HTTP connection."""

from __future__ import annotations

import hashlib
import re
import time

from skyplane_core.errors import (
    ChecksumMismatch,
    ObjectNotFound,
    SourceChanged,
    StoreError,
    StoreRejected,
    StoreUnavailable,
)
from skyplane_core.model import Attestation, ObjectAttributes, Precondition, StoreConfig, Stored, StoredPart
from skyplane_core.stores import s3_attributes, s3_errors, s3_servers, s3_version
from skyplane_core.stores.base import Landed, ReadResult
from skyplane_core.stores.http_data import DATA_TIMEOUT, Answer, HttpData, Request
from skyplane_core.stores.http_head import Headers
from skyplane_core.stores.s3_sign import (
    DEFAULT_REGION,
    UNSIGNED_PAYLOAD,
    address,
    is_aws,
    payload_may_be_unsigned,
    sign,
)

_STORED = (200, 201)


class S3Data:
    """The data path of an S3 store (see :class:`skyplane_core.stores.base.DataPath`).

    Nothing is retried here but a request on a stale connection. Every read's answer is checked against the pinned
    version once more, because some servers ignore ``If-Match``.
    """

    def __init__(self, config: StoreConfig) -> None:
        self._config = config
        self._address = address(config)
        self._aws = is_aws(config.endpoint_url)
        self._checked = True
        self._not_implemented: set[str] = set()
        self._unsigned = payload_may_be_unsigned(self._address.endpoint_url)
        self._http = HttpData(self._address.endpoint_url, verify=config.verify, timeout=DATA_TIMEOUT)

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
        where = self._config.object_uri(key)
        headers = {"x-amz-checksum-mode": "ENABLED"}
        query = {}
        if version_id := s3_version.version_id_of(version):
            query["versionId"] = version_id
        elif etag := s3_version.etag_of(version):
            headers["If-Match"] = etag
        else:
            raise StoreRejected("not a version of this store", where=where, why=repr(version))
        if len(buffer):
            # S3 shows an object's checksum in the answer to a GET of all of it, and not of a range.
            if not whole:
                headers["Range"] = f"bytes={offset}-{offset + len(buffer) - 1}"
            answer = self._http.get_into(self._signed("GET", key, query, headers), buffer, landed=landed)
        else:
            # No range selects zero bytes, and a GET would send the object.
            answer = self._http.send(self._signed("HEAD", key, query, headers))
        if answer.status not in (200, 206):
            raise _as_read_error(self._refused(answer, where), answer.status)
        _check_pin(version, answer.headers, where)
        attributes = s3_attributes.from_headers(answer.headers.items())
        if not (s3_servers.vouches(answer.headers) and _is_whole(answer, len(buffer))):
            return ReadResult(attributes)
        return ReadResult(attributes, _crc32c(answer.headers), s3_version.full_object_crc64nvme(answer.headers))

    def put_object(
        self, key: str, data: memoryview, *, crc32c: int, attributes: ObjectAttributes, precondition: Precondition
    ) -> Stored:
        where = self._config.object_uri(key)
        headers = s3_attributes.to_headers(attributes) | s3_attributes.protection_headers(self._config, key)
        condition = s3_version.condition_headers(precondition, where)
        if condition.keys() & self._not_implemented:
            answer = self._put_after_look(key, headers, data, crc32c, precondition)
        else:
            answer = self._put(key, {}, headers | condition, data, crc32c)
            if condition and answer.status == 501 and not self._aws:
                answer = self._put_after_look(key, headers, data, crc32c, precondition)
                if answer.status in _STORED:
                    self._not_implemented |= condition.keys()
        if answer.status not in _STORED:
            raise s3_errors.of_conditional_write(self._refused(answer, where), precondition)
        theirs = _crc32c(answer.headers)
        _compare(theirs, crc32c, where)
        attested = theirs is not None and s3_servers.vouches(answer.headers)
        return Stored(
            version=s3_version.from_etag(_etag(answer, where)),
            size=len(data),
            crc32c=theirs if attested else None,
            attestation=Attestation.WHOLE if attested else None,
        )

    def put_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        offset: int,  # noqa: ARG002 - the protocol's
        data: memoryview,
        *,
        crc32c: int,
    ) -> StoredPart:
        where = f"{self._config.object_uri(key)} part {number}"
        query = {"partNumber": str(number), "uploadId": upload_id}
        answer = self._put(key, query, {}, data, crc32c)
        if answer.status not in _STORED:
            raise self._refused(answer, where)
        theirs = _crc32c(answer.headers)
        _compare(theirs, crc32c, where)
        echo = s3_servers.identify(answer.headers).echoes_checksums
        return StoredPart(number, _etag(answer, where), len(data), None if echo else theirs)

    def close(self) -> None:
        self._http.close()

    def _put(self, key: str, query: dict[str, str], headers: dict[str, str], data: memoryview, crc32c: int) -> Answer:
        """The answer to a PUT with a checksum; without one from a server that refuses it for that."""
        checks = {
            "x-amz-checksum-crc32c": s3_version.encode_crc32c(crc32c),
            # Says which checksum is meant; AWS wants it beside the value, and some servers keep none without it.
            "x-amz-sdk-checksum-algorithm": "CRC32C",
        }
        if self._checked:
            answer = self._http.send(self._signed("PUT", key, query, headers | checks, data), data)
            if answer.status in _STORED or self._aws or not s3_errors.refuses_checksums(answer):
                return answer
        again = self._http.send(self._signed("PUT", key, query, dict(headers), data), data)
        self._checked = self._checked and again.status not in _STORED
        return again

    def _put_after_look(
        self, key: str, headers: dict[str, str], data: memoryview, crc32c: int, precondition: Precondition
    ) -> Answer:
        """As :meth:`_put`, if the precondition holds now. Not atomic, and all there is (``conditional_put``).

        Raises:
            PreconditionFailed: it does not.
        """
        where = self._config.object_uri(key)
        seen = self._http.send(self._signed("HEAD", key, {}, {}))
        if seen.status not in (200, 404):
            raise self._refused(seen, where)
        s3_version.check_seen(precondition, seen.headers.get("ETag", "") if seen.status == 200 else "", where)
        return self._put(key, {}, headers, data, crc32c)

    def _refused(self, answer: Answer, where: str) -> StoreError:
        return s3_errors.from_answer(
            answer,
            where=where,
            anonymous=self._config.credentials.anonymous,
            region=self._config.region or DEFAULT_REGION,
        )

    def _signed(
        self, method: str, key: str, query: dict[str, str], headers: dict[str, str], body: memoryview | bytes = b""
    ) -> Request:
        if self._config.requester_pays:
            headers["x-amz-request-payer"] = "requester"
        return sign(
            Request(method, self._address.target(key, query), headers),
            endpoint_url=self._address.endpoint_url,
            credentials=self._config.credentials,
            region=self._config.region or DEFAULT_REGION,
            payload_hash=UNSIGNED_PAYLOAD if self._unsigned else hashlib.sha256(body).hexdigest(),
            now=time.time(),
        )


def _as_read_error(error: StoreError, status: int) -> StoreError:
    """A pinned object that is gone, different or shorter has changed since it was listed."""
    if status in (412, 416) or isinstance(error, ObjectNotFound):
        return SourceChanged(
            "the source object is no longer the one that was listed",
            where=error.where,
            why=error.why,
            next_step="Run the transfer again to list it anew.",
        )
    return error


def _check_pin(version: str, headers: Headers, where: str) -> None:
    etag = headers.get("ETag")
    if s3_version.etag_of(version):
        seen = s3_version.from_etag(etag) if etag else ""
    else:
        seen = f"vid:{headers.get('x-amz-version-id', '')}"
    if seen != version:
        raise SourceChanged(
            "the source object is no longer the one that was listed",
            where=where,
            why=f"asked for {version}, the store sent {seen or 'no ETag'}",
            next_step="Run the transfer again to list it anew.",
        )


def _crc32c(headers: Headers) -> int | None:
    return s3_version.full_object_crc32c(headers.get("x-amz-checksum-crc32c"), headers.get("x-amz-checksum-type"))


def _is_whole(answer: Answer, length: int) -> bool:
    """Whether the answer is the whole object: for a range, servers differ in what a checksum covers."""
    total = re.fullmatch(r"bytes 0-\d+/(\d+)", answer.headers.get("Content-Range", ""))
    return int(total.group(1)) == length if total else answer.status == 200


def _compare(theirs: int | None, ours: int, where: str) -> None:
    if theirs is not None and theirs != ours:
        raise ChecksumMismatch(
            "the store holds other bytes than we sent", where=where, why=f"CRC32C {theirs:08x}, ours {ours:08x}"
        )


def _etag(answer: Answer, where: str) -> str:
    etag = answer.headers.get("ETag")
    if not etag:
        raise StoreUnavailable("the store's answer names no ETag", where=where)
    return etag
