"""What frames carry besides part bytes: a batch's manifest, its answer, a refusal. Pure, as :mod:`gateway.wire`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from gateway.wire import SIZE_LIMIT
from skyplane_core.errors import ErrorRecord, ProtocolError
from skyplane_core.model import PartAck, PartFailure, PartTarget

MAX_PARTS = 65_536
"""Parts of one batch; keeps what one decoded manifest may cost within tens of megabytes."""
_COUNT_LIMIT = 2**32 - 1

_Count = Annotated[int, msgspec.Meta(ge=0, le=_COUNT_LIMIT)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=SIZE_LIMIT)]


class ManifestPart(msgspec.Struct, frozen=True, array_like=True):
    """One part of a batch as the reader describes it to the writer.

    ``payload_offset`` is where it starts in the batch's payload, ``object_offset`` where it starts in its object.
    ``targets`` carry their final attributes. ``crc32c`` is over the part's bytes as they came from the source.
    """

    object: _Size
    part: _Count
    payload_offset: _Size
    size: _Size
    object_offset: _Size
    crc32c: _Count
    targets: tuple[PartTarget, ...]


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """The writer's word about a batch: every part and destination of it in exactly one of the two."""

    acks: tuple[PartAck, ...]
    failures: tuple[PartFailure, ...]


_encoder = msgspec.msgpack.Encoder()
_manifest_decoder = msgspec.msgpack.Decoder(list[ManifestPart])
_answer_decoder = msgspec.msgpack.Decoder(Answer)
_refusal_decoder = msgspec.msgpack.Decoder(ErrorRecord)


def encode_manifest(parts: Sequence[ManifestPart]) -> bytes:
    """See :func:`decode_manifest`."""
    return _encoder.encode(parts)


def decode_manifest(data: bytes | bytearray | memoryview) -> list[ManifestPart]:
    """The parts of a batch: at least one, and their payloads follow each other without gap or overlap.

    Raises:
        ProtocolError: it is anything else.
    """
    try:
        parts = _manifest_decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise ProtocolError("a manifest does not decode", why=str(error)) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError("a manifest does not decode", why=type(error).__name__) from error
    if not 0 < len(parts) <= MAX_PARTS:
        raise ProtocolError(f"a manifest of {len(parts)} parts, not of 1..{MAX_PARTS}")
    expected = 0
    for part in parts:
        if part.payload_offset != expected or not part.targets or expected + part.size > SIZE_LIMIT:
            raise ProtocolError(f"a manifest puts part {part.part} of object {part.object} where it cannot be")
        expected += part.size
    return parts


def encode_answer(answer: Answer) -> bytes:
    """See :func:`decode_answer`."""
    return _encoder.encode(answer)


def decode_answer(data: bytes | bytearray | memoryview) -> Answer:
    """Raises ProtocolError if it is none."""
    try:
        return _answer_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError("an answer does not decode", why=type(error).__name__) from error


def encode_refusal(error: ErrorRecord) -> bytes:
    """See :func:`decode_refusal`."""
    return _encoder.encode(error)


def decode_refusal(data: bytes | bytearray | memoryview) -> ErrorRecord:
    """Raises ProtocolError if it is none."""
    try:
        return _refusal_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError("a refusal does not decode", why=type(error).__name__) from error
