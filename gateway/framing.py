"""Sealed frames of whole messages, and opening any frame: where wire, crypto and codec meet."""

from __future__ import annotations

from typing import Final

from gateway.codec import SCRATCH_SIZE, Encoder, decode_into
from gateway.crypto import Opener, Sealer
from gateway.wire import (
    HEADER_SIZE,
    MAX_MESSAGE,
    MAX_RAW,
    TAG_SIZE,
    Codec,
    FrameOrder,
    FrameType,
    Header,
    pack_header,
)
from skyplane_core.errors import StoreRejected
from skyplane_core.model import Compression

_BOUND_DIVISOR: Final = 255


def seal_message(template: Header, message: bytes, sealer: Sealer, *, last: bool, prefix: bytes = b"") -> bytearray:
    """The frames of a manifest, answer or refusal, ready to be sent. Always compressed where that helps.

    Args:
        template: type, batch identity and first frame number; the other fields are filled in here.
        last: whether the batch or answer ends with this message.
        prefix: goes in clear before each body.

    Raises:
        StoreRejected: the message is longer than ``MAX_MESSAGE``.
    """
    if len(message) > MAX_MESSAGE:
        raise StoreRejected(
            f"names and metadata of one batch take {len(message)} bytes, more than {MAX_MESSAGE}",
            next_step="Lease fewer objects at once.",
        )
    encoder = Encoder(Compression.LZ4, memoryview(bytearray(SCRATCH_SIZE)))
    frames = bytearray()
    view = memoryview(message)
    for number, offset in enumerate(range(0, len(message), MAX_RAW)):
        raw = view[offset : offset + MAX_RAW]
        start = HEADER_SIZE + len(prefix)
        frame = memoryview(bytearray(start + len(raw) + len(raw) // _BOUND_DIVISOR + 16 + TAG_SIZE))
        frame[HEADER_SIZE:start] = prefix
        length = encoder.encode_into(raw, frame[start:])
        body = raw if length is None else frame[start : start + length]
        size = len(prefix) + len(body) + TAG_SIZE
        header = template._replace(
            codec=Codec.RAW if length is None else Codec.LZ4,
            last=last and offset + len(raw) == len(message),
            frame=template.frame + number,
            offset=offset,
            raw_length=len(raw),
            wire_length=size,
        )
        pack_header(frame, header)
        sealer.seal_into(header.frame, body, frame[:HEADER_SIZE], frame[start:])
        frames += frame[: HEADER_SIZE + size]
    return frames


def open_frame(header: Header, clear: memoryview, body: memoryview, opener: Opener, out: memoryview) -> None:
    """Open one frame into ``out``, which has ``header.raw_length`` bytes. ``body`` is overwritten.

    Args:
        clear: the header's bytes as they came.
        body: what was sealed, without an answer's salt.

    Raises:
        FrameCorrupt: it is not what was sealed.
    """
    if header.codec is Codec.RAW:
        opener.open_into(header.frame, body, clear, out)
        return
    length = opener.open_into(header.frame, body, clear, body)
    decode_into(header.codec, body[:length], out)


class Assembly:
    """Collects the frames of one message. Holds at most ``MAX_MESSAGE`` bytes (FrameOrder's offsets see to it)."""

    def __init__(self, first: FrameType) -> None:
        self.order = FrameOrder(first)
        self.message = bytearray()

    def add(self, header: Header, clear: memoryview, body: memoryview, opener: Opener) -> None:
        """Open and append a frame that ``order`` has accepted. Raises FrameCorrupt."""
        piece = bytearray(header.raw_length)
        open_frame(header, clear, body, opener, memoryview(piece))
        self.message += piece
