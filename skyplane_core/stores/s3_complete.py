"""Completing a multipart upload on S3: what is sent, what the answer proves, and what a repeat finds."""

from __future__ import annotations

import base64
from typing import Any

from skyplane_core.errors import ChecksumMismatch, ObjectNotFound, StoreRejected, UploadNotFound
from skyplane_core.model import Attestation, Precondition, StoreConfig, Stored, StoredPart
from skyplane_core.stores import s3_servers, s3_version
from skyplane_core.stores.s3_errors import mapped
from skyplane_core.stores.s3_sign import is_aws

_UNSUPPORTED = frozenset({"NotImplemented", "InvalidArgument", "InvalidRequest", "MalformedXML", "501"})


class Completion:
    """One completion, which may be run again.

    Args:
        parts: in order of their numbers, with the ids and checksums that the store gave them.
        size: of the whole object.
        crc32c: of the whole object.
    """

    def __init__(
        self,
        client: Any,
        config: StoreConfig,
        key: str,
        upload_id: str,
        parts: tuple[StoredPart, ...],
        size: int,
        crc32c: int,
    ) -> None:
        self._client = client
        self._aws = is_aws(config.endpoint_url)
        self._where = config.object_uri(key)
        self._parts = parts
        self._size = size
        self._crc32c = crc32c
        self._payer: dict[str, Any] = {"RequestPayer": "requester"} if config.requester_pays else {}
        self._target: dict[str, Any] = {"Bucket": config.bucket, "Key": key}
        self._upload_id = upload_id

    def run(self, precondition: Precondition) -> Stored:
        """Complete the upload.

        Raises:
            ChecksumMismatch: parts and whole disagree; nothing became visible.
            UploadNotFound: the upload is not open (any more): see :meth:`repeated`.
        """
        self._check_parts()
        listed = [self._listed(part) for part in self._parts]
        arguments = self._target | self._payer | {"UploadId": self._upload_id, "MultipartUpload": {"Parts": listed}}
        for header, value in s3_version.condition_headers(precondition, self._where).items():
            arguments[header.replace("-", "")] = value
        checks = {
            "ChecksumCRC32C": s3_version.encode_crc32c(self._crc32c),
            "ChecksumType": "FULL_OBJECT",
            "MpuObjectSize": self._size,
        }
        with mapped(self._where):
            try:
                answer = self._client.complete_multipart_upload(**arguments, **checks)
            except self._client.exceptions.ClientError as error:
                if self._aws or error.response.get("Error", {}).get("Code") not in _UNSUPPORTED:
                    raise
                answer = self._client.complete_multipart_upload(**arguments)
        return self._after(answer)

    def repeated(self) -> Stored:
        """What a completion that took effect before has left behind.

        Raises:
            UploadNotFound: the object there is not this upload's.
        """
        try:
            found = self._head()
        except ObjectNotFound:
            found = None
        if found is None or not self._is_ours(found):
            raise UploadNotFound(
                "the multipart upload is not open, and its object is not there",
                where=self._where,
                why="it was aborted, has expired, or was completed and then overwritten",
            )
        return self._judge(found)

    def _check_parts(self) -> None:
        """What can be checked before anything becomes visible, because not every server does."""
        total = sum(part.size for part in self._parts)
        if total != self._size:
            raise StoreRejected(
                "the parts do not make up the object", where=self._where, why=f"{total} of {self._size} bytes"
            )
        checksums = [part.crc32c for part in self._parts]
        if None not in checksums and self._combined() != self._crc32c:
            raise ChecksumMismatch(
                "the parts' checksums do not combine to the object's",
                where=self._where,
                why=f"CRC32C {self._combined():08x}, expected {self._crc32c:08x}",
            )

    def _combined(self) -> int:
        from awscrt.checksums import combine_crc32c

        combined = 0
        for part in self._parts:
            combined = combine_crc32c(combined, part.crc32c, part.size)
        return combined

    @staticmethod
    def _listed(part: StoredPart) -> dict[str, Any]:
        listed: dict[str, Any] = {"PartNumber": part.number, "ETag": part.part_id}
        if part.crc32c is not None:
            listed["ChecksumCRC32C"] = s3_version.encode_crc32c(part.crc32c)
        return listed

    def _after(self, answer: dict[str, Any]) -> Stored:
        """Only a HEAD shows the size, and many answers lack the checksum: one more request for a whole upload."""
        found = self._head()
        etag = answer.get("ETag", "").strip('"')
        if etag and found["ETag"].strip('"') != etag:
            # Overwritten already. Ours was committed; of what stands there now we can vouch for nothing.
            return Stored(s3_version.from_etag(answer["ETag"]), self._size)
        return self._judge(found)

    def _head(self) -> dict[str, Any]:
        with mapped(self._where):
            answer: dict[str, Any] = self._client.head_object(**self._target, **self._payer, ChecksumMode="ENABLED")
        return answer

    def _is_ours(self, found: dict[str, Any]) -> bool:
        if found["ContentLength"] != self._size:
            return False
        expected = s3_version.multipart_etag(self._parts)
        if expected and s3_version.from_etag(found["ETag"]) == s3_version.from_etag(expected):
            return True
        return self._attestation(found) is not None

    def _judge(self, found: dict[str, Any]) -> Stored:
        if found["ContentLength"] != self._size:
            raise ChecksumMismatch(
                "the committed object has the wrong size",
                where=self._where,
                why=f"{found['ContentLength']} bytes, expected {self._size}",
            )
        theirs = self._checksum(found)
        if theirs is not None and theirs != self._crc32c:
            raise ChecksumMismatch(
                "the committed object is not the one that we sent",
                where=self._where,
                why=f"CRC32C {theirs:08x}, expected {self._crc32c:08x}",
            )
        attestation = self._attestation(found)
        return Stored(
            version=s3_version.from_etag(found["ETag"]),
            size=self._size,
            crc32c=self._crc32c if attestation is Attestation.WHOLE else None,
            attestation=attestation,
        )

    def _attestation(self, found: dict[str, Any]) -> Attestation | None:
        """What the object's checksum proves: that it is ours, or nothing."""
        if self._checksum(found) == self._crc32c:
            return Attestation.WHOLE
        if self._believed(found) and found.get("ChecksumCRC32C") and found["ChecksumCRC32C"] == self._composite():
            return Attestation.PER_PART
        return None

    def _checksum(self, found: dict[str, Any]) -> int | None:
        """The store's CRC32C of the whole object, if it has one that it computed."""
        theirs = s3_version.full_object_crc32c(found.get("ChecksumCRC32C"), found.get("ChecksumType"))
        return theirs if self._believed(found) else None

    @staticmethod
    def _believed(found: dict[str, Any]) -> bool:
        return s3_servers.vouches(found["ResponseMetadata"]["HTTPHeaders"])

    def _composite(self) -> str:
        """S3's checksum of checksums, which only a store that holds exactly these parts can name."""
        from awscrt.checksums import crc32c

        checksums = [part.crc32c for part in self._parts if part.crc32c is not None]
        if len(checksums) != len(self._parts):
            return ""
        raw = b"".join(value.to_bytes(4, "big") for value in checksums)
        return f"{base64.b64encode(crc32c(raw).to_bytes(4, 'big')).decode()}-{len(checksums)}"
