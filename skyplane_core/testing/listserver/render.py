"""Pages as S3 and GCS send them, from folders that are rendered once."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from xml.sax.saxutils import escape

import msgspec

from skyplane_core.testing.listserver.keyspace import FOLDER, ROOT, KeySpace, Page, etag_of, size_of

_HIGH = "@@@@@@@"
"""Stands for the folder's number, which has as many digits."""
_WHEN = "2026-01-01T00:00:00.000Z"


class Rendered:
    """The rows of all objects. ``row`` gives that of number ``low`` in the folder whose digits are ``high``."""

    def __init__(self, row: Callable[[str, int], str], between: bytes) -> None:
        self._rows = [row(_HIGH, low).encode() for low in range(FOLDER)]
        self._between = between
        self._whole = between.join(self._rows)

    def rows(self, start: int, end: int) -> bytes:
        """The rows of objects ``start`` to ``end``."""
        pieces = []
        while start < end:
            high, low = divmod(start, FOLDER)
            upto = min(FOLDER, low + end - start)
            text = self._whole if upto - low == FOLDER else self._between.join(self._rows[low:upto])
            pieces.append(text.replace(_HIGH.encode(), b"%07d" % high))
            start += upto - low
        return self._between.join(pieces)


def s3_row(high: str, low: int) -> str:
    """As AWS writes it today, the ETag's quotes included."""
    return (
        f"<Contents><Key>{ROOT}{high}/{low:03d}.bin</Key><LastModified>{_WHEN}</LastModified>"
        f"<ETag>&quot;{etag_of(high, low)}&quot;</ETag><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm>"
        f"<ChecksumType>FULL_OBJECT</ChecksumType><Size>{size_of(low)}</Size><StorageClass>STANDARD</StorageClass>"
        "</Contents>"
    )


def gcs_row(high: str, low: int) -> str:
    """What a listing of copies from the S3 side shows, in the fields that we ask for."""
    crc = base64.b64encode(low.to_bytes(4, "big")).decode()
    return msgspec.json.encode(
        {
            "name": f"{ROOT}{high}/{low:03d}.bin",
            "size": str(size_of(low)),
            "generation": f"1767225{high}{low:03d}",
            "metageneration": "1",
            "updated": _WHEN,
            "crc32c": crc,
            "contentType": "application/octet-stream",
            "metadata": {"skyplane-source": f'etag:"{etag_of(high, low)}"'},
        }
    ).decode()


def _token(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _key(token: str) -> str:
    return base64.urlsafe_b64decode(token.encode()).decode()


class S3Pages:
    """Answers of ListObjectsV2."""

    content_type = "application/xml"

    def __init__(self, keys: KeySpace) -> None:
        self._keys = keys
        self._rendered = Rendered(s3_row, b"")

    def is_listing(self, path: str, query: Mapping[str, str]) -> bool:
        """Whether a GET of ``path`` asks for a page."""
        return path.strip("/").count("/") == 0 and query.get("list-type") == "2"

    def answer(self, query: Mapping[str, str]) -> bytes:
        """The page that ``query`` asks for. Raises ValueError."""
        token = query.get("continuation-token", "")
        limit = min(1000, int(query.get("max-keys", 1000)))
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = _key(token) if token else query.get("start-after", "")
        page = self._keys.page(prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        head = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>listed</Name><Prefix>{escape(prefix)}</Prefix><MaxKeys>{limit}</MaxKeys>"
            f"<KeyCount>{page.end - page.start + len(page.prefixes)}</KeyCount>"
            f"<IsTruncated>{'true' if page.more else 'false'}</IsTruncated>"
        )
        if delimiter:
            head += f"<Delimiter>{escape(delimiter)}</Delimiter>"
        if query.get("encoding-type"):
            head += "<EncodingType>url</EncodingType>"
        if page.more:
            head += f"<NextContinuationToken>{_token(page.last)}</NextContinuationToken>"
        groups = "".join(f"<CommonPrefixes><Prefix>{group}</Prefix></CommonPrefixes>" for group in page.prefixes)
        rows = self._rendered.rows(page.start, page.end)
        return b"".join((head.encode(), rows, groups.encode(), b"</ListBucketResult>"))


class GcsPages:
    """Answers of the JSON API's objects.list."""

    content_type = "application/json; charset=UTF-8"

    def __init__(self, keys: KeySpace) -> None:
        self._keys = keys
        self._rendered = Rendered(gcs_row, b",")

    def is_listing(self, path: str, query: Mapping[str, str]) -> bool:  # noqa: ARG002 - one signature for both
        """Whether a GET of ``path`` asks for a page."""
        return path.startswith("/storage/v1/b/") and path.endswith("/o") and path.count("/") == 5

    def answer(self, query: Mapping[str, str]) -> bytes:
        """The page that ``query`` asks for. Raises ValueError."""
        token = query.get("pageToken", "")
        page: Page = self._keys.page(
            prefix=query.get("prefix", ""),
            delimiter=query.get("delimiter", ""),
            after=_key(token) if token else "",
            start=query.get("startOffset", ""),
            limit=min(1000, int(query.get("maxResults", 1000))),
        )
        more: dict[str, object] = {"kind": "storage#objects"}
        if page.prefixes:
            more["prefixes"] = page.prefixes
        if page.more:
            more["nextPageToken"] = _token(page.last)
        head = msgspec.json.encode(more)
        return b"".join((head[:-1], b',"items":[', self._rendered.rows(page.start, page.end), b"]}"))


PAGES: dict[str, type[S3Pages | GcsPages]] = {"s3": S3Pages, "gcs": GcsPages}
