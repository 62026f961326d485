"""What Azure's requests and answers hold besides documents, as pure functions: names, headers, checksums, block ids.

A block's id tells the upload, the part's number and the CRC32C of its bytes. So a part that is put again is the same
block, other bytes are another one, and a commit names exactly the bytes that were acknowledged.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from typing import Any, NamedTuple

import msgspec

from skyplane_core.errors import StoreRejected
from skyplane_core.model import ObjectAttributes, Precondition
from skyplane_core.spec import SOURCE_VERSION_KEY
from skyplane_core.stores.blob_names import blob_refusal
from skyplane_core.stores.http_head import Headers
from skyplane_core.stores.s3_attributes import decode_value, encode_value

META = "x-ms-meta-"
CRC64 = "x-ms-content-crc64"
MD5 = "Content-MD5"
IS_DIRECTORY = "x-ms-meta-hdi_isfolder"
"""Marks a directory of a hierarchical namespace; in a flat one, a blob by which Hadoop's tools mean a directory."""
OPEN, ABORTED = 0, 99_999
"""Numbers of blocks that are no parts: the one that opens an upload, and the one that says it was aborted."""

_CONTENT = {
    "content_type": "Content-Type",
    "cache_control": "Cache-Control",
    "content_disposition": "Content-Disposition",
    "content_encoding": "Content-Encoding",
    "content_language": "Content-Language",
}
_SOURCE_VERSION = SOURCE_VERSION_KEY.replace("-", "_")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_TOKEN_CHARACTERS = 20
_BLOCK = re.compile(r"([0-9a-z]{20})([0-9]{5})([0-9a-f]{8})")
_ATTRIBUTES = msgspec.json.Decoder(ObjectAttributes)


class Block(NamedTuple):
    """What the id of one of our blocks says. ``token`` is the upload's."""

    token: str
    number: int
    crc32c: int

    @property
    def id(self) -> str:
        """As requests carry it. All of ours are equally long, as Azure demands of the blocks of one blob."""
        return base64.b64encode(f"{self.token}{self.number:05}{self.crc32c:08x}".encode()).decode()


def parse_block(block_id: str) -> Block | None:
    """The inverse of :attr:`Block.id`; None for an id that is none of ours."""
    try:
        found = _BLOCK.fullmatch(base64.b64decode(block_id, validate=True).decode())
    except (binascii.Error, ValueError):
        return None
    return Block(found[1], int(found[2]), int(found[3], 16)) if found else None


def new_upload(attributes: ObjectAttributes) -> str:
    """The id of a new upload, which carries the attributes that its commit will set: Azure has no place for them."""
    token = secrets.token_hex(_TOKEN_CHARACTERS // 2)
    if attributes == ObjectAttributes():
        return token
    return f"{token}.{base64.urlsafe_b64encode(msgspec.json.encode(attributes)).decode()}"


def token_of(upload_id: str) -> str:
    """The part of an upload's id that its blocks carry."""
    return upload_id[:_TOKEN_CHARACTERS]


def attributes_of(upload_id: str) -> ObjectAttributes:
    """The attributes in an upload's id. Raises ValueError for what is no such id."""
    packed = upload_id[_TOKEN_CHARACTERS + 1 :]
    return _ATTRIBUTES.decode(base64.urlsafe_b64decode(packed)) if packed else ObjectAttributes()


def check_key(key: str, where: str) -> None:
    """Refuse names that Azure refuses, and those that it would quietly take for another one.

    Raises:
        StoreRejected: it says why.
    """
    if why := blob_refusal(key):
        raise StoreRejected("not a name for a blob", where=where, why=why, next_step="Rename the object.")


def unholdable(attributes: ObjectAttributes) -> str:
    """Why a blob cannot have these attributes, or nothing.

    Metadata names are identifiers that differ in more than their case, and their values are not empty. Content headers
    are ASCII without blanks around them.
    """
    seen: set[str] = set()
    for name, value in attributes.metadata.items():
        held = _SOURCE_VERSION if name == SOURCE_VERSION_KEY else name
        if not _IDENTIFIER.fullmatch(held):
            return f"the metadata name {name!r} is not an identifier (ASCII letters, digits and _, no digit first)"
        if held.lower() in seen:
            return f"the metadata name {name!r} is there twice, but for its case"
        seen.add(held.lower())
        if not value:
            return f"the value of the metadata {name!r} is empty"
    for field, header in _CONTENT.items():
        if (value := getattr(attributes, field)) and not _VALUE.fullmatch(value):
            return f"{header} is not ASCII, or has blanks around it"
    return ""


def attribute_headers(attributes: ObjectAttributes, where: str) -> dict[str, str]:
    """The request headers of a write that carries ``attributes``.

    Raises:
        StoreRejected: a blob cannot have them (:func:`unholdable`).
    """
    if why := unholdable(attributes):
        raise StoreRejected(
            "the object's metadata cannot be kept on Azure",
            where=where,
            why=why,
            next_step="Change the source object's metadata, or copy without them.",
        )
    headers = {
        f"x-ms-blob-{header}": value for field, header in _CONTENT.items() if (value := getattr(attributes, field))
    }
    for name, value in attributes.metadata.items():
        headers[META + (_SOURCE_VERSION if name == SOURCE_VERSION_KEY else name)] = encode_value(value)
    return headers


def parse_attributes(headers: Headers) -> ObjectAttributes:
    """The attributes in an answer's headers."""
    content: dict[str, Any] = {field: headers.get(header, "") for field, header in _CONTENT.items()}
    found = {name[len(META) :]: value for name, value in headers.items() if name.lower().startswith(META)}
    return ObjectAttributes(**content, metadata=known_metadata(found))


def listed_attributes(properties: dict[str, str], metadata: dict[str, str]) -> ObjectAttributes:
    """The attributes in an entry of a listing."""
    content: dict[str, Any] = {field: properties.get(header, "") for field, header in _CONTENT.items()}
    return ObjectAttributes(**content, metadata=known_metadata(metadata))


def known_metadata(found: dict[str, str]) -> dict[str, str]:
    """Metadata as the engine knows them: the source's version has a hyphen in its name, and values may be any text."""
    return {
        (SOURCE_VERSION_KEY if name.lower() == _SOURCE_VERSION else name): decode_value(value)
        for name, value in found.items()
    }


def condition_headers(precondition: Precondition) -> dict[str, str]:
    """What a conditional write demands; a version is an ETag without its quotes."""
    if precondition.absent:
        return {"If-None-Match": "*"}
    return {"If-Match": f'"{precondition.version}"'} if precondition.version else {}


def from_etag(etag: str) -> str:
    """An ETag as a version: listings show it without quotes, headers with."""
    return etag.strip('"')


def encode_crc64(crc64nvme: int) -> str:
    """As the service has it: the CRC-64 of NVM Express, base64 of its eight bytes, the least significant one first."""
    return base64.b64encode(crc64nvme.to_bytes(8, "little")).decode()


def encode_md5(data: memoryview | bytes) -> str:
    """The header's value for a body."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
