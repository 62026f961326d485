"""The few XML documents of GCS multipart uploads: one to build, five to parse.

The parser takes hostile bytes: a document type declaration, and with it any entity of its own, is refused, and size,
depth and number of elements are bounded. Parsing raises ValueError and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote
from xml.parsers import expat
from xml.sax.saxutils import escape

from skyplane_core.model import StoredPart

MAX_BYTES = 4 * 1024 * 1024
_MAX_DEPTH = 8
_BLANKED = bytes(32 if byte < 32 and byte not in b"\t\n\r" else byte for byte in range(256))
_MAX_ELEMENTS = 50_000


class XmlError(NamedTuple):
    """An error document: GCS's code, such as ``NoSuchKey``, and its words."""

    code: str
    message: str


class PartsPage(NamedTuple):
    """Parts in order; ``next_marker`` asks for the next page and is None on the last one."""

    parts: list[StoredPart]
    next_marker: int | None


class UploadsPage(NamedTuple):
    """``(key, upload id)`` pairs, and the two markers that ask for the next page; both are empty on the last one."""

    uploads: list[tuple[str, str]]
    next_key: str
    next_upload: str


class _Element:
    """An element without attributes, which none of these documents needs; names are without their namespace."""

    __slots__ = ("children", "name", "text")

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""
        self.children: list[_Element] = []

    def get(self, name: str) -> str:
        """The text of the first child of that name, or an empty string."""
        return next((child.text for child in self.children if child.name == name), "")

    def all(self, name: str) -> list[_Element]:
        return [child for child in self.children if child.name == name]


def build_complete(parts: Iterable[StoredPart]) -> bytes:
    """The body that completes an upload with ``parts``, which are put in order of their numbers."""
    items = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(part.part_id)}</ETag></Part>"
        for part in sorted(parts, key=lambda part: part.number)
    )
    return f"<CompleteMultipartUpload>{items}</CompleteMultipartUpload>".encode()


def parse_initiate(document: bytes) -> str:
    """The upload id in an InitiateMultipartUploadResult."""
    upload_id = _parse(document, "InitiateMultipartUploadResult").get("UploadId")
    if not upload_id:
        raise ValueError("no UploadId in the answer")
    return upload_id


def parse_complete(document: bytes) -> str:
    """The ETag in a CompleteMultipartUploadResult."""
    return _parse(document, "CompleteMultipartUploadResult").get("ETag")


def parse_parts(document: bytes) -> PartsPage:
    """One page of a ListPartsResult."""
    root = _parse(document, "ListPartsResult")
    parts = [
        StoredPart(number=_number(item.get("PartNumber")), part_id=item.get("ETag"), size=_number(item.get("Size")))
        for item in root.all("Part")
    ]
    truncated = root.get("IsTruncated") == "true"
    return PartsPage(parts, _number(root.get("NextPartNumberMarker")) if truncated else None)


def parse_uploads(document: bytes) -> UploadsPage:
    """One page of a ListMultipartUploadsResult."""
    root = _parse(document, "ListMultipartUploadsResult", names_matter=True)
    decode = unquote if root.get("EncodingType") == "url" else str
    uploads = [(decode(item.get("Key")), item.get("UploadId")) for item in root.all("Upload")]
    if root.get("IsTruncated") != "true":
        return UploadsPage(uploads, "", "")
    markers = decode(root.get("NextKeyMarker")), root.get("NextUploadIdMarker")
    if not any(markers):
        raise ValueError("a truncated listing names no next page")
    return UploadsPage(uploads, *markers)


def parse_error(document: bytes) -> XmlError | None:
    """The error that a document describes; None if it is no error document."""
    try:
        root = _parse(document, "Error")
    except ValueError:
        return None
    message = root.get("Message")
    details = root.get("Details")
    return XmlError(root.get("Code"), f"{message} {details}".strip() if details else message)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ValueError(f"not a number: {text[:40]!r}")
    return int(text)


def _parse(document: bytes, expected: str, *, names_matter: bool = False) -> _Element:
    """The root element. Raises ValueError unless it is called ``expected`` and within the bounds.

    Control characters that XML cannot hold, which come with an object's name, become blanks unless ``names_matter``.
    """
    if len(document) > MAX_BYTES:
        raise ValueError(f"an XML answer of {len(document)} bytes")
    top = _Element("")
    stack = [top]
    count = 0

    def start(name: str, _attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if len(stack) > _MAX_DEPTH or count > _MAX_ELEMENTS:
            raise ValueError("an XML answer that is nested too deeply or too long")
        element = _Element(name.rpartition(" ")[2].rpartition(":")[2])
        stack[-1].children.append(element)
        stack.append(element)

    def end(_name: str) -> None:
        stack.pop()

    def text(data: str) -> None:
        stack[-1].text += data

    def doctype(*_arguments: object) -> None:
        raise ValueError("an XML answer with a document type declaration")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(document if names_matter else document.translate(_BLANKED), True)  # noqa: FBT003  the parser takes no keyword
    except expat.ExpatError as error:
        raise ValueError(f"not XML: {error}") from error
    root = top.children[0]
    if root.name != expected:
        raise ValueError(f"{root.name[:60]} instead of {expected}")
    return root
