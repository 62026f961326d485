"""A relay on the loopback between the HDFS client and a NameNode.

The client library takes the user from the environment of the whole process, and DataNodes' addresses as the NameNode
knows them, which is from inside the cluster. What passes here can have another user and other addresses
(:mod:`skyplane_core.stores.hdfs_rpc`). Part bytes do not pass here: they go to the DataNodes straight. Only processes
of the user that runs this one are let in.
"""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from skyplane_core.errors import ProtocolError
from skyplane_core.stores.hdfs_rpc import PREAMBLE_BYTES, Conversation

CONNECT_SECONDS = 20.0
_MAX_FRAME = 128 * 1024 * 1024
"""What Hadoop's own servers and clients take."""


class NameNodeRelay:
    """Listens on a free port of 127.0.0.1 until it is closed, and passes each connection on to ``namenode``.

    ``trouble`` says why the last connection to the NameNode could not be made; empty if it could.
    """

    def __init__(self, namenode: tuple[str, int], user: str, datanodes: Mapping[str, str]) -> None:
        self.namenode = namenode
        self.trouble = ""
        self._user = user
        self._datanodes = datanodes
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        relay = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                # One that ends before it is looked at.
                with contextlib.suppress(OSError):
                    relay._pass_on(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="hdfs-relay", daemon=True).start()

    @property
    def address(self) -> str:
        """``host:port`` for clients."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def close(self) -> None:
        """Stop listening and end all connections."""
        self._server.shutdown()
        self._server.server_close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _pass_on(self, client: socket.socket) -> None:
        if not _is_ours(client):
            return
        try:
            namenode = socket.create_connection(self.namenode, CONNECT_SECONDS)
        except OSError as error:
            self.trouble = f"{self.namenode[0]}:{self.namenode[1]}: {error.strerror or error}"
            return
        self.trouble = ""
        namenode.settimeout(None)
        conversation = Conversation(self._user, self._datanodes)
        with self._noted(client, namenode):
            back = threading.Thread(target=_pump, args=(namenode, client, conversation.downward), daemon=True)
            back.start()
            with contextlib.suppress(OSError, EOFError):
                namenode.sendall(_exactly(client, PREAMBLE_BYTES))
                _pump(client, namenode, conversation.upward)
            back.join()

    @contextlib.contextmanager
    def _noted(self, client: socket.socket, namenode: socket.socket) -> Iterator[None]:
        with client, namenode:
            with self._lock:
                self._open |= {client, namenode}
            try:
                yield
            finally:
                with self._lock:
                    self._open -= {client, namenode}


def _is_ours(client: socket.socket) -> bool:
    """Whether the other end of a loopback connection belongs to our user, as far as the system tells (Linux does)."""
    try:
        rows = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    except FileNotFoundError:
        return True
    ends = tuple(f"0100007F:{port:04X}" for port in (client.getpeername()[1], client.getsockname()[1]))
    owners = [int(row[7]) for row in map(str.split, rows) if (row[1], row[2]) == ends]
    return owners == [os.getuid()]


def _pump(source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes]) -> None:
    """Pass frames on until either side ends; then end both."""
    try:
        while True:
            (size,) = struct.unpack(">I", _exactly(source, 4))
            if size > _MAX_FRAME:
                return
            frame = change(_exactly(source, size))
            sink.sendall(struct.pack(">I", len(frame)) + frame)
    except (OSError, EOFError, ProtocolError):
        return
    finally:
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _exactly(source: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = source.recv(min(size - len(data), 1024 * 1024))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
