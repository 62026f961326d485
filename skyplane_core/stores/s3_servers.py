"""What each S3 server can be trusted with, as data.

A server that ignores a precondition, or echoes a checksum that it never compared, looks like one that means it. So an
unknown server claims nothing: its preconditions are not relied on, no attestation is expected of it, and it is not
asked to copy by itself. It is believed a checksum only if it says of which type it is, as a server of AWS's present
checksum protocol does. A server enters this table with a case in ``tests/conformance``, AWS and R2 with their
documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from skyplane_core.model import Attestation
from skyplane_core.stores import http_head
from skyplane_core.stores.base import MIB, Capabilities

Headers: TypeAlias = "Mapping[str, str] | http_head.Headers"
"""An answer's headers, or a mapping with names in lower case."""


class Server(NamedTuple):
    """One kind of server. ``echoes_checksums``: what it answers is what it was sent, unseen."""

    name: str
    capabilities: Capabilities
    echoes_checksums: bool = False


UNKNOWN = Server(
    "unknown",
    Capabilities(attestation=Attestation.READ_BACK, conditional_put=False, conditional_complete=False),
)
_MAX_COPY = 5 * 1024 * MIB
AWS = Server(
    "AWS",
    Capabilities(
        attestation=Attestation.WHOLE,
        conditional_delete=True,
        listing_ranges=True,
        max_copy=_MAX_COPY,
        copies_parts=True,
        conditional_copy=True,
    ),
)
"""User guide, "Checking object integrity" and "Conditional requests", and the API reference of CopyObject; general
purpose buckets."""
R2 = Server(
    "Cloudflare R2",
    Capabilities(
        attestation=Attestation.PER_PART,
        conditional_complete=False,
        max_part_size=5115 * MIB,
        max_single_put=5115 * MIB,
        max_object_size=5 * 1024 * 1023 * MIB,
    ),
)
"""Cloudflare, "S3 API compatibility" (no CRC32C of a whole upload) and "Limits". That all parts but the last are of one
size is how objects are cut for every store (:func:`skyplane_core.planner.parts.cut`)."""
OBJECT_SERVER = Server("skyplane-objectserver", AWS.capabilities)
MOTO = Server(
    "moto",
    # It ignores If-Match on a completion and on a delete.
    Capabilities(
        attestation=Attestation.READ_BACK, conditional_complete=False, listing_ranges=True, max_copy=_MAX_COPY
    ),
    echoes_checksums=True,
)
SWIFT = Server(
    "Swift s3api",
    # If-None-Match works on a PUT, but everything else is answered 501, so that we look first and nothing is atomic. It
    # compares the checksums of PUTs and of parts, and keeps none.
    Capabilities(attestation=Attestation.READ_BACK, conditional_put=False, conditional_complete=False),
)


def identify(headers: Headers) -> Server:
    """The server behind an answer's headers."""
    name = (headers.get("server") or "").lower()
    if name == "amazons3":
        return AWS
    if "objectserver" in name:
        return OBJECT_SERVER
    if "werkzeug" in name:
        return MOTO
    if headers.get("x-trans-id") and headers.get("x-openstack-request-id"):
        return SWIFT
    return UNKNOWN


def vouches(headers: Headers) -> bool:
    """Whether the object checksum in an answer is one that the server computed."""
    return bool(headers.get("x-amz-checksum-type")) and not identify(headers).echoes_checksums
