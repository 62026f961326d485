"""Frames, pure: bytes <-> values. The layout is drawn byte by byte in ``docs/wire.md``.

A *batch* is one sending of a lease: MANIFEST frames (see :mod:`gateway.manifest`), then DATA frames that cut the
concatenated payload of its parts. It travels whole on one connection, unless it is *scattered*: then its DATA frames
but for the first may come on other connections. The answer, in the other direction on the connection of the manifest,
is the batch's ACK frames or one REFUSE frame.
Every frame starts with a clear header of fixed size, which is also the associated data of its AEAD seal. Nothing in
this module allocates by a number that a peer chose; a header that parses has every length within its bound.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from collections.abc import Iterable
from typing import NamedTuple

from skyplane_core.errors import ProtocolError

VERSION = 3
MAGIC = b"SKYW"
MAX_RAW = 2 * 1024 * 1024
"""Raw bytes of one frame. docs/measurements.md: 1, 2 and 8 MiB are equal, 256-512 KiB cost a fifth more."""
TAG_SIZE = 16
"""AES-GCM's authentication tag, at the end of every frame's body."""
ANSWER_SALT_SIZE = 32
"""An ACK's body starts with so many fresh random bytes, in clear (see gateway.crypto)."""
MAX_BODY = MAX_RAW + TAG_SIZE + ANSWER_SALT_SIZE
MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of one whole manifest or answer: 1,000 objects with 10 KB of headers and metadata each, and half again."""
MAX_DESTINATIONS = 64

_LAYOUT = struct.Struct(">4sBBBB16sQIHHQ8sIQII32s")
HEADER_SIZE = _LAYOUT.size
SIZE_LIMIT = 2**53
"""Bytes that an offset may reach; far above any object, and exact in every language."""


class FrameType(enum.IntEnum):
    """What a frame carries; MANIFEST and DATA go from reader to writer, ACK and REFUSE back."""

    MANIFEST = 1
    DATA = 2
    ACK = 3
    REFUSE = 4


class Codec(enum.IntEnum):
    """How a frame's body was compressed."""

    RAW = 0
    LZ4 = 1
    """One raw LZ4 block; its output length is the header's raw length."""


LAST = 1
"""A flag: the last frame of the batch, or of the answer."""
SCATTERED = 2
"""A flag: this is a frame of a batch whose DATA frames come on several connections. Not in answers."""


class Header(NamedTuple):
    """The clear header of a frame. Lengths and offsets in bytes.

    ``transfer``, ``object``, ``part``, ``attempt``, ``destinations`` (a bit per destination), ``version_tag`` and
    ``salt`` identify the batch and are equal in all of its frames and in its answer; ``object`` and ``part`` are those
    of its first part. So is ``way``, the number by which relays know the next gateway. ``frame`` counts from 0 and
    ``offset`` is into the manifest, the payload or the answer.
    """

    type: FrameType
    codec: Codec
    last: bool
    transfer: bytes
    object: int
    part: int
    attempt: int
    destinations: int
    version_tag: bytes
    frame: int
    offset: int
    raw_length: int
    wire_length: int
    salt: bytes
    way: int = 0
    scattered: bool = False

    @property
    def batch(self) -> tuple[bytes, int, int, int, int, int, bytes, bytes]:
        """What is equal in all frames of one batch."""
        return (
            self.transfer, self.object, self.part, self.attempt, self.way, self.destinations, self.version_tag,
            self.salt,
        )  # fmt: skip


def transfer_tag(transfer_id: str) -> bytes:
    """The 16 bytes that stand for a transfer id in headers; ids may have any form."""
    return hashlib.blake2s(transfer_id.encode(), digest_size=16, person=b"skytrans").digest()


def version_tag(versions: Iterable[str]) -> bytes:
    """The 8 bytes that stand for the source versions of a batch's parts, in order."""
    digest = hashlib.blake2s(digest_size=8, person=b"skyversn")
    for version in versions:
        data = version.encode()
        digest.update(len(data).to_bytes(4, "big") + data)
    return digest.digest()


def destination_set(destinations: Iterable[int]) -> int:
    """A bit per destination.

    Raises:
        ProtocolError: an index does not fit the header.
    """
    bits = 0
    for destination in destinations:
        if not 0 <= destination < MAX_DESTINATIONS:
            raise ProtocolError(f"destination {destination} is not in 0..{MAX_DESTINATIONS - 1}")
        bits |= 1 << destination
    return bits


