"""What GCS requests and answers look like, as pure functions: targets, headers, hashes, JSON documents.

Nothing here does I/O. Header values are decoded as Latin-1.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

import msgspec

from skyplane_core.model import ObjectAttributes, ObjectInfo, Precondition
from skyplane_core.stores.http_head import Headers

STASH = "skyplane-attributes"
"""Metadata key that carries attributes which no header can, between the initiation of an upload and its completion."""

OBJECT_FIELDS = (
    "name,size,generation,metageneration,updated,crc32c,"
    "contentType,cacheControl,contentDisposition,contentEncoding,contentLanguage,metadata,storageClass,customTime"
)

META = "x-goog-meta-"
_CLASS = "x-goog-storage-class"
_DEFAULT_CLASS = "STANDARD"
_HEADERS = (
    ("content_type", "Content-Type"),
    ("cache_control", "Cache-Control"),
    ("content_disposition", "Content-Disposition"),
    ("content_encoding", "Content-Encoding"),
    ("content_language", "Content-Language"),
    ("custom_time", "x-goog-custom-time"),
)
# Header names are case-insensitive, so a key with capitals would not be sure to survive.
_META_NAME = re.compile(r"[a-z0-9!#$&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")


class JsonObject(msgspec.Struct, rename="camel", gc=False):
    """The object resource of the JSON API, as far as we read it. GCS writes 64-bit integers as strings."""

    name: str
    size: Annotated[int, msgspec.Meta(ge=0, le=10**18)] = 0
    generation: str = ""
    metageneration: str = ""
    updated: datetime | None = None
    crc32c: str = ""
    content_type: str = ""
    cache_control: str = ""
    content_disposition: str = ""
    content_encoding: str = ""
    content_language: str = ""
    metadata: dict[str, str] = {}
    storage_class: str = ""
    custom_time: str = ""

    def attributes(self) -> ObjectAttributes:
        # By position, in the order of their declaration: a listing makes millions of these.
        return ObjectAttributes(
            self.content_type,
            self.cache_control,
            self.content_disposition,
            self.content_encoding,
            self.content_language,
            self.metadata,
            storage_class=_class(self.storage_class),
            custom_time=self.custom_time,
        )

    def info(self) -> ObjectInfo:
        return ObjectInfo(
            self.name,
            self.size,
            self.generation,
            self.updated.timestamp() if self.updated else 0.0,
            decode_crc32c(self.crc32c),
            self.attributes(),
        )


class JsonPage(msgspec.Struct, rename="camel"):
    """One page of a listing."""

    items: list[JsonObject] = []
    next_page_token: str = ""


# Made once and here: msgspec works out a type on its first use, and crashes if two threads do so at once.
# Not strict: a number may be a string.
OBJECT = msgspec.json.Decoder(JsonObject, strict=False)
PAGE = msgspec.json.Decoder(JsonPage, strict=False)
_ATTRIBUTES = msgspec.json.Decoder(ObjectAttributes)


def xml_target(bucket: str, key: str = "", *, flag: str = "", **query: str | int) -> str:
    """Path and query of an XML API request, path style.

    ``flag`` is a parameter without a value; empty values are left out, ``_`` in a name stands for ``-``.
    ``/`` is encoded too: then no server or proxy on the way can collapse ``//`` or resolve ``..`` within a key.
    """
    path = f"/{quote(bucket, safe='')}" + (f"/{quote(key, safe='')}" if key else "")
    query_text = _query(query)
    if flag:
        query_text = f"?{flag}" + query_text.replace("?", "&", 1)
    return path + query_text


def json_target(
    bucket: str, key: str | None = None, *, upload: bool = False, verb: str = "", **query: str | int
) -> str:
    """Path and query of a JSON API request on a bucket's objects (``key`` None) or on one object.

    ``verb`` is what is done with that object, quoted.
    """
    path = f"{'/upload' if upload else ''}/storage/v1/b/{quote(bucket, safe='')}/o"
    if key is not None:
        path += f"/{quote(key, safe='')}"
    return path + (f"/{verb}" if verb else "") + _query(query)


def _query(query: Mapping[str, str | int]) -> str:
    pairs = [f"{name.replace('_', '-')}={quote(str(value), safe='')}" for name, value in query.items() if value != ""]
    return f"?{'&'.join(pairs)}" if pairs else ""


def encode_crc32c(crc32c: int) -> str:
    """CRC32C as GCS writes it: base64 of the four bytes, big-endian."""
    return base64.b64encode(crc32c.to_bytes(4, "big")).decode()


def decode_crc32c(text: str) -> int | None:
    """The inverse of :func:`encode_crc32c`; None for an empty or malformed value."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return int.from_bytes(raw, "big") if len(raw) == 4 else None


