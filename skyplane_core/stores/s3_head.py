"""What a HEAD says of an S3 object."""

from __future__ import annotations

import email.utils
from typing import NamedTuple

from skyplane_core.stores import s3_servers, s3_version, s3_xml
from skyplane_core.stores.http_head import Headers
from skyplane_core.stores.s3_calls import S3Calls


class Head(NamedTuple):
    """One object as it stands.

    ``checksum`` is the CRC32C as S3 writes it, of the whole or of its parts' checksums; empty if there is none or if
    nothing says that the server computed it.
    """

    size: int
    version: str
    modified: float
    checksum: str
    checksum_type: str
    headers: Headers

    @property
    def crc32c(self) -> int | None:
        """The store's own CRC32C of the whole object, if it has one."""
        return s3_version.full_object_crc32c(self.checksum, self.checksum_type)

    @property
    def crc64nvme(self) -> int | None:
        """The store's own CRC64NVME of the whole object, if it has one."""
        return s3_version.full_object_crc64nvme(self.headers) if s3_servers.vouches(self.headers) else None

    @property
    def other_checksum(self) -> str:
        """See :class:`~skyplane_core.model.ObjectInfo`."""
        if not s3_servers.vouches(self.headers):
            return ""
        return s3_version.other_checksum(
            lambda name: self.headers.get(f"x-amz-checksum-{name.lower()}"), self.checksum_type
        )


def head(calls: S3Calls, key: str) -> Head:
    """The object at ``key``, as it is now or at the version that the store is pinned to. Raises ObjectNotFound."""
    pinned = calls.config.object_version
    headers = calls.send("HEAD", key, query=pin(calls), headers={"x-amz-checksum-mode": "ENABLED"}).headers
    vouched = s3_servers.vouches(headers)
    try:
        return Head(
            size=s3_xml.number(headers.get("Content-Length")),
            version=s3_version.from_id(pinned) if pinned else s3_version.from_etag(_required(headers, "ETag")),
            modified=email.utils.parsedate_to_datetime(_required(headers, "Last-Modified")).timestamp(),
            checksum=headers.get("x-amz-checksum-crc32c", "") if vouched else "",
            checksum_type=headers.get("x-amz-checksum-type", ""),
            headers=headers,
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise calls.garbled(error, key) from error


def pin(calls: S3Calls) -> dict[str, str]:
    """The query that names the version that the store is pinned to, if it is."""
    return {"versionId": calls.config.object_version} if calls.config.object_version else {}


def _required(headers: Headers, name: str) -> str:
    found = headers.get(name)
    if not found:
        raise ValueError(f"a HEAD without {name}")
    return found
