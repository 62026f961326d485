"""Completing a multipart upload on S3: what is sent, what the answer proves, and what a repeat finds."""

from __future__ import annotations

import base64

from skyplane_core.errors import ChecksumMismatch, ObjectNotFound, StoreRejected, UploadNotFound
from skyplane_core.model import Attestation, Precondition, Stored, StoredPart
from skyplane_core.stores import s3_errors, s3_version, s3_xml
from skyplane_core.stores.http_data import Answer
from skyplane_core.stores.s3_calls import S3Calls
from skyplane_core.stores.s3_head import Head, head


class Completion:
    """One completion, which may be run again.

    Args:
        parts: in order of their numbers, with the ids and checksums that the store gave them.
        size: of the whole object.
        crc32c: of the whole object.
    """

    def __init__(
        self,
        calls: S3Calls,
        key: str,
        upload_id: str,
        parts: tuple[StoredPart, ...],
        size: int,
        crc32c: int,
    ) -> None:
        self._calls = calls
        self._key = key
        self._where = calls.where(key)
        self._upload_id = upload_id
        self._parts = parts
        self._size = size
        self._crc32c = crc32c

    def run(self, precondition: Precondition) -> Stored:
        """Complete the upload.

        Raises:
            ChecksumMismatch: parts and whole disagree; nothing became visible.
            UploadNotFound: the upload is not open (any more): see :meth:`repeated`.
        """
        self._check_parts()
        condition = s3_version.condition_headers(precondition, self._where)
        answer = self._checked_post(condition)
        if condition and answer.status == 501 and not self._calls.aws:
            # Not atomic, and all there is (``conditional_complete``).
            s3_version.check_seen(precondition, self._current_etag(), self._where)
            answer = self._checked_post({})
        if s3_errors.is_refusal(answer):
            raise self._calls.refused(answer, self._key)
        try:
            made = s3_xml.read(answer.body, "CompleteMultipartUploadResult")
        except ValueError as error:
            raise self._calls.garbled(error, self._key) from error
        return self._after(made.fields.get("ETag", ""))

    def repeated(self) -> Stored:
        """What a completion that took effect before has left behind.

        Raises:
            UploadNotFound: the object there is not this upload's.
        """
        try:
            found = head(self._calls, self._key)
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

    def _checked_post(self, condition: dict[str, str]) -> Answer:
        """The answer to a completion with a checksum; without one from a server that refuses it for that."""
        checks = {
            "x-amz-checksum-crc32c": s3_version.encode_crc32c(self._crc32c),
            "x-amz-checksum-type": "FULL_OBJECT",
            "x-amz-mp-object-size": str(self._size),
        }
        answer = self._post(condition | checks)
        if s3_errors.is_refusal(answer) and not self._calls.aws and s3_errors.refuses_checksums(answer):
            return self._post(condition)
        return answer

    def _current_etag(self) -> str:
        try:
            return s3_version.etag_of(head(self._calls, self._key).version)
        except ObjectNotFound:
            return ""

    def _post(self, headers: dict[str, str]) -> Answer:
        return self._calls.exchange(
            "POST",
            self._key,
            query={"uploadId": self._upload_id},
            headers=headers | {"Content-Type": "application/xml"},
            body=s3_xml.completion(self._parts),
        )

    def _after(self, etag: str) -> Stored:
        """Only a HEAD shows the size, and many answers lack the checksum: one more request for a whole upload."""
        found = head(self._calls, self._key)
        if etag and found.version != s3_version.from_etag(etag):
            # Overwritten already. Ours was committed; of what stands there now we can vouch for nothing.
            return Stored(s3_version.from_etag(etag), self._size)
        return self._judge(found)

    def _is_ours(self, found: Head) -> bool:
        if found.size != self._size:
            return False
        expected = s3_version.multipart_etag(self._parts)
        if expected and found.version == s3_version.from_etag(expected):
            return True
        return self._attestation(found) is not None

    def _judge(self, found: Head) -> Stored:
        if found.size != self._size:
            raise ChecksumMismatch(
                "the committed object has the wrong size",
                where=self._where,
                why=f"{found.size} bytes, expected {self._size}",
            )
        theirs = found.crc32c
        if theirs is not None and theirs != self._crc32c:
            raise ChecksumMismatch(
                "the committed object is not the one that we sent",
                where=self._where,
                why=f"CRC32C {theirs:08x}, expected {self._crc32c:08x}",
            )
        attestation = self._attestation(found)
        return Stored(
            version=found.version,
            size=self._size,
            crc32c=self._crc32c if attestation is Attestation.WHOLE else None,
            attestation=attestation,
        )

    def _attestation(self, found: Head) -> Attestation | None:
        """What the object's checksum proves: that it is ours, or nothing."""
        if found.crc32c == self._crc32c:
            return Attestation.WHOLE
        if found.checksum and found.checksum == self._composite():
            return Attestation.PER_PART
        return None

    def _composite(self) -> str:
        """S3's checksum of checksums, which only a store that holds exactly these parts can name."""
        from awscrt.checksums import crc32c

        checksums = [part.crc32c for part in self._parts if part.crc32c is not None]
        if len(checksums) != len(self._parts):
            return ""
        raw = b"".join(value.to_bytes(4, "big") for value in checksums)
        return f"{base64.b64encode(crc32c(raw).to_bytes(4, 'big')).decode()}-{len(checksums)}"