def hash_crc32c(headers: Headers) -> int | None:
    """The CRC32C in ``x-goog-hash``, which may be repeated and may hold several hashes.

    It is always over the whole object as it is stored: so it is on an answer to a ranged read, and on one that the
    server decompressed on the way (which ours never are, because they accept gzip).
    """
    for header in headers.get_all("x-goog-hash"):
        for item in header.split(","):
            name, _, value = item.strip().partition("=")
            if name == "crc32c":
                return decode_crc32c(value)
    return None


def generation_match(precondition: Precondition) -> str:
    """The generation that a conditional request names: ``0`` for absent, empty for no condition."""
    return "0" if precondition.absent else precondition.version


def fits_headers(attributes: ObjectAttributes) -> bool:
    """Whether headers carry ``attributes`` exactly: lower-case token names, ASCII values without blanks around them."""
    values = [value for field, _ in _HEADERS if (value := getattr(attributes, field))]
    values.extend(attributes.metadata.values())
    return all(map(_META_NAME.fullmatch, attributes.metadata)) and all(map(_HEADER_VALUE.fullmatch, values))


def attribute_headers(attributes: ObjectAttributes) -> dict[str, str]:
    """Request headers that set ``attributes``, for which :func:`fits_headers` holds."""
    headers = {header: value for field, header in _HEADERS if (value := getattr(attributes, field))}
    headers.update({META + name: value for name, value in attributes.metadata.items()})
    return headers


def placement_headers(attributes: ObjectAttributes, kms_key: str) -> dict[str, str]:
    """Request headers that say in which storage class an object is made, and with which key it is encrypted."""
    headers = {_CLASS: attributes.storage_class, "x-goog-encryption-kms-key-name": kms_key}
    return {name: value for name, value in headers.items() if value}


def _class(name: str) -> str:
    return "" if name == _DEFAULT_CLASS else name


def stash_headers(attributes: ObjectAttributes) -> dict[str, str]:
    """Request headers that park any ``attributes`` in one ASCII metadata value (see :func:`unstash`)."""
    return {META + STASH: base64.urlsafe_b64encode(msgspec.json.encode(attributes)).decode()}


def unstash(value: str) -> ObjectAttributes:
    """The attributes that :func:`stash_headers` parked. Raises ValueError for anything else."""
    return _ATTRIBUTES.decode(base64.urlsafe_b64decode(value))


def parse_attributes(headers: Headers) -> ObjectAttributes | None:
    """The attributes in an XML API answer's headers, or None where headers cannot be trusted with them.

    That is the case with any byte beyond ASCII (how the XML API encodes those is not documented) and with a header
    line that is none. The JSON API then knows better.
    """
    if headers.defects or any(not (name + value).isascii() for name, value in headers.items()):
        return None
    found: dict[str, Any] = {field: headers.get(header, "") for field, header in _HEADERS}
    # Content-Encoding tells how this answer is encoded, this one how the object is stored.
    stored = headers.get("x-goog-stored-content-encoding")
    if stored is not None:
        found["content_encoding"] = "" if stored == "identity" else stored
    metadata = {name[len(META) :]: value for name, value in headers.items() if name.lower().startswith(META)}
    return ObjectAttributes(**found, metadata=metadata, storage_class=_class(headers.get(_CLASS, "")))


def json_attributes(attributes: ObjectAttributes) -> dict[str, object]:
    """``attributes`` as members of the JSON API's object resource; empty ones are left out."""
    members: dict[str, object] = {}
    for field, _ in _HEADERS:
        if value := getattr(attributes, field):
            head, *rest = field.split("_")
            members[head + "".join(map(str.title, rest))] = value
    if attributes.metadata:
        members["metadata"] = dict(attributes.metadata)
    return members


def multipart_related(boundary: str, resource: Mapping[str, object], data: memoryview) -> bytes:
    """The body of a JSON API upload: the object resource, then its bytes."""
    # The type is in the resource; repeated here, as far as a header can carry it, for servers that look only here.
    content_type = str(resource.get("contentType", ""))
    if not _HEADER_VALUE.fullmatch(content_type):
        content_type = "application/octet-stream"
    head = f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode()
    middle = f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\n\r\n".encode()
    return b"".join((head, msgspec.json.encode(resource), middle, data, f"\r\n--{boundary}--".encode()))
