"""The few XML documents of Azure: one to build, three to parse.

The parser takes hostile bytes, as that of S3 does: one bounded answer, no document type declaration, and whatever is
wrong raises ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from skyplane_core.stores.s3_xml import number

_BOM = b"\xef\xbb\xbf"


class Entry(NamedTuple):
    """A blob in a listing; of a directory only its name, which ends in the delimiter, and ``directory``."""

    name: str
    properties: dict[str, str]
    metadata: dict[str, str]
    directory: bool = False


class Page(NamedTuple):
    """Entries in the order of the listing; ``next_marker`` is empty on the last page."""

    entries: list[Entry]
    next_marker: str


class BlockList(NamedTuple):
    """``(id, size)`` of blocks: those that make up the blob, in order, and those that wait."""

    committed: list[tuple[str, int]]
    uncommitted: list[tuple[str, int]]


class XmlError(NamedTuple):
    """An error document: Azure's code, such as ``BlobNotFound``, and its words."""

    code: str
    message: str


def build_block_list(block_ids: Iterable[str]) -> bytes:
    """The body that commits blocks which wait, in this order."""
    items = "".join(f"<Uncommitted>{escape(block_id)}</Uncommitted>" for block_id in block_ids)
    return f'<?xml version="1.0" encoding="utf-8"?><BlockList>{items}</BlockList>'.encode()


def parse_block_list(document: bytes) -> BlockList:
    """The answer to Get Block List."""
    lists: dict[str, list[tuple[str, int]]] = {"CommittedBlocks": [], "UncommittedBlocks": []}
    for child in _read(document, "BlockList"):
        if child.tag in lists:
            lists[child.tag] = [(block.findtext("Name") or "", number(block.findtext("Size"))) for block in child]
    return BlockList(lists["CommittedBlocks"], lists["UncommittedBlocks"])


def parse_page(document: bytes) -> Page:
    """One page of List Blobs."""
    root = _read(document, "EnumerationResults")
    blobs = root.find("Blobs")
    entries = [_entry(item) for item in blobs] if blobs is not None else []
    return Page(entries, root.findtext("NextMarker") or "")


def parse_error(document: bytes) -> XmlError | None:
    """The error that a document describes; None if it is no error document."""
    try:
        root = _read(document, "Error")
    except ValueError:
        return None
    # After the first line come a request id and a time.
    words = (root.findtext("Message") or "").strip().splitlines()
    detail = root.findtext("AuthenticationErrorDetail") or ""
    return XmlError(root.findtext("Code") or "", " ".join(filter(None, (*words[:1], detail))))


def _entry(item: ElementTree.Element) -> Entry:
    name = item.find("Name")
    if name is None or not name.text:
        raise ValueError("a blob without a name")
    text = unquote(name.text, errors="strict") if name.get("Encoded") == "true" else name.text
    properties, metadata = (
        {child.tag: child.text or "" for child in group} if (group := item.find(tag)) is not None else {}
        for tag in ("Properties", "Metadata")
    )
    return Entry(text, properties, metadata, directory=item.tag == "BlobPrefix")


def _read(document: bytes, root: str) -> ElementTree.Element:
    if b"\0" in document or b"<!DOCTYPE" in document:
        raise ValueError("an XML answer in another encoding than UTF-8, or with a document type declaration")
    try:
        parser = ElementTree.XMLParser(encoding="utf-8")  # noqa: S314  size is bounded, declarations are refused above
        top = ElementTree.XML(document.removeprefix(_BOM), parser)
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from error
    if top.tag != root:
        raise ValueError(f"{top.tag[:60]} instead of {root}")
    return top
