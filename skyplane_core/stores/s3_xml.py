"""The few XML documents of S3: one to build, and answers that are one level of fields and one of rows.

The reader takes hostile bytes: expat on one bounded answer, no document type declaration and so no entity of its own,
and whatever is wrong raises ValueError. It knows no schema; names are those of S3, whatever namespace they are in.
ElementTree is expat without a call into Python per element, which would cost as much again as all the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from skyplane_core.model import StoredPart
from skyplane_core.stores.s3_version import encode_crc32c

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class Document(NamedTuple):
    """The text of the root's children by name, and that of the children of each row, which may lack any."""

    fields: dict[str, str]
    rows: list[dict[str, str]]

    @property
    def truncated(self) -> bool:
        """Whether this is a page and not the last one."""
        return self.fields.get("IsTruncated", "").strip() == "true"

    def key(self, name: str, row: dict[str, str]) -> str:
        """A key as it is, in a document that was asked for with ``encoding-type=url``. Raises ValueError.

        S3 writes a blank as ``+`` there. A server that does not know the parameter sends keys as they are.
        """
        text = row.get(name, "")
        if self.fields.get("EncodingType") != "url" or not ("%" in text or "+" in text):
            return text
        return unquote_plus(text, errors="strict")


def read(document: bytes, root: str, row: str = "") -> Document:
    """A document whose root is called ``root``; the children of the root that are called ``row`` become rows.

    A root ``…Response`` is as good as a ``…Result``, because some servers call it so.

    Raises:
        ValueError: it is none, or not well-formed, or has a document type declaration.
    """
    top = _parse(document)
    local = _LocalNames()
    if local[top.tag] not in (root, root.replace("Result", "Response")):
        raise ValueError(f"{local[top.tag][:60]} instead of {root}")
    fields: dict[str, str] = {}
    rows: list[dict[str, str]] = []
    for child in top:
        if local[child.tag] == row:
            rows.append({local[item.tag]: item.text or "" for item in child})
        else:
            fields[local[child.tag]] = child.text or ""
    return Document(fields, rows)


def _parse(document: bytes) -> ElementTree.Element:
    """The root element. Raises ValueError."""
    # Without a NUL it is no UTF-16, which expat would see by itself whatever it is told, so that the declaration of a
    # type (hence of an entity) begins with these bytes; and nothing else does, since text has no bare "<".
    if b"\0" in document or b"<!DOCTYPE" in document:
        raise ValueError("an XML answer in another encoding than UTF-8, or with a document type declaration")
    try:
        # S3 keeps a connection alive with blanks while it completes an upload; XML takes none before its declaration.
        parser = ElementTree.XMLParser(encoding="utf-8")  # noqa: S314  size is bounded, declarations are refused above
        return ElementTree.XML(document.lstrip(), parser)
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from error


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def number(text: str | None) -> int:
    """A count or a size. Raises ValueError for anything but digits."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ValueError(f"not a number: {text[:40] if text else text!r}")
    return int(text)


def moment(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 time, which is UTC unless it says otherwise. Raises ValueError."""
    # Python 3.10 does not know the Z.
    found = datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith("Z") else text)
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()


def tags(document: bytes) -> dict[str, str]:
    """The tags in a Tagging document. Raises ValueError."""
    found = _parse(document)
    rows = [{_local(item.tag): item.text or "" for item in row} for rows in found for row in rows]
    if _local(found.tag) != "Tagging" or any("Key" not in row for row in rows):
        raise ValueError(f"{_local(found.tag)[:60]} instead of Tagging")
    return {row["Key"]: row.get("Value", "") for row in rows}


def completion(parts: Iterable[StoredPart]) -> bytes:
    """The body that completes an upload with ``parts``, each with its checksum if it has one."""
    items = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.part_id)}</ETag>"
        + ("" if part.crc32c is None else f"<ChecksumCRC32C>{encode_crc32c(part.crc32c)}</ChecksumCRC32C>")
        + "</Part>"
        for part in parts
    )
    return f'<CompleteMultipartUpload xmlns="{_NAMESPACE}">{items}</CompleteMultipartUpload>'.encode()


class _LocalNames(dict[str, str]):
    """Names without their namespace, each looked at once."""

    def __missing__(self, name: str) -> str:
        self[name] = found = _local(name)
        return found
