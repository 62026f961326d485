"""What a relay changes in Hadoop's frames, and that it leaves everything else alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.errors import ProtocolError
from skyplane_core.stores.hdfs_rpc import Conversation


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number * 8) + varint(value)
    return varint(number * 8 + 2) + varint(len(value)) + value


def delimited(*messages: bytes) -> bytes:
    return b"".join(varint(len(message)) + message for message in messages)


def request(method: str, call: int, rest: bytes = b"\x08\x01") -> bytes:
    header = field(1, 2) + field(3, call * 2) + field(4, b"a client's id..")
    return delimited(header, field(1, method.encode()) + field(2, b"protocol") + field(3, 1), rest)


def answer(call: int, body: bytes) -> bytes:
    return delimited(field(1, call) + field(2, 0), body)


def datanode(address: str, name: str, port: int) -> bytes:
    return field(1, address.encode()) + field(2, name.encode()) + field(3, b"uuid") + field(4, port) + field(5, 50075)


def block(*datanodes: bytes) -> bytes:
    where = b"".join(field(3, field(1, each) + field(2, 1000)) for each in datanodes)
    return field(1, b"\x0a\x02bp") + field(2, 0) + where + field(4, 0) + field(5, b"a token")


INSIDE = datanode("10.0.0.5", "dn1.cluster", 9866)
SHAPES = {
    "getBlockLocations": lambda found: field(1, field(1, 77) + field(2, found) + field(2, found) + field(4, found)),
    "getLocatedFileInfo": lambda found: field(1, field(2, b"path") + field(12, field(2, found))),
    "addBlock": lambda found: field(1, found),
    "append": lambda found: field(1, found) + field(2, b"status"),
    "getAdditionalDatanode": lambda found: field(1, found),
    "updateBlockForPipeline": lambda found: field(1, found),
}


@pytest.mark.parametrize("method", SHAPES)
@pytest.mark.parametrize(
    ("given_addresses", "host", "port"),
    [
        ({"dn1.cluster": "203.0.113.7"}, "203.0.113.7", 9866),
        ({"10.0.0.5": "gate.example.org"}, "gate.example.org", 9866),
        ({"10.0.0.5:9866": "127.0.0.1:19866"}, "127.0.0.1", 19866),
        ({"dn1.cluster:9866": "a", "dn1.cluster": "b"}, "a", 9866),
        ({"dn1.cluster:9867": "a"}, "10.0.0.5", 9866),
        ({"somebody.else": "a"}, "10.0.0.5", 9866),
    ],
)
def test_datanodes_are_where_the_user_says_and_else_at_their_address(
    method: str, given_addresses: dict[str, str], host: str, port: int
) -> None:
    conversation = Conversation("", given_addresses)
    asked = request(method, 7)
    assert conversation.upward(asked) == asked
    said = answer(7, SHAPES[method](block(INSIDE, INSIDE)))
    other = datanode("10.0.0.5", host, port)
    assert conversation.downward(said) == answer(7, SHAPES[method](block(other, other)))
    # The number is another call's from now on.
    assert conversation.downward(said) == said


def test_the_user_is_replaced_and_nothing_else() -> None:
    header = field(1, 2) + field(3, 5)
    context = field(2, field(1, b"root")) + field(3, b"protocol")
    wanted = delimited(header, field(2, field(1, b"alice")) + field(3, b"protocol"))
    assert Conversation("alice", {}).upward(delimited(header, context)) == wanted
    assert Conversation("", {}).upward(delimited(header, context)) == delimited(header, context)
    nobody = Conversation("alice", {}).upward(delimited(header, field(3, b"protocol")))
    assert nobody == delimited(header, field(3, b"protocol") + field(2, field(1, b"alice")))


def test_an_error_and_an_empty_answer_pass() -> None:
    conversation = Conversation("", {"dn1.cluster": "a"})
    for said in (delimited(field(1, 7) + field(2, 1) + field(4, b"java.io.IOException")), answer(7, b"")):
        conversation.upward(request("addBlock", 7))
        assert conversation.downward(said) == said


@given(st.binary(max_size=200))
def test_any_frame_passes_or_is_no_frame(frame: bytes) -> None:
    for conversation in (Conversation("", {}), Conversation("u", {"a": "b"})):
        conversation.upward(request("addBlock", 7))
        for change in (conversation.upward, conversation.downward):
            try:
                assert isinstance(change(frame), bytes)
            except ProtocolError:
                continue


@given(st.integers(0, 2**31 - 1), st.text(max_size=20), st.binary(max_size=300))
def test_what_is_not_about_datanodes_passes_unchanged(call: int, method: str, body: bytes) -> None:
    conversation = Conversation("alice", {"a": "b"})
    asked, said = request(method, call, body), answer(call, body)
    if method not in SHAPES:
        assert conversation.upward(asked) == asked
        assert conversation.downward(said) == said
