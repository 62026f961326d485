"""S3 listings as streams: a page in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

from skyplane_core.errors import StoreRejected, StoreUnavailable
from skyplane_core.model import ObjectInfo, StoreConfig, StoredPart
from skyplane_core.stores import s3_servers, s3_version
from skyplane_core.stores.s3_errors import mapped


def list_objects(client: Any, arguments: dict[str, Any], config: StoreConfig) -> Iterator[ObjectInfo]:
    """The objects of a ``list_objects_v2``, in key order, which everything built on a listing relies on.

    botocore asks for URL-encoded keys by itself and decodes them, so that keys may hold what XML cannot.

    Raises:
        StoreRejected: the server's order is another one, as in S3 directory buckets.
    """
    start_after = arguments.get("StartAfter", "")
    last: bytes | None = start_after.encode() if start_after else None
    pages = 0
    while True:
        with mapped(config.uri, anonymous=config.credentials.anonymous):
            page = client.list_objects_v2(**arguments)
        pages += 1
        for entry in page.get("Contents", ()):
            key = entry["Key"]
            encoded = key.encode()
            if last is not None and encoded <= last:
                if key == start_after and pages == 1:
                    continue
                raise StoreRejected(
                    "the store does not list its keys in order",
                    where=config.object_uri(key),
                    why=f"{key!r} comes after {last.decode()!r}",
                    next_step="S3 directory buckets cannot be a side of a transfer; use a general purpose bucket.",
                )
            last = encoded
            yield ObjectInfo(
                key=key,
                size=entry["Size"],
                version=s3_version.from_etag(entry["ETag"]),
                modified=entry["LastModified"].timestamp(),
            )
        if not page.get("IsTruncated"):
            return
        token = page.get("NextContinuationToken")
        if not token or token == arguments.get("ContinuationToken"):
            raise StoreUnavailable("the listing does not go on", where=config.uri, why="it names no next page")
        arguments = arguments | {"ContinuationToken": token}


def list_parts(client: Any, arguments: dict[str, Any], where: str) -> Iterator[StoredPart]:
    """The parts of an open upload."""
    marker = 0
    while True:
        with mapped(where):
            page = client.list_parts(**arguments, PartNumberMarker=marker)
        echo = s3_servers.identify(page["ResponseMetadata"]["HTTPHeaders"]).echoes_checksums
        for part in page.get("Parts", ()):
            crc32c = None if echo else s3_version.decode_crc32c(part.get("ChecksumCRC32C"))
            yield StoredPart(part["PartNumber"], part["ETag"], part["Size"], crc32c)
        following = int(page.get("NextPartNumberMarker") or 0)
        if not page.get("IsTruncated"):
            return
        if following <= marker:
            raise StoreUnavailable("the list of parts does not go on", where=where, why="it names no next page")
        marker = following


def list_uploads(client: Any, arguments: dict[str, Any], where: str) -> Iterator[tuple[str, str]]:
    """The open uploads of a bucket. Unlike with objects, botocore leaves the decoding of their keys to us."""
    marker: dict[str, str] = {}
    while True:
        with mapped(where):
            page = client.list_multipart_uploads(**arguments, **marker, EncodingType="url")
        encoded = page.get("EncodingType") == "url"
        for upload in page.get("Uploads", ()):
            yield (unquote_plus(upload["Key"]) if encoded else upload["Key"]), upload["UploadId"]
        if not page.get("IsTruncated"):
            return
        key = page.get("NextKeyMarker", "")
        following = {
            "KeyMarker": unquote_plus(key) if encoded else key,
            "UploadIdMarker": page.get("NextUploadIdMarker", ""),
        }
        if following == marker:
            raise StoreUnavailable("the list of uploads does not go on", where=where, why="it names no next page")
        marker = following
