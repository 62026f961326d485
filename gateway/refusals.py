"""The refusals that come in on a connection: sealed for this hop, each in its turn."""

from __future__ import annotations

from gateway.crypto import Opener
from gateway.framing import Assembly
from gateway.manifest import decode_refusal
from gateway.wire import FrameType, Header
from skyplane_core.errors import ErrorRecord, ProtocolError


class Refusals:
    """Reads them, for one thread. ``key`` is the session's for what the peer sends."""

    def __init__(self, key: bytes) -> None:
        self._opener = Opener(key)
        self._read = 0

    def read(self, header: Header, clear: memoryview, body: memoryview) -> ErrorRecord:
        """Why the batch of this header failed as a whole.

        Raises:
            ProtocolError, FrameCorrupt: it is not the next one, or not the peer's.
        """
        if (header.frame, header.offset, header.last) != (self._read, 0, True):
            raise ProtocolError("a refusal out of turn")
        self._read += 1
        assembly = Assembly(FrameType.REFUSE)
        assembly.add(header, clear, body, self._opener)
        return decode_refusal(assembly.message)
