"""Frames: what is packed parses, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import manifest, wire
from gateway.manifest import Answer, ManifestPart
from gateway.wire import Codec, FrameOrder, FrameType, Header
from skyplane_core.errors import ErrorRecord, ProtocolError
from skyplane_core.model import ObjectAttributes, PartAck, PartFailure, PartTarget, Stored

U16, U32, U64 = 2**16 - 1, 2**32 - 1, 2**64 - 1


@st.composite
def headers(draw: st.DrawFn) -> Header:
    kind = draw(st.sampled_from(FrameType))
    codec = draw(st.sampled_from(Codec))
    raw = draw(st.integers(2, wire.MAX_RAW))
    overhead = wire.TAG_SIZE + (wire.ANSWER_SALT_SIZE if kind is FrameType.ACK else 0)
    body = raw if codec is Codec.RAW else draw(st.integers(1, raw - 1))
    limit = 2**53 if kind is FrameType.DATA else wire.MAX_MESSAGE
    return Header(
        kind,
        codec,
        draw(st.booleans()),
        draw(st.binary(min_size=16, max_size=16)),
        draw(st.integers(0, U64)),
        draw(st.integers(0, U32)),
        draw(st.integers(0, U16)),
        draw(st.integers(0, U64)),
        draw(st.binary(min_size=8, max_size=8)),
        draw(st.integers(0, U32)),
        draw(st.integers(0, limit - raw)),
        raw,
        body + overhead,
        draw(st.binary(min_size=32, max_size=32)),
        draw(st.integers(0, U16)),
        kind in (FrameType.MANIFEST, FrameType.DATA) and draw(st.booleans()),
    )


def packed(header: Header) -> bytearray:
    buffer = bytearray(wire.HEADER_SIZE)
    wire.pack_header(memoryview(buffer), header)
    return buffer


@given(headers())
def test_a_header_survives_the_wire(header: Header) -> None:
    assert wire.parse_header(packed(header) + b"what follows") == header


@given(st.binary(max_size=3 * wire.HEADER_SIZE))
def test_other_bytes_are_no_header(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        wire.parse_header(data)


@given(st.data(), headers())
def test_a_damaged_header_is_refused_or_within_all_bounds(data: st.DataObject, header: Header) -> None:
    buffer = packed(header)
    for _ in range(data.draw(st.integers(1, 8))):
        buffer[data.draw(st.integers(0, len(buffer) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = wire.parse_header(buffer)
    except ProtocolError:
        return
    assert 0 < parsed.raw_length <= wire.MAX_RAW
    assert wire.TAG_SIZE < parsed.wire_length <= wire.MAX_BODY
    assert packed(parsed) == buffer


EXAMPLE = Header(
    FrameType.DATA, Codec.RAW, False, b"t" * 16, 1, 2, 3, 1, b"v" * 8, 1, 0, 1000, 1000 + wire.TAG_SIZE, b"s" * 32
)


@pytest.mark.parametrize(
    "change",
    [
        {"raw_length": 0, "wire_length": wire.TAG_SIZE},
        {"raw_length": wire.MAX_RAW + 1, "wire_length": wire.MAX_RAW + 1 + wire.TAG_SIZE},
        {"wire_length": 999 + wire.TAG_SIZE},
        {"wire_length": U32},
        {"codec": Codec.LZ4},
        {"codec": Codec.LZ4, "wire_length": wire.TAG_SIZE},
        {"offset": U64},
        {"type": FrameType.ACK},
        {"type": FrameType.REFUSE, "scattered": True},
        {"type": FrameType.MANIFEST, "offset": wire.MAX_MESSAGE - 999},
    ],
)
def test_lengths_out_of_bounds_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ProtocolError):
        wire.parse_header(packed(EXAMPLE._replace(**change)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("offset", "value"), [(0, 0), (4, 2), (4, 4), (5, 0), (5, 9), (6, 7), (7, 4)])
def test_an_unknown_version_type_codec_or_flag_is_refused(offset: int, value: int) -> None:
    buffer = packed(EXAMPLE)
    buffer[offset] = value
    with pytest.raises(ProtocolError):
        wire.parse_header(buffer)


def test_the_layout_is_the_one_in_the_documentation() -> None:
    header = packed(
        EXAMPLE._replace(object=0x0102030405060708, part=0x11121314, attempt=0x2122, way=0x3132, frame=5, offset=9)
    )
    assert wire.HEADER_SIZE == 108
    assert header[:8] == b"SKYW" + bytes([3, 2, 0, 0])
    assert packed(EXAMPLE._replace(last=True))[7] == 1
    assert packed(EXAMPLE._replace(scattered=True))[7] == 2
    assert header[8:24] == b"t" * 16
    assert header[24:40] == bytes([1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x21, 0x22, 0x31, 0x32])
    assert header[40:56] == bytes([0, 0, 0, 0, 0, 0, 0, 1]) + b"v" * 8
    assert header[56:76] == bytes([0, 0, 0, 5]) + bytes([0, 0, 0, 0, 0, 0, 0, 9]) + (1000).to_bytes(4, "big") + (
        1016
    ).to_bytes(4, "big")
    assert header[76:] == b"s" * 32


def sequence(*steps: tuple[FrameType, int, int, int, bool]) -> list[Header]:
    return [
        EXAMPLE._replace(type=kind, frame=frame, offset=offset, raw_length=raw, last=last)
        for kind, frame, offset, raw, last in steps
    ]


GOOD = sequence(
    (FrameType.MANIFEST, 0, 0, 10, False),
    (FrameType.MANIFEST, 1, 10, 5, False),
    (FrameType.DATA, 2, 0, 100, False),
    (FrameType.DATA, 3, 100, 7, True),
)


def test_frames_of_a_batch_follow_each_other() -> None:
    order = FrameOrder(FrameType.MANIFEST)
    for header in GOOD:
        assert not order.complete
        order.check(header)
    assert order.complete
    with pytest.raises(ProtocolError):
        order.check(GOOD[-1])


@given(
    st.integers(0, 3),
    st.sampled_from(
        [
            {"frame": 9},
            {"offset": 3},
            {"salt": b"x" * 32},
            {"attempt": 9},
            {"transfer": b"o" * 16},
            {"type": FrameType.ACK},
            {"destinations": 3},
            {"version_tag": b"o" * 8},
            {"way": 1},
        ]
    ),
)
def test_a_frame_out_of_order_is_refused(position: int, change: dict[str, object]) -> None:
    order = FrameOrder(FrameType.MANIFEST)
    changed = [*GOOD[:position], GOOD[position]._replace(**change), *GOOD[position + 1 :]]  # type: ignore[arg-type]

    def check() -> None:
        for header in changed:
            order.check(header)

    with pytest.raises(ProtocolError):
        check()


def test_a_batch_does_not_start_with_data() -> None:
    with pytest.raises(ProtocolError):
        FrameOrder(FrameType.MANIFEST).check(EXAMPLE._replace(frame=0))


TARGET = PartTarget(0, "key", attributes=ObjectAttributes("text/plain", metadata={"a": "ä"}))
PARTS = [ManifestPart(1, 1, 0, 10, 0, 7, (TARGET,)), ManifestPart(2, 1, 10, 0, 0, 0, (TARGET, PartTarget(3, "k", "u")))]


def test_manifests_answers_and_refusals_survive_the_wire() -> None:
    assert manifest.decode_manifest(manifest.encode_manifest(PARTS)) == PARTS
    record = ErrorRecord("LinkLost", "what")
    answer = Answer((PartAck(1, 1, 0, 10, 7, stored=Stored("v", 10)),), (PartFailure(2, 1, 3, record),))
    assert manifest.decode_answer(manifest.encode_answer(answer)) == answer
    assert manifest.decode_refusal(manifest.encode_refusal(record)) == record


@pytest.mark.parametrize(
    "change",
    [
        {"payload_offset": 11},
        {"payload_offset": 9},
        {"targets": ()},
        {"size": -1},
        {"size": 2**60},
        {"crc32c": 2**32},
        {"object": -1},
    ],
)
def test_manifests_with_gaps_or_out_of_bounds_are_refused(change: dict[str, int]) -> None:
    parts = [PARTS[0], msgspec.structs.replace(PARTS[1], **change)]
    with pytest.raises(ProtocolError):
        manifest.decode_manifest(manifest.encode_manifest(parts))


def test_a_manifest_has_parts_and_not_too_many() -> None:
    for parts in ([], [msgspec.structs.replace(PARTS[0], size=0)] * (manifest.MAX_PARTS + 1)):
        with pytest.raises(ProtocolError):
            manifest.decode_manifest(manifest.encode_manifest(parts))


@pytest.mark.parametrize("decode", [manifest.decode_manifest, manifest.decode_answer, manifest.decode_refusal])
@given(data=st.binary(max_size=200))
def test_decoders_raise_nothing_but_a_protocol_error(decode: Callable[[bytes], object], data: bytes) -> None:
    try:
        decode(data)
    except ProtocolError:
        return


@given(st.data())
def test_damaged_manifests_raise_nothing_but_a_protocol_error(data: st.DataObject) -> None:
    buffer = bytearray(manifest.encode_manifest(PARTS))
    for _ in range(data.draw(st.integers(1, 5))):
        buffer[data.draw(st.integers(0, len(buffer) - 1))] = data.draw(st.integers(0, 255))
    del buffer[data.draw(st.integers(0, len(buffer))) :]
    try:
        parts = manifest.decode_manifest(buffer)
    except ProtocolError:
        return
    assert parts


def test_deep_nesting_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError):
        manifest.decode_manifest(b"\x91" * 100_000)


def test_tags_differ_by_every_byte() -> None:
    assert wire.transfer_tag("a") != wire.transfer_tag("b")
    assert wire.version_tag(["ab", "c"]) != wire.version_tag(["a", "bc"])
    assert wire.destination_set([0, 3, 3]) == 0b1001
    for index in (-1, 64):
        with pytest.raises(ProtocolError):
            wire.destination_set([index])
