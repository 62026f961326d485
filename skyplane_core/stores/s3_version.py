"""Versions of S3 objects as the engine's opaque strings, and the checksum headers beside them.

``etag:"…"`` is what listings, HEADs and writes return, also in versioned buckets: a listing shows no version id, only
an ETag can be a write's precondition, and two names for one version would make an unchanged object look changed.
``vid:…`` is understood in reads, for somebody who pins a version id.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable

from skyplane_core.errors import PreconditionFailed, StoreRejected
from skyplane_core.model import Precondition, StoredPart
from skyplane_core.stores.http_head import Headers

_ETAG = "etag:"
_VERSION_ID = "vid:"
OTHER_ALGORITHMS = ("CRC32", "SHA256", "SHA1")


def from_etag(etag: str) -> str:
    """The version that an ETag names. Servers differ in whether they quote it."""
    return _ETAG + (etag if etag.startswith('"') else f'"{etag}"')


def from_id(version_id: str) -> str:
    """The version that a version id names."""
    return _VERSION_ID + version_id


def etag_of(version: str) -> str:
    """The quoted ETag in a version, or an empty string."""
    return version[len(_ETAG) :] if version.startswith(_ETAG) else ""


def version_id_of(version: str) -> str:
    """The version id in a version, or an empty string."""
    return version[len(_VERSION_ID) :] if version.startswith(_VERSION_ID) else ""


def condition_headers(precondition: Precondition, where: str) -> dict[str, str]:
    """The HTTP headers that make a write conditional."""
    if precondition.absent:
        return {"If-None-Match": "*"}
    if not precondition.version:
        return {}
    etag = etag_of(precondition.version)
    if not etag:
        raise StoreRejected(
            "S3 can make a write depend on an ETag only",
            where=where,
            why=f"the precondition names {precondition.version!r}",
        )
    return {"If-Match": etag}


def check_seen(precondition: Precondition, etag: str, where: str) -> None:
    """Hold what a HEAD showed (its ETag, or nothing) against a precondition. Raises PreconditionFailed."""
    seen = from_etag(etag) if etag else ""
    if seen != precondition.version:
        raise PreconditionFailed(
            "the object is not what the write's precondition demands", where=where, why=f"it is {seen or 'not there'}"
        )


def encode_crc32c(value: int) -> str:
    """A CRC32C as S3 writes it: base64 of the big-endian bytes."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def decode_crc32c(text: str | None) -> int | None:
    """S3's CRC32C of one run of bytes; None if there is none, or if it is a checksum of checksums (``…-N``)."""
    try:
        raw = base64.b64decode(text or "", validate=True)
    except binascii.Error:
        return None
    return int.from_bytes(raw, "big") if len(raw) == 4 else None


def full_object_crc32c(text: str | None, checksum_type: str | None) -> int | None:
    """As :func:`decode_crc32c`, for a value that is only trusted as the whole object's if its type does not deny it."""
    return None if (checksum_type or "FULL_OBJECT").upper() != "FULL_OBJECT" else decode_crc32c(text)


def full_object_crc64nvme(headers: Headers) -> int | None:
    """The CRC64NVME in an answer's headers, if it is one of the whole object; S3 knows none of another type."""
    return decode_crc64nvme(headers.get("x-amz-checksum-crc64nvme", ""), headers.get("x-amz-checksum-type", ""))


def decode_crc64nvme(text: str, checksum_type: str) -> int | None:
    """S3's CRC64NVME; None if there is none, or if its type is not that of the whole object."""
    if (checksum_type or "FULL_OBJECT").upper() != "FULL_OBJECT":
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    return int.from_bytes(raw, "big") if len(raw) == 8 else None


def other_checksum(find: Callable[[str], str | None], checksum_type: str | None) -> str:
    """A checksum of the whole object by an algorithm that nobody here computes, as ``ALGORITHM:text``; empty for none.

    Args:
        find: the text beside an algorithm's name in an answer.
        checksum_type: the answer's; one that does not say that it is of the whole object may be of parts' checksums.
    """
    if (checksum_type or "").upper() != "FULL_OBJECT":
        return ""
    return next((f"{name}:{text}" for name in OTHER_ALGORITHMS if (text := find(name))), "")


def multipart_etag(parts: Iterable[StoredPart]) -> str:
    """The quoted ETag that S3 gives an object made of ``parts``, or an empty string if their ETags are not MD5 sums.

    It tells whether an object came from this very upload; it says nothing about our bytes, whose MD5 nobody computed.
    """
    digest = hashlib.md5(usedforsecurity=False)
    count = 0
    for part in parts:
        text = part.part_id.strip('"')
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            return ""
        if len(raw) != 16:
            return ""
        digest.update(raw)
        count += 1
    return f'"{digest.hexdigest()}-{count}"'
