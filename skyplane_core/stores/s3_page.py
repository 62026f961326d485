"""A page of an S3 listing, read as fast as Python can: a million keys are a thousand of these.

Rows as AWS writes them are matched by one pattern, at a third of what an XML parser and a mapping a row cost. A
page with anything else in a row, be it other elements, another order, blanks or an entity, is read by the parser.
"""

from __future__ import annotations

import functools
import re
from urllib.parse import unquote_plus

from skyplane_core.model import ObjectInfo
from skyplane_core.stores import s3_version, s3_xml

_ROOT, _ROW = "ListBucketResult", "Contents"
_FIRST, _END = b"<Contents>", b"</Contents>"
# No part of it can match "<" or "&", so what matches is well-formed, and one row and no more.
_USUAL = re.compile(
    r"<Contents><Key>([^<&\x00-\x1f]+)</Key><LastModified>([-0-9T:.Z]+)</LastModified>"
    r'<ETag>(&quot;|")([-\w]+)\3</ETag>'
    r"(?:<ChecksumAlgorithm>\w+</ChecksumAlgorithm>)*(?:<ChecksumType>\w+</ChecksumType>)?"
    r"<Size>([0-9]{1,18})</Size>"
    r"(?:<StorageClass>\w+</StorageClass>)?</Contents>",
    re.ASCII,
)


def read(body: bytes) -> tuple[s3_xml.Document, list[ObjectInfo]]:
    """A page: all but its rows, and the rows as objects. Raises ValueError."""
    begin, end = body.find(_FIRST), body.rfind(_END) + len(_END)
    if begin >= 0 and end > begin:
        rest = s3_xml.read(body[:begin] + body[end:], _ROOT, _ROW)
        objects = _usual(body[begin:end], quoted=rest.fields.get("EncodingType") == "url")
        if objects is not None and not rest.rows:
            return rest, objects
    return parsed(body)


def parsed(body: bytes) -> tuple[s3_xml.Document, list[ObjectInfo]]:
    """The same for any rows, by the XML parser."""
    document = s3_xml.read(body, _ROOT, _ROW)
    return document, _any(document)


def _usual(rows: bytes, *, quoted: bool) -> list[ObjectInfo] | None:
    """The objects of rows that all are as AWS writes them, else None. Raises ValueError."""
    text = rows.decode()
    objects = []
    at = 0
    for row in _USUAL.finditer(text):
        if row.start() != at:
            return None
        at = row.end()
        key, when, _quote, etag, size = row.groups()
        if quoted and ("%" in key or "+" in key):
            key = unquote_plus(key, errors="strict")
        objects.append(ObjectInfo(key, int(size), f'etag:"{etag}"', _moment(when)))
    return objects if at == len(text) else None


def _any(document: s3_xml.Document) -> list[ObjectInfo]:
    try:
        return [
            ObjectInfo(
                key=document.key("Key", row),
                size=s3_xml.number(row["Size"]),
                version=s3_version.from_etag(row["ETag"]),
                modified=_moment(row["LastModified"]),
            )
            for row in document.rows
        ]
    except KeyError as error:
        raise ValueError(f"an object without {error}") from error


_moment = functools.lru_cache(1024)(s3_xml.moment)
"""Objects that were written together share their second."""