def pack_header(buffer: memoryview, header: Header) -> None:
    """Write ``header`` over the first ``HEADER_SIZE`` bytes of ``buffer``."""
    _LAYOUT.pack_into(
        buffer, 0, MAGIC, VERSION, header.type, header.codec, LAST * header.last | SCATTERED * header.scattered,
        header.transfer, header.object, header.part, header.attempt, header.way, header.destinations,
        header.version_tag, header.frame, header.offset, header.raw_length, header.wire_length, header.salt,
    )  # fmt: skip


def parse_header(buffer: bytes | bytearray | memoryview) -> Header:
    """The header that ``buffer`` starts with, every field within its bounds.

    Raises:
        ProtocolError: it is not a header of this version.
    """
    if len(buffer) < HEADER_SIZE:
        raise ProtocolError(f"{len(buffer)} bytes are not a header")
    (
        magic, version, type_, codec, flags, transfer, object_, part, attempt, way, destinations, tag, frame,
        offset, raw_length, wire_length, salt,
    ) = _LAYOUT.unpack_from(buffer)  # fmt: skip
    if magic != MAGIC:
        raise ProtocolError("the stream has no frame where one must start")
    if version != VERSION:
        raise ProtocolError(f"the peer speaks wire version {version}, this gateway {VERSION}")
    if flags & ~(LAST | SCATTERED):
        raise ProtocolError("a header has unknown flags")
    try:
        kind, packing = FrameType(type_), Codec(codec)
    except ValueError as error:
        raise ProtocolError(f"a header has an unknown type or codec: {error}") from error
    header = Header(
        kind, packing, bool(flags & LAST), transfer, object_, part, attempt, destinations, tag, frame, offset,
        raw_length, wire_length, salt, way, bool(flags & SCATTERED),
    )  # fmt: skip
    if header.scattered and kind not in (FrameType.MANIFEST, FrameType.DATA):
        raise ProtocolError("an answer is not scattered")
    _check_lengths(header)
    return header


def _check_lengths(header: Header) -> None:
    overhead = TAG_SIZE + (ANSWER_SALT_SIZE if header.type is FrameType.ACK else 0)
    if not 0 < header.raw_length <= MAX_RAW:
        raise ProtocolError(f"a frame of {header.raw_length} raw bytes, not of 1..{MAX_RAW}")
    # A block that did not shrink is sent raw, so a longer LZ4 body is a lie.
    longest = header.raw_length - (header.codec is Codec.LZ4) + overhead
    shortest = longest if header.codec is Codec.RAW else 1 + overhead
    if not shortest <= header.wire_length <= longest:
        raise ProtocolError(f"a frame of {header.raw_length} raw bytes has {header.wire_length} bytes on the wire")
    limit = SIZE_LIMIT if header.type is FrameType.DATA else MAX_MESSAGE
    if header.offset + header.raw_length > limit:
        raise ProtocolError(f"a frame reaches byte {header.offset + header.raw_length}, beyond {limit}")


def empty(template: Header, kind: FrameType, frame: int = 0) -> Header:
    """A header of the same batch as ``template`` whose lengths are still to be filled in."""
    return template._replace(
        type=kind, codec=Codec.RAW, last=False, frame=frame, offset=0, raw_length=0, wire_length=0, scattered=False
    )


class FrameOrder:
    """Checks that the headers of one batch, or of one answer, follow each other as they must.

    Args:
        first: the type of frame 0: MANIFEST (which DATA may follow), ACK or REFUSE.
    """

    def __init__(self, first: FrameType) -> None:
        self._type = first
        self._frame = 0
        self._offset = 0
        self._batch: tuple[bytes, int, int, int, int, int, bytes, bytes] | None = None
        self.complete = False

    def check(self, header: Header) -> None:
        """Accept the next header.

        Raises:
            ProtocolError: it is not the next one.
        """
        if self.complete:
            raise ProtocolError("a frame after the last of its batch")
        if self._batch is None:
            self._batch = header.batch
        if header.batch != self._batch:
            raise ProtocolError("a frame of another batch in the middle of one")
        if header.type is FrameType.DATA and self._type is FrameType.MANIFEST and self._frame:
            self._type, self._offset = FrameType.DATA, 0
        if (header.type, header.frame, header.offset) != (self._type, self._frame, self._offset):
            raise ProtocolError(
                f"frame {header.frame} of type {header.type.name} at {header.offset}, "
                f"expected {self._frame} of type {self._type.name} at {self._offset}"
            )
        self._frame += 1
        self._offset += header.raw_length
        self.complete = header.last
