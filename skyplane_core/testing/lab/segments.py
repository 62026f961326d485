"""Packets as a TUN device with a virtio header hands them over: an IPv4 packet, or many TCP segments in one.

The kernel leaves segmentation to the "hardware", which is us, so one read moves up to 64 KB and Python is fast
enough. Such a super-packet is one header and the payload of all its segments; gso_size says where to cut. To lose one
segment is to split the super-packet around it. Layout: ``struct virtio_net_hdr`` in linux/virtio_net.h, RFC 791, RFC
9293.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

VIRTIO = 10
"""Bytes of the virtio header: flags, gso_type, hdr_len u16, gso_size u16, csum_start u16, csum_offset u16."""
TCP, UDP = 6, 17
FIN, SYN, PSH, ACK, CWR = 0x01, 0x02, 0x08, 0x10, 0x80


class Shape(NamedTuple):
    """What a packet is on the wire."""

    segments: int
    wire_bytes: int
    """With the headers that each segment would carry."""


def shape(packet: bytes) -> Shape:
    """How many segments a packet is, and how many bytes they are on the wire."""
    length = len(packet) - VIRTIO
    if packet[1] == 0:
        return Shape(1, length)
    headers = _header_bytes(packet)
    segments = -(-(length - headers) // (packet[4] | packet[5] << 8))
    return Shape(segments, length + (segments - 1) * headers)


def cut(packet: bytes, first: int, last: int) -> bytes:
    """Segments ``first`` to ``last`` (exclusive) of a packet, as a packet with right lengths, sequence and checksums.

    The TCP checksum field gets the sum of the pseudo-header, and whoever receives the packet completes it, as it was
    before. A packet of one segment is returned as it is.
    """
    if packet[1] == 0:
        return packet
    headers = VIRTIO + _header_bytes(packet)
    size = packet[4] | packet[5] << 8
    begin = headers + first * size
    end = min(headers + last * size, len(packet))
    out = bytearray(packet[:headers])
    out += packet[begin:end]
    if end - begin <= size:
        out[1] = out[4] = out[5] = 0
    ip = VIRTIO
    tcp = ip + (out[ip] & 15) * 4
    identification = int.from_bytes(out[ip + 4 : ip + 6], "big") + first
    struct.pack_into("!HH", out, ip + 2, len(out) - ip, identification & 0xFFFF)
    struct.pack_into("!H", out, ip + 10, 0)
    struct.pack_into("!H", out, ip + 10, ~_fold(out[ip:tcp]) & 0xFFFF)
    sequence = int.from_bytes(out[tcp + 4 : tcp + 8], "big") + first * size
    struct.pack_into("!I", out, tcp + 4, sequence & 0xFFFFFFFF)
    if end < len(packet):
        out[tcp + 13] &= ~(FIN | PSH) & 0xFF
    if first:
        out[tcp + 13] &= ~CWR & 0xFF
    pseudo_header = bytes(out[ip + 12 : ip + 20]) + struct.pack("!HH", TCP, len(out) - tcp)
    struct.pack_into("!H", out, tcp + 16, _fold(pseudo_header))
    return bytes(out)


def source_address(packet: bytes) -> bytes:
    """Four bytes."""
    return packet[VIRTIO + 12 : VIRTIO + 16]


def target_address(packet: bytes) -> bytes:
    """Four bytes."""
    return packet[VIRTIO + 16 : VIRTIO + 20]


def flow(packet: bytes) -> bytes:
    """Protocol, and ports if there are any: what tells the flows between two hosts apart."""
    transport = VIRTIO + (packet[VIRTIO] & 15) * 4
    protocol = packet[VIRTIO + 9]
    return packet[VIRTIO + 9 : VIRTIO + 10] + (packet[transport : transport + 4] if protocol in {TCP, UDP} else b"")


def dialled_port(packet: bytes) -> int | None:
    """The port that a packet would open a TCP connection to; None if it does not try to."""
    transport = VIRTIO + (packet[VIRTIO] & 15) * 4
    if packet[VIRTIO + 9] != TCP or packet[transport + 13] & (SYN | ACK) != SYN:
        return None
    return packet[transport + 2] << 8 | packet[transport + 3]


def _header_bytes(packet: bytes) -> int:
    internet = (packet[VIRTIO] & 15) * 4
    return internet + (packet[VIRTIO + internet + 12] >> 4) * 4


def _fold(data: bytes | bytearray) -> int:
    """The ones' complement sum of 16-bit words (RFC 1071), not inverted; ``data`` has an even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
