"""Hadoop's RPC frames, as far as a relay to a NameNode has to read them. Pure: bytes in, bytes out.

A connection begins with seven bytes. Then each side sends frames: four bytes of length, a header and what it is about,
as protocol buffers with their length before them. Frames pass as they are, but for two kinds: the one that says for
which user the connection is, and the answers to calls, known by the number of the call, that name DataNodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from skyplane_core.stores.hdfs_proto import (
    BYTES,
    delimited,
    encoded,
    fields,
    number_in,
    text_in,
    undelimited,
    unzigzag,
    varint,
)

PREAMBLE_BYTES = 7
_CONTEXT_CALL = -3

Edit: TypeAlias = Callable[[bytes], bytes]
Shape: TypeAlias = "Mapping[int, Shape] | None"
"""Where in a message the DataNodes are: by the numbers of the fields that lead there. None: this is one."""

_BLOCK: Shape = {3: {1: None}}
_BLOCKS: Shape = {2: _BLOCK, 4: _BLOCK}
_NAMING_DATANODES: Mapping[str, Shape] = {
    "addBlock": {1: _BLOCK},
    "append": {1: _BLOCK},
    "getAdditionalDatanode": {1: _BLOCK},
    "getBlockLocations": {1: _BLOCKS},
    "getLocatedFileInfo": {1: {12: _BLOCKS}},
    "updateBlockForPipeline": {1: _BLOCK},
}


class Conversation:
    """What is said on one connection, changed on the way.

    Args:
        user: who the connection is to be for; empty for whoever the client says.
        datanodes: other addresses of DataNodes, see :class:`skyplane_core.model.Hadoop`. If there are any, clients are
            to use host names, and the host name of each DataNode becomes the given one, or its IP address.
    """

    def __init__(self, user: str, datanodes: Mapping[str, str]) -> None:
        self._user = user
        self._datanodes = datanodes
        self._methods: dict[int, str] = {}

    def upward(self, frame: bytes) -> bytes:
        """What the NameNode is sent instead of a client's frame (without its length)."""
        header, rest = undelimited(frame)
        call = unzigzag(number_in(header, 3))
        if call >= 0:
            method = text_in(undelimited(rest)[0], 1)
            if self._datanodes and method in _NAMING_DATANODES:
                self._methods[call] = method
        elif call == _CONTEXT_CALL and self._user:
            context = _edited(undelimited(rest)[0], {2: lambda _: encoded(1, self._user.encode())}, needed=True)
            return delimited(header) + delimited(context)
        return frame

    def downward(self, frame: bytes) -> bytes:
        """What the client is sent instead of a NameNode's frame (without its length)."""
        header, rest = undelimited(frame)
        method = self._methods.pop(number_in(header, 1), None)
        if method is None or not rest:
            return frame
        answer, _ = undelimited(rest)
        return delimited(header) + delimited(_at(answer, _NAMING_DATANODES[method], self._reachable))

    def _reachable(self, datanode: bytes) -> bytes:
        address, name, port = text_in(datanode, 1), text_in(datanode, 2), number_in(datanode, 4)
        names = (f"{name}:{port}", f"{address}:{port}", name, address)
        host = next((self._datanodes[known] for known in names if known in self._datanodes), address)
        host, _, other_port = host.partition(":")
        edited = _edited(datanode, {2: lambda _: host.encode()})
        if not other_port:
            return edited
        field = next(field for field in fields(edited) if field.number == 4)
        return edited[: field.value] + varint(int(other_port)) + edited[field.end :]


def _at(message: bytes, shape: Shape, edit: Edit) -> bytes:
    """The message with ``edit`` applied where ``shape`` says."""
    if shape is None:
        return edit(message)

    def deeper(number: int) -> Edit:
        return lambda value: _at(value, shape[number], edit)

    return _edited(message, {number: deeper(number) for number in shape})


def _edited(message: bytes, edits: Mapping[int, Edit], *, needed: bool = False) -> bytes:
    """The message with the values of some fields replaced. ``needed``: fields that are not there are added as well."""
    pieces, missing = [], dict(edits) if needed else {}
    for field in fields(message):
        missing.pop(field.number, None)
        if field.number in edits and field.kind == BYTES:
            pieces.append(encoded(field.number, edits[field.number](message[field.value : field.end])))
        else:
            pieces.append(message[field.start : field.end])
    pieces.extend(encoded(number, edit(b"")) for number, edit in missing.items())
    return b"".join(pieces)
