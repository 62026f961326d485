"""S3 listings as streams: a page in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from skyplane_core.errors import StoreRejected, StoreUnavailable
from skyplane_core.model import ObjectInfo, StoredPart
from skyplane_core.stores import s3_servers, s3_version, s3_xml
from skyplane_core.stores.http_data import ANSWER_LIMIT, Answer
from skyplane_core.stores.paging import Pages
from skyplane_core.stores.s3_calls import S3Calls

_PAGE = 1000


def list_objects(calls: S3Calls, prefix: str = "", start_after: str = "", delimiter: str = "") -> Iterator[ObjectInfo]:
    """The objects under ``prefix`` in key order, which everything built on a listing relies on.

    Keys are asked for URL-encoded, so that they may hold what XML cannot.

    Raises:
        StoreRejected: the server's order is another one, as in S3 directory buckets.
    """
    query = {"list-type": "2", "encoding-type": "url", "prefix": prefix}
    if start_after:
        query["start-after"] = start_after
    if delimiter:
        query["delimiter"] = delimiter
    last: bytes | None = start_after.encode() if start_after else None
    # Some servers take the key to start after as the one to start at.
    repeated = start_after
    for _, document in _pages(calls, None, query, "max-keys", ("ListBucketResult", "Contents"), _objects_after):
        try:
            found = objects_in(document)
        except ValueError as error:
            raise calls.garbled(error) from error
        for info in found:
            encoded = info.key.encode()
            if last is not None and encoded <= last:
                if info.key == repeated:
                    continue
                raise StoreRejected(
                    "the store does not list its keys in order",
                    where=calls.where(info.key),
                    why=f"{info.key!r} comes after {last.decode()!r}",
                    next_step="S3 directory buckets cannot be a side of a transfer; use a general purpose bucket.",
                )
            last = encoded
            yield info
        repeated = ""


def objects_in(document: s3_xml.Document) -> list[ObjectInfo]:
    """The objects on one page of a listing. Raises ValueError."""
    try:
        return [
            ObjectInfo(
                key=document.key("Key", row),
                size=s3_xml.number(row["Size"]),
                version=s3_version.from_etag(row["ETag"]),
                modified=s3_xml.moment(row["LastModified"]),
            )
            for row in document.rows
        ]
    except KeyError as error:
        raise ValueError(f"an object without {error}") from error


def list_parts(calls: S3Calls, key: str, upload_id: str) -> Iterator[StoredPart]:
    """The parts of an open upload."""
    query = {"uploadId": upload_id}
    last = 0
    for answer, document in _pages(calls, key, query, "max-parts", ("ListPartsResult", "Part"), _parts_after):
        echo = s3_servers.identify(answer.headers).echoes_checksums
        try:
            found = [
                StoredPart(
                    s3_xml.number(row["PartNumber"]),
                    row["ETag"],
                    s3_xml.number(row["Size"]),
                    None if echo else s3_version.decode_crc32c(row.get("ChecksumCRC32C")),
                )
                for row in document.rows
            ]
        except (KeyError, ValueError) as error:
            raise calls.garbled(error, key) from error
        for part in found:
            if part.number <= last:
                raise StoreUnavailable(
                    "the store does not list its parts in order",
                    where=calls.where(key),
                    why=f"{part.number} comes after {last}",
                )
            last = part.number
            yield part


def list_uploads(calls: S3Calls, prefix: str = "") -> Iterator[tuple[str, str]]:
    """``(key, upload id)`` of the open uploads of a bucket."""
    query = {"uploads": "", "encoding-type": "url", "prefix": prefix}
    for _, document in _pages(
        calls, None, query, "max-uploads", ("ListMultipartUploadsResult", "Upload"), _uploads_after
    ):
        try:
            found = [(document.key("Key", row), row["UploadId"]) for row in document.rows]
        except (KeyError, ValueError) as error:
            raise calls.garbled(error) from error
        yield from found


def _pages(
    calls: S3Calls,
    key: str | None,
    query: dict[str, str],
    limit: str,
    shape: tuple[str, str],
    following: Callable[[s3_xml.Document], dict[str, str]],
) -> Iterator[tuple[Answer, s3_xml.Document]]:
    """The pages of a listing.

    Args:
        limit: the parameter that says how long a page may be.
        shape: what the answer's root and its rows are called.
        following: the parameters that ask for the page after one.
    """
    size = _PAGE
    marker: dict[str, str] = {}
    turning = Pages(calls.where(key))
    while True:
        answer = calls.send("GET", key, query=query | marker | {limit: str(size)})
        if len(answer.body) >= ANSWER_LIMIT and size > 1:
            # A thousand of the longest keys, encoded, are more than is kept of an answer.
            size = max(1, size // 4)
            continue
        try:
            document = s3_xml.read(answer.body, *shape)
            after = following(document) if document.truncated else {}
        except ValueError as error:
            raise calls.garbled(error, key) from error
        yield answer, document
        if not document.truncated:
            return
        if not any(after.values()):
            raise StoreUnavailable("the listing does not go on", where=calls.where(key), why="it names no next page")
        turning.turn(after, len(document.rows))
        marker, size = after, min(_PAGE, size * 2)


def _objects_after(page: s3_xml.Document) -> dict[str, str]:
    return {"continuation-token": page.fields.get("NextContinuationToken", "")}


def _parts_after(page: s3_xml.Document) -> dict[str, str]:
    return {"part-number-marker": page.fields.get("NextPartNumberMarker", "")}


def _uploads_after(page: s3_xml.Document) -> dict[str, str]:
    return {
        "key-marker": page.key("NextKeyMarker", page.fields),
        "upload-id-marker": page.fields.get("NextUploadIdMarker", ""),
    }
