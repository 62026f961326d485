"""S3 listings as streams of pages: one in memory at a time."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from skyplane_core.errors import StoreRejected, StoreUnavailable
from skyplane_core.model import ObjectInfo, StoredPart
from skyplane_core.stores import s3_page, s3_servers, s3_version, s3_xml
from skyplane_core.stores.http_data import ANSWER_LIMIT, Answer
from skyplane_core.stores.paging import Page, Pages
from skyplane_core.stores.s3_calls import S3Calls

_PAGE = 1000
_Row = TypeVar("_Row")


def list_pages(calls: S3Calls, prefix: str = "", start_after: str = "", delimiter: str = "") -> Iterator[Page]:
    """The objects under ``prefix`` in key order, which everything built on a listing relies on, a page at a time.

    Keys are asked for URL-encoded, so that they may hold what XML cannot.

    Raises:
        StoreRejected: the server's order is another one, as in S3 directory buckets.
    """
    query = {"list-type": "2", "encoding-type": "url", "prefix": prefix}
    if start_after:
        query["start-after"] = start_after
    if delimiter:
        query["delimiter"] = delimiter
    last = start_after
    for _, document, found in _pages(calls, None, query, "max-keys", s3_page.read, _objects_after):
        # Some servers take the key to start after as the one to start at.
        if found and found[0].key == start_after == last:
            del found[0]
        last = _check_order(calls, last, found)
        yield Page(found, document.truncated)


def _check_order(calls: S3Calls, last: str, found: Sequence[ObjectInfo]) -> str:
    """The last key of a page that goes on behind ``last``."""
    # For valid Unicode, the order of strings is that of their UTF-8 bytes.
    keys = [last, *[info.key for info in found]]
    if not all(map(operator.lt, keys, keys[1:])):
        before, key = next(pair for pair in itertools.pairwise(keys) if not pair[0] < pair[1])
        raise StoreRejected(
            "the store does not list its keys in order",
            where=calls.where(key),
            why=f"{key!r} comes after {before!r}",
            next_step="S3 directory buckets cannot be a side of a transfer; use a general purpose bucket.",
        )
    return keys[-1]


def list_parts(calls: S3Calls, key: str, upload_id: str) -> Iterator[StoredPart]:
    """The parts of an open upload."""
    query = {"uploadId": upload_id}
    last = 0
    for answer, document, _ in _pages(calls, key, query, "max-parts", _reader("ListPartsResult", "Part"), _parts_after):
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
    for _, document, _ in _pages(
        calls, None, query, "max-uploads", _reader("ListMultipartUploadsResult", "Upload"), _uploads_after
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
    read: Callable[[bytes], tuple[s3_xml.Document, list[_Row]]],
    following: Callable[[s3_xml.Document], dict[str, str]],
) -> Iterator[tuple[Answer, s3_xml.Document, list[_Row]]]:
    """The pages of a listing.

    Args:
        limit: the parameter that says how long a page may be.
        read: makes a document and what it lists of an answer's body.
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
            document, found = read(answer.body)
            after = following(document) if document.truncated else {}
        except ValueError as error:
            raise calls.garbled(error, key) from error
        count = len(found)
        yield answer, document, found
        if not document.truncated:
            return
        if not any(after.values()):
            raise StoreUnavailable("the listing does not go on", where=calls.where(key), why="it names no next page")
        turning.turn(after, count)
        marker, size = after, min(_PAGE, size * 2)


def _reader(root: str, row: str) -> Callable[[bytes], tuple[s3_xml.Document, list[dict[str, str]]]]:
    def read(body: bytes) -> tuple[s3_xml.Document, list[dict[str, str]]]:
        document = s3_xml.read(body, root, row)
        return document, document.rows

    return read


def _objects_after(page: s3_xml.Document) -> dict[str, str]:
    return {"continuation-token": page.fields.get("NextContinuationToken", "")}


def _parts_after(page: s3_xml.Document) -> dict[str, str]:
    return {"part-number-marker": page.fields.get("NextPartNumberMarker", "")}


def _uploads_after(page: s3_xml.Document) -> dict[str, str]:
    return {
        "key-marker": page.key("NextKeyMarker", page.fields),
        "upload-id-marker": page.fields.get("NextUploadIdMarker", ""),
    }
