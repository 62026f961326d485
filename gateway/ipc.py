"""A message channel over a socket pair between two processes of one gateway.

Frames are a 4-byte big-endian length and a msgpack body. File descriptors may ride along with a message.
"""

from __future__ import annotations

import array
import socket
import threading
from typing import Any, Generic, TypeVar

import msgspec

from skyplane_core.errors import ProtocolError

T = TypeVar("T")
MAX_MESSAGE = 64 * 1024 * 1024


class Channel(Generic[T]):
    """Blocking, message-wise. ``send`` may be called from any thread, ``receive`` from one.

    Args:
        sock: one end of a ``socket.socketpair()`` (AF_UNIX, SOCK_STREAM).
        incoming: the type, or union of types, that ``receive`` decodes.
    """

    def __init__(self, sock: socket.socket, incoming: Any) -> None:
        self._sock = sock
        self._send_lock = threading.Lock()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(incoming)
        self._fds: list[int] = []

    def send(self, message: Any, fd: int | None = None) -> None:
        """Send one message, and with it a file descriptor (which stays open here).

        Raises:
            OSError: the other process is gone.
        """
        body = self._encoder.encode(message)
        data = len(body).to_bytes(4, "big") + body
        with self._send_lock:
            if fd is None:
                self._sock.sendall(data)
                return
            # The descriptor rides on the first byte: the kernel delivers it with that byte or not at all.
            socket.send_fds(self._sock, [data[:1]], [fd])
            self._sock.sendall(data[1:])

    def receive(self) -> T | None:
        """The next message; None when the other side has closed.

        Raises:
            ProtocolError: what came is no message.
        """
        header = self._exactly(4)
        if header is None:
            return None
        size = int.from_bytes(header, "big")
        if size > MAX_MESSAGE:
            raise ProtocolError(f"a message of {size} bytes between processes of one gateway")
        body = self._exactly(size)
        if body is None:
            return None
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError("a message between processes does not decode", why=type(error).__name__) from error

    def take_fd(self) -> int:
        """The file descriptor that came with the last message.

        Raises:
            ProtocolError: none came.
        """
        if not self._fds:
            raise ProtocolError("a message that announces a socket came without one")
        return self._fds.pop(0)

    def close(self) -> None:
        self._sock.close()

    def _exactly(self, size: int) -> bytes | None:
        chunks = bytearray()
        while len(chunks) < size:
            try:
                data, ancillary, _flags, _address = self._sock.recvmsg(
                    min(size - len(chunks), 1 << 20), socket.CMSG_SPACE(4 * 4)
                )
            except ConnectionResetError:
                return None
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds = array.array("i")
                    fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
                    self._fds.extend(fds)
            if not data:
                return None
            chunks += data
        return bytes(chunks)
