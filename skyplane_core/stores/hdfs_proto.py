"""Protocol buffers, as far as Hadoop's RPC is concerned: fields by their numbers, without a schema. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from skyplane_core.errors import ProtocolError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field of a message: it begins at ``start``, its value at ``value``; both end at ``end``."""

    number: int
    kind: int
    start: int
    value: int
    end: int


def fields(message: bytes) -> Iterator[Field]:
    """The fields of a message. Raises ProtocolError: it is none."""
    position = 0
    while position < len(message):
        start = position
        tag, position = read_varint(message, position)
        value, kind = position, tag & 7
        if kind == VARINT:
            _, position = read_varint(message, position)
        elif kind == BYTES:
            size, value = read_varint(message, position)
            position = value + size
        elif kind in (FIXED64, FIXED32):
            position += 8 if kind == FIXED64 else 4
        else:
            raise ProtocolError(f"a field of kind {kind} in Hadoop's RPC")
        if position > len(message):
            raise ProtocolError("a message of Hadoop's RPC ends within a field")
        yield Field(tag >> 3, kind, start, value, position)


def number_in(message: bytes, number: int) -> int:
    """The first number in a field, 0 if it is not there."""
    for field in fields(message):
        if field.number == number and field.kind == VARINT:
            return read_varint(message, field.value)[0]
    return 0


def text_in(message: bytes, number: int) -> str:
    """The first text in a field, empty if it is not there."""
    for field in fields(message):
        if field.number == number and field.kind == BYTES:
            return message[field.value : field.end].decode("utf-8", "replace")
    return ""


def undelimited(data: bytes) -> tuple[bytes, bytes]:
    """A message with its length before it, and what follows."""
    size, start = read_varint(data, 0)
    if start + size > len(data):
        raise ProtocolError("a frame of Hadoop's RPC ends within a message")
    return data[start : start + size], data[start + size :]


def encoded(number: int, value: bytes) -> bytes:
    """A field that holds bytes, a text or a message."""
    return varint(number << 3 | BYTES) + delimited(value)


def delimited(message: bytes) -> bytes:
    """A message with its length before it."""
    return varint(len(message)) + message


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ProtocolError("a message of Hadoop's RPC ends within a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ProtocolError("a number in Hadoop's RPC is too long")


def varint(value: int) -> bytes:
    """A number that is not negative."""
    pieces = bytearray()
    while value > 0x7F:
        pieces.append(value & 0x7F | 0x80)
        value >>= 7
    pieces.append(value)
    return bytes(pieces)


def unzigzag(value: int) -> int:
    """A number that may be negative, from the one that stands for it."""
    return value >> 1 ^ -(value & 1)
