"""Heads of answers: what a server may write, and what is none."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.stores.http_answer import Incoming
from skyplane_core.stores.http_head import HEAD_LIMIT, MOST_HEADERS, BadAnswerError, Headers, parse

NAMES = st.text("abcXYZ019-_.!#$", min_size=1, max_size=12)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x85\xa0\x7f"), max_size=30)


@pytest.fixture
def coming() -> Iterator[Callable[[bytes], Incoming]]:
    """Makes a connection on which some bytes came, and then the end."""
    with contextlib.ExitStack() as stack:

        def come(data: bytes) -> Incoming:
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            with theirs:
                theirs.sendall(data)
            return Incoming(ours)

        yield come


def head_of(lines: str, method: str = "GET") -> tuple[int, int | None, bool]:
    head = parse(lines.encode("latin-1"), method)
    return head.status, head.length, head.closes


@given(st.lists(st.tuples(NAMES, VALUES), max_size=20))
def test_headers_are_read_as_http_client_reads_them(lines: list[tuple[str, str]]) -> None:
    text = "".join(f"\r\n{name}: {value}" for name, value in lines if name.lower() != "content-length")
    ours = parse(f"HTTP/1.1 200 OK{text}".encode("latin-1"), "HEAD").headers
    theirs = http.client.parse_headers(io.BytesIO(f"{text}\r\n\r\n".removeprefix("\r\n").encode("latin-1")))
    assert not ours.defects
    assert ours.items() == theirs.items()
    for name in theirs:
        assert ours.get(name.upper()) == theirs.get(name)
        assert ours.get_all(name) == theirs.get_all(name)


def test_names_have_no_case_and_keep_their_order() -> None:
    headers = Headers([("ETag", "a"), ("X", "1"), ("etag", "b")])
    assert (headers["ETAG"], headers.get("none"), headers.get("none", ""), "x" in headers) == ("a", None, "", True)
    assert headers.get_all("Etag") == ["a", "b"]
    assert list(headers) == ["ETag", "X", "etag"]


@pytest.mark.parametrize("odd", ["x meta: 1", "no colon", ": 1", "ü: 1", "a: b\rc", "a: b\0c", " folded"])
def test_a_line_that_is_no_header_costs_no_other(odd: str) -> None:
    headers = parse(f"HTTP/1.1 200 OK\r\n{odd}\r\nETag: x\r\nContent-Length: 3".encode("latin-1"), "GET").headers
    assert headers.defects
    assert headers.items() == [("ETag", "x"), ("Content-Length", "3")]


def test_a_folded_line_is_one_value() -> None:
    assert parse(b"HTTP/1.1 200 OK\r\nA: b\r\n\t c\r\nD:e", "GET").headers.items() == [("A", "b c"), ("D", "e")]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5", (200, 5, False)),
        ("HTTP/1.1 206\r\nContent-Length: 5\r\nConnection: Close", (206, 5, True)),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5", (200, 5, True)),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive", (200, 5, False)),
        ("HTTP/1.1 200 OK", (200, None, True)),
        ("HTTP/1.1 204 None\r\nContent-Length: 5", (204, 0, False)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: Chunked", (200, None, False)),
        ("HTTP/1.1 200 OK\nContent-Length: 5", (200, 5, False)),
    ],
)
def test_framing(lines: str, expected: tuple[int, int | None, bool]) -> None:
    assert head_of(lines) == expected


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "HTTP/1.1",
        "HTTP/2 200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "<html>",
        "HTTP/1.1 200 OK\r\nContent-Length: -1",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6",
        f"HTTP/1.1 200 OK\r\nContent-Length: {'9' * 19}",
        "HTTP/1.1 200 OK" + "\r\na: b" * (MOST_HEADERS + 1),
    ],
)
def test_what_is_no_head(lines: str) -> None:
    with pytest.raises(BadAnswerError):
        head_of(lines)


def test_interim_answers_are_passed_over_but_not_for_ever(coming: Callable[[bytes], Incoming]) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
    incoming = coming(interim + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    head = incoming.head("PUT")
    assert (head.status, incoming.body(head, 10), incoming.leftover) == (200, b"hi", False)
    with pytest.raises(BadAnswerError, match="interim"):
        coming(b"HTTP/1.1 100 Continue\r\n\r\n" * 100).head("PUT")


def test_a_head_has_a_limit() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        endless = threading.Thread(target=_send_until_closed, args=(theirs,))
        endless.start()
        with pytest.raises(BadAnswerError, match=str(HEAD_LIMIT)):
            Incoming(ours).head("GET")
        ours.close()
        endless.join(10)
        assert not endless.is_alive()


def _send_until_closed(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(b"A: b" * 1000)


@pytest.mark.parametrize("chunks", [b"5;x=y\r\nhello\r\n0\r\nTrailer: x\r\n\r\n", b"2\r\nhe\r\n3\nllo\n00\r\n\r\n"])
def test_chunks(chunks: bytes, coming: Callable[[bytes], Incoming]) -> None:
    incoming = coming(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert incoming.body(incoming.head("GET"), 100) == b"hello"
    assert not incoming.leftover


@pytest.mark.parametrize(
    "chunks", [b"", b"x\r\n", b"5\r\nhel", b"5\r\nhelloo\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n", b"5"]
)
def test_what_is_no_chunk(chunks: bytes, coming: Callable[[bytes], Incoming]) -> None:
    incoming = coming(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    with pytest.raises(BadAnswerError):
        incoming.body(incoming.head("GET"), 100)
