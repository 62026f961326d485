"""XML documents, written by hand because that is quick, and read without entities."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from skyplane_core.testing.objectserver.messages import ApiError

S3_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
GCS_NAMESPACE = "http://doc.s3.amazonaws.com/2006-03-01"


def element(name: str, value: object) -> str:
    """``<name>value</name>``, escaped; True and False in lower case."""
    if isinstance(value, bool):
        return f"<{name}>{'true' if value else 'false'}</{name}>"
    # A carriage return that is not written as a reference would be read as a newline.
    return f"<{name}>{escape(str(value), _CONTROL)}</{name}>"


_CONTROL = {"\r": "&#13;"}


def wrap(name: str, *children: str) -> str:
    """An element of ready-made children."""
    return f"<{name}>{''.join(children)}</{name}>"


def elements(pairs: Iterable[tuple[str, object]]) -> str:
    """Elements side by side; a value of None leaves its element out."""
    return "".join(element(name, value) for name, value in pairs if value is not None)


def document(root: str, content: str, namespace: str = "") -> bytes:
    """A whole document."""
    attribute = f' xmlns="{namespace}"' if namespace else ""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}{attribute}>{content}</{root}>'.encode()


def parse(data: bytes) -> ElementTree.Element:
    """A client's document, names without their namespace.

    Raises:
        ApiError: MalformedXML.
    """
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ApiError(400, "MalformedXML", "document types are not accepted")
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 - entities were refused above
    except ElementTree.ParseError as error:
        raise ApiError(400, "MalformedXML", f"The XML you provided was not well-formed: {error}") from None
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
    return root


def text(node: ElementTree.Element, name: str) -> str:
    """The text of a child, "" if there is none."""
    return (node.findtext(name) or "").strip()
