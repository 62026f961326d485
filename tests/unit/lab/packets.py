"""Packets as the kernel hands them over, made by hand."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

HEADERS = 20 + 32


def checksum(data: bytes) -> int:
    """RFC 1071, the slow and obvious way."""
    total = 0
    for high, low in zip(data[::2], data[1::2], strict=True):
        total += high << 8 | low
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def internet(protocol: int, body: bytes, source: str = "10.1.0.1", target: str = "10.2.0.1") -> bytes:
    def header(value: int) -> bytes:
        return struct.pack(
            "!BBHHHBBH4s4s",
            *(0x45, 0, 20 + len(body), 77, 0x4000, 64, protocol, value),
            *(socket.inet_aton(source), socket.inet_aton(target)),
        )

    return header(checksum(header(0))) + body


def tcp(payload: bytes, *, mss: int = 1000, sequence: int = 5, flags: int = 0x18, target_port: int = 80) -> bytes:
    """A segment, or a super-packet if the payload is longer than one."""
    options = bytes(range(12))
    addresses = socket.inet_aton("10.1.0.1") + socket.inet_aton("10.2.0.1")
    pseudo_header = addresses + struct.pack("!HH", socket.IPPROTO_TCP, HEADERS - 20 + len(payload))
    partial = ~checksum(pseudo_header) & 0xFFFF
    header = struct.pack("!HHIIBBHHH", 4000, target_port, sequence, 9, 8 << 4, flags, 500, partial, 0) + options
    many = len(payload) > mss
    virtio = struct.pack("=BBHHHH", 1, 1 if many else 0, HEADERS if many else 0, mss if many else 0, 20, 16)
    return virtio + internet(socket.IPPROTO_TCP, header + payload)


def udp(payload: bytes) -> bytes:
    body = struct.pack("!HHHH", 4000, 53, 8 + len(payload), 0) + payload
    return bytes(10) + internet(socket.IPPROTO_UDP, body)


class Parsed(NamedTuple):
    sequence: int
    flags: int
    options: bytes
    payload: bytes


def parse_tcp(packet: bytes) -> Parsed:
    """Check every length and checksum of a TCP packet, and return what it carries."""
    flags, gso_type, _header, gso_size, csum_start, csum_offset = struct.unpack("=BBHHHH", packet[:10])
    ip = packet[10:]
    assert checksum(ip[:20]) == 0
    assert int.from_bytes(ip[2:4], "big") == len(ip)
    assert (flags, csum_start, csum_offset) == (1, 20, 16)
    payload = ip[HEADERS:]
    assert (gso_type == 0) == (gso_size == 0)
    assert gso_type == 0 or len(payload) > gso_size
    pseudo_header = ip[12:20] + struct.pack("!HH", socket.IPPROTO_TCP, len(ip) - 20)
    assert int.from_bytes(ip[36:38], "big") == ~checksum(pseudo_header) & 0xFFFF
    return Parsed(int.from_bytes(ip[24:28], "big"), ip[33], ip[40:52], payload)
