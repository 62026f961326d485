"""Content headers and user metadata between :class:`ObjectAttributes` and S3's headers.

S3 metadata is US-ASCII; what is not, and what HTTP would trim, travels as an RFC 2047 word, the form in which AWS
itself hands out non-ASCII values. So is what merely looks like such a word, and every value comes back as it went.
Metadata names are lower-case in S3, whatever they were.
"""

from __future__ import annotations

import base64
import binascii
import quopri
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlencode

from skyplane_core.model import ObjectAttributes, StoreConfig
from skyplane_core.spec import STATE_SEGMENT

META_PREFIX = "x-amz-meta-"
_CLASS = "x-amz-storage-class"
_HEADERS = {
    "content_type": "Content-Type",
    "cache_control": "Cache-Control",
    "content_disposition": "Content-Disposition",
    "content_encoding": "Content-Encoding",
    "content_language": "Content-Language",
}
_WORD = re.compile(r"=\?([A-Za-z0-9_-]+)\?([BbQq])\?([^? ]*)\?=")


def to_headers(attributes: ObjectAttributes) -> dict[str, str]:
    """The request headers of a write that carries ``attributes``."""
    headers = {header: value for name, header in _HEADERS.items() if (value := getattr(attributes, name))}
    headers |= {META_PREFIX + name.lower(): encode_value(value) for name, value in attributes.metadata.items()}
    if attributes.storage_class:
        headers[_CLASS] = attributes.storage_class
    if attributes.tags:
        headers["x-amz-tagging"] = urlencode(attributes.tags, quote_via=quote)
    return headers


def protection_headers(config: StoreConfig, key: str) -> dict[str, str]:
    """The request headers that say how a write is protected: its encryption at rest, and who may read it.

    An access control list is for copies: who may read them need not see journals and receipts.
    """
    headers = {
        "x-amz-server-side-encryption": config.encryption,
        "x-amz-server-side-encryption-aws-kms-key-id": config.kms_key if config.encryption else "",
        "x-amz-acl": "" if f"/{STATE_SEGMENT}/" in f"/{key}" else config.acl,
    }
    return {name: value for name, value in headers.items() if value}


def from_headers(headers: Iterable[tuple[str, str]]) -> ObjectAttributes:
    """The attributes in an answer's headers, as they came."""
    found = {name.lower(): _as_utf8(value) for name, value in headers}
    metadata = {
        name[len(META_PREFIX) :]: decode_value(value) for name, value in found.items() if name.startswith(META_PREFIX)
    }
    content: dict[str, Any] = {name: found.get(header.lower(), "") for name, header in _HEADERS.items()}
    # S3 does not name its default; some servers do.
    storage_class = found.get(_CLASS, "")
    return ObjectAttributes(
        **content, metadata=metadata, storage_class="" if storage_class == "STANDARD" else storage_class
    )


def encode_value(value: str) -> str:
    """A metadata value as it travels."""
    if value.isascii() and value.isprintable() and value == value.strip() and not _WORD.search(value):
        return value
    return f"=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?="


def decode_value(value: str) -> str:
    """A metadata value from the wire; words that cannot be decoded stay as they are."""
    # RFC 2047: blanks between two words belong to the encoding, not to the text.
    joined = re.sub(r"(\?=)\s+(?==\?)", r"\1", value)
    return _WORD.sub(_decode_word, joined) if "=?" in value else value


def _decode_word(word: re.Match[str]) -> str:
    charset, encoding, text = word.groups()
    try:
        if encoding in "Bb":
            return base64.b64decode(text, validate=True).decode(charset)
        return quopri.decodestring(text.encode(), header=True).decode(charset)
    except (binascii.Error, UnicodeDecodeError, LookupError):
        return word.group(0)


def _as_utf8(value: str) -> str:
    """Headers are read as Latin-1; a server that sends UTF-8 meant UTF-8."""
    if value.isascii():
        return value
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value
