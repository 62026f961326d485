"""What the HDFS client's library does not offer: joining files, and extended attributes. Calls straight to a NameNode.

Only where the cluster has no Kerberos: whoever connects says who it is. Elsewhere there are no such calls, and who asks
for one does without.
"""

from __future__ import annotations

import secrets
import socket
import struct
from collections.abc import Sequence

from skyplane_core.errors import ProtocolError, StoreUnavailable
from skyplane_core.stores.hdfs_errors import mapped
from skyplane_core.stores.hdfs_proto import BYTES, delimited, encoded, fields, number_in, text_in, undelimited, varint

_PREAMBLE = b"hrpc\x09\x00\x00"
_PROTOCOL = b"org.apache.hadoop.hdfs.protocol.ClientProtocol"
_CONNECTION_CALL, _CALL = -3, 0
_CREATE_OR_REPLACE = 3
_TIMEOUT_SECONDS = 60.0
_MAX_ANSWER = 16 * 1024 * 1024


class NameNodeCalls:
    """Calls to the active one of ``namenodes`` as ``user``; each opens a connection of its own.

    They raise StoreRejected or PermissionDenied where the NameNode refuses, StoreUnavailable where none answers.
    """

    def __init__(self, namenodes: Sequence[tuple[str, int]], user: str) -> None:
        self._namenodes = namenodes
        self._user = user

    def concat(self, target: str, sources: Sequence[str], where: str) -> None:
        """Append ``sources`` to ``target`` by moving their blocks, all or nothing; ``sources`` are gone then."""
        request = encoded(1, target.encode()) + b"".join(encoded(2, source.encode()) for source in sources)
        self._call(b"concat", request, where)

    def set_attribute(self, path: str, name: str, value: str, where: str) -> None:
        """Set an extended attribute of the user's name space."""
        attribute = _varint_field(1, 0) + encoded(2, name.encode()) + encoded(3, value.encode())
        request = encoded(1, path.encode()) + encoded(2, attribute) + _varint_field(3, _CREATE_OR_REPLACE)
        self._call(b"setXAttr", request, where)

    def attribute(self, path: str, name: str, where: str) -> str:
        """An extended attribute of the user's name space, empty if it is not there."""
        answer = self._call(b"getXAttrs", encoded(1, path.encode()), where)
        for field in fields(answer):
            found = answer[field.value : field.end]
            if field.kind == BYTES and number_in(found, 1) == 0 and text_in(found, 2) == name:
                return text_in(found, 3)
        return ""

    def _call(self, method: bytes, request: bytes, where: str) -> bytes:
        refusal: StoreUnavailable | None = None
        for namenode in self._namenodes:
            try:
                with mapped(where):
                    return _ask(namenode, self._user, method, request)
            except StoreUnavailable as error:
                refusal = error  # It is the standby, or gone: the next one may be the active one.
        raise refusal or StoreUnavailable("there is no NameNode to ask", where=where)


def _ask(namenode: tuple[str, int], user: str, method: bytes, request: bytes) -> bytes:
    """The answer's message. Raises OSError, or RuntimeError in the words of the client's library."""
    client = secrets.token_bytes(16)
    context = encoded(2, encoded(1, user.encode())) + encoded(3, _PROTOCOL)
    call = encoded(1, method) + encoded(2, _PROTOCOL) + _varint_field(3, 1)
    with socket.create_connection(namenode, _TIMEOUT_SECONDS) as connection:
        connection.sendall(
            _PREAMBLE
            + _frame(delimited(_header(client, _CONNECTION_CALL)) + delimited(context))
            + _frame(delimited(_header(client, _CALL)) + delimited(call) + delimited(request))
        )
        with connection.makefile("rb") as stream:
            (size,) = struct.unpack(">I", _exactly(stream.read(4), 4))
            if size > _MAX_ANSWER:
                raise ProtocolError(f"an answer of {size} bytes from a NameNode")
            answer = _exactly(stream.read(size), size)
    header, rest = undelimited(answer)
    if number_in(header, 2):
        raise RuntimeError(f'RPCError("{text_in(header, 4)}", "{text_in(header, 5)}")')
    return undelimited(rest)[0] if rest else b""


def _header(client: bytes, call: int) -> bytes:
    return (
        _varint_field(1, 2)
        + _varint_field(2, 0)
        + _varint_field(3, call * 2 if call >= 0 else -call * 2 - 1)
        + encoded(4, client)
    )


def _frame(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def _varint_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) < size:
        raise ConnectionResetError("the NameNode ended the connection")
    return data
