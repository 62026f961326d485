"""A batch's payload on its way out: frames sealed one after the other, for one connection or for several in turn."""

from __future__ import annotations

import threading
from typing import Final

from gateway.batch import Batch
from gateway.codec import SCRATCH_SIZE, Encoder, compress_bound
from gateway.crypto import Sealer
from gateway.wire import HEADER_SIZE, MAX_RAW, TAG_SIZE, Codec, Header, pack_header

SMALL_FRAME: Final = 256 * 1024
"""Payload of a frame where connections are many and each is slow: each sender and each receiver holds one in memory."""

_FIRST_FRAME: Final = 16 * 1024
"""Of a batch that several connections carry: the others' frames wait at the writer until it is there."""


class Scratch:
    """A sender thread's own memory: one frame and the probe's output.

    Args:
        most: payload bytes of a frame.
    """

    def __init__(self, most: int = MAX_RAW) -> None:
        self.most = most
        self.frame = memoryview(bytearray(HEADER_SIZE + compress_bound(most) + TAG_SIZE))
        self.probe = memoryview(bytearray(SCRATCH_SIZE))


class Course:
    """The DATA frames of one sending of a batch. Thread-safe; once the last one is sealed the payload is free.

    ``helped``: several connections send them, each of which is slow.

    Args:
        first: the header of the first one, but for its lengths.
        payload: not empty.
        probe: memory for the encoder, as a :class:`Scratch` has it; nobody else's while this lasts.
    """

    def __init__(self, batch: Batch, first: Header, payload: memoryview, sealer: Sealer, probe: memoryview) -> None:
        self.scattered = first.scattered
        self.helped = False
        self._batch = batch
        self._first = first
        self._payload = payload
        self._sealer = sealer
        self._encoder = Encoder(batch.transfer.config.compression, probe, stays_here=batch.stays_here)
        batch.encoder = self._encoder
        self._number = first.frame
        self._offset = 0
        self._lock = threading.Lock()

    def seal(self, scratch: Scratch) -> tuple[memoryview, int]:
        """Make the next frame in ``scratch``: it, and its payload's bytes. An empty one after the last."""
        with self._lock:
            offset, frame = self._offset, scratch.frame
            # A long one on one of many slow connections would keep the whole batch waiting for its end.
            most = min(scratch.most, SMALL_FRAME if offset else _FIRST_FRAME) if self.helped else scratch.most
            raw = self._payload[offset : offset + most]
            if not raw:
                return frame[:0], 0
            length = self._encoder.encode_into(raw, frame[HEADER_SIZE : len(frame) - TAG_SIZE])
            body = raw if length is None else frame[HEADER_SIZE : HEADER_SIZE + length]
            size = len(body) + TAG_SIZE
            header = self._first._replace(
                codec=Codec.RAW if length is None else Codec.LZ4,
                last=offset + len(raw) == len(self._payload),
                frame=self._number,
                offset=offset,
                raw_length=len(raw),
                wire_length=size,
            )
            clear = frame[:HEADER_SIZE]
            pack_header(clear, header)
            self._sealer.seal_into(self._number, body, clear, frame[HEADER_SIZE:])
            self._number += 1
            self._offset = offset + len(raw)
            # Counted before it is sent, since the answer may be here before that returns.
            self._batch.wire_bytes += HEADER_SIZE + size
            return frame[: HEADER_SIZE + size], len(raw)

    def stop(self) -> None:
        """Seal nothing more: the payload is about to be given back."""
        with self._lock:
            self._payload = self._payload[:0]
