"""A super-packet is split around what is lost, and what is left is as if it had been sent so."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.testing.lab import segments
from tests.unit.lab import packets

SIZES = st.tuples(st.integers(1, 9000), st.integers(1, 1460))
FIN, PSH, ACK, CWR = 0x01, 0x08, 0x10, 0x80


def payload_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@given(SIZES, st.data(), st.integers(0, 2**32 - 1))
def test_a_cut_carries_its_own_bytes_under_right_headers(sizes, data, sequence):
    length, mss = sizes
    payload = payload_of(length)
    whole = packets.tcp(payload, mss=mss, sequence=sequence, flags=FIN | PSH | ACK | CWR)
    count = segments.shape(whole).segments
    assert count == -(-length // mss)
    first = data.draw(st.integers(0, count - 1))
    last = data.draw(st.integers(first + 1, count))
    piece = segments.cut(whole, first, last)
    parsed = packets.parse_tcp(piece)
    if count > 1:
        assert parsed.payload == payload[first * mss : last * mss]
        assert parsed.sequence == (sequence + first * mss) % 2**32
        assert bool(parsed.flags & FIN) == bool(parsed.flags & PSH) == (last == count)
        assert bool(parsed.flags & CWR) == (first == 0)
        assert segments.shape(piece).segments == last - first
    assert parsed.flags & ACK
    assert parsed.options == bytes(range(12))


def test_a_super_packet_counts_the_headers_of_all_its_segments():
    assert segments.shape(packets.tcp(bytes(2500), mss=1000)) == (3, 2500 + 3 * packets.HEADERS)
    assert segments.shape(packets.tcp(bytes(1000), mss=1000)) == (1, 1000 + packets.HEADERS)
    assert segments.shape(packets.udp(bytes(100))) == (1, 128)


def test_what_is_one_segment_stays_as_it_is():
    packet = packets.udp(b"hello")
    assert segments.cut(packet, 0, 1) is packet


def test_only_a_first_syn_dials():
    assert segments.dialled_port(packets.tcp(b"", flags=0x02, target_port=22)) == 22
    assert segments.dialled_port(packets.tcp(b"", flags=0x12, target_port=22)) is None
    assert segments.dialled_port(packets.tcp(b"x", flags=0x10, target_port=22)) is None
    assert segments.dialled_port(packets.udp(b"x")) is None


def test_a_flow_is_protocol_and_ports():
    assert segments.flow(packets.tcp(b"a")) == segments.flow(packets.tcp(b"b"))
    assert segments.flow(packets.tcp(b"a")) != segments.flow(packets.tcp(b"a", target_port=81))
    assert segments.flow(packets.tcp(b"a")) != segments.flow(packets.udp(b"a"))
