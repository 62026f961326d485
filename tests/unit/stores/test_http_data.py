"""The data connection against servers that do what servers do: close, stall, lie about lengths, refuse early."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from skyplane_core.errors import StoreRejected, StoreUnavailable, UsageError
from skyplane_core.stores.http_data import HttpData, Request

GET = Request("GET", "/b/k?sig=secret", {})
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
Script = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(*scripts: Script) -> Iterator[str]:
    """A server whose n-th connection is handled by the n-th script and then closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            for script in scripts:
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(5)
                    script(connection)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            thread.join(10)
            assert not thread.is_alive()


def head_of(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data and (piece := connection.recv(65536)):
        data += piece
    return data


def answering(*answers: bytes) -> Script:
    def script(connection: socket.socket) -> None:
        for answer in answers:
            head_of(connection)
            connection.sendall(answer)

    return script


def read(data: HttpData, size: int = 5) -> bytes:
    buffer = bytearray(size)
    data.get_into(GET, memoryview(buffer))
    return bytes(buffer)


@contextlib.contextmanager
def connected(url: str, timeout: float = 5.0) -> Iterator[HttpData]:
    data = HttpData(url, timeout=timeout)
    try:
        yield data
    finally:
        data.close()


def test_answers_come_over_one_connection() -> None:
    with serving(answering(OK, OK)) as url, connected(url) as data:
        assert read(data) == read(data) == b"hello"


def test_a_stale_connection_is_replaced_once() -> None:
    with serving(answering(OK), answering(OK)) as url, connected(url) as data:
        assert read(data) == b"hello"
        assert read(data) == b"hello"


def test_a_new_connection_that_is_closed_is_an_error() -> None:
    with serving(answering(b"")) as url, connected(url) as data, pytest.raises(StoreUnavailable) as caught:
        read(data)
    assert caught.value.where == f"{url}/b/k"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhellohell",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\n\r\nhellohello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhellohell\r\n0\r\n\r\n",
        b"not http at all\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "cu',
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 99\r\n\r\ncut",
    ],
)
def test_a_body_of_the_wrong_length_fails_and_the_next_request_works(answer: bytes) -> None:
    with serving(answering(answer), answering(OK)) as url, connected(url) as data:
        with pytest.raises(StoreUnavailable):
            read(data)
        assert read(data) == b"hello"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"HTTP/1.1 206 Partial\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    ],
)
def test_bodies_of_other_framing(answer: bytes) -> None:
    with serving(answering(answer)) as url, connected(url) as data:
        assert read(data) == b"hello"


def test_a_refusal_leaves_the_buffer_alone() -> None:
    refusal = b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\n<Error>"
    buffer = bytearray(b".....")
    with serving(answering(refusal, OK)) as url, connected(url) as data:
        answer = data.get_into(GET, memoryview(buffer))
        assert (answer.status, answer.body, bytes(buffer)) == (404, b"<Error>", b".....")
        assert read(data) == b"hello"


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_answers_without_a_body(status: bytes) -> None:
    with serving(answering(b"HTTP/1.1 " + status + b"\r\n\r\n", OK)) as url, connected(url) as data:
        assert data.send(Request("DELETE", "/b/k", {})).body == b""
        assert read(data) == b"hello"


@pytest.mark.parametrize("head", [b'ETag: "0123', b'ETag: "0123456789"\r\n'])
def test_an_answer_whose_head_breaks_off_is_no_answer_even_without_a_body(head: bytes) -> None:
    """http.client takes it for a whole one, and half an ETag for a part's id."""
    broken = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + head
    with serving(answering(broken), answering(OK)) as url, connected(url) as data:
        with pytest.raises(StoreUnavailable, match="head"):
            data.send(Request("PUT", "/b/k", {}), b"x")
        assert read(data) == b"hello"


def test_the_length_in_an_answer_to_a_head_is_not_waited_for() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"
    with serving(answering(answer, OK)) as url, connected(url) as data:
        assert data.send(Request("HEAD", "/b/k", {})).headers["Content-Length"] == "12345"
        assert read(data) == b"hello"


def test_a_server_that_stalls_is_given_up() -> None:
    released = threading.Event()

    def stall(connection: socket.socket) -> None:
        head_of(connection)
        released.wait(5)

    with serving(stall) as url, connected(url, timeout=0.2) as data:
        with pytest.raises(StoreUnavailable, match="nothing moved"):
            read(data)
        released.set()


def test_a_small_body_travels_with_its_head_and_a_large_one_arrives_whole() -> None:
    received: list[bytes] = []

    def script(connection: socket.socket) -> None:
        first = connection.recv(65536)
        received.append(first)
        connection.sendall(OK)
        data = head_of(connection)
        while len(data.partition(b"\r\n\r\n")[2]) < 3_000_000:
            data += connection.recv(65536)
        received.append(data)
        connection.sendall(OK)

    with serving(script) as url, connected(url) as data:
        put = Request("PUT", "/b/k", {"content-length": "99", "X-A": "ü"})
        assert data.send(put, memoryview(b"small")).body == b"hello"
        assert data.send(put, memoryview(b"x" * 3_000_000)).body == b"hello"
    assert received[0].endswith(b"\r\nContent-Length: 5\r\n\r\nsmall")
    assert b"content-length: 99" not in received[0]
    assert received[0].startswith(b"PUT /b/k HTTP/1.1\r\nHost: 127.0.0.1:")
    assert received[1].endswith(b"\r\n\r\n" + b"x" * 3_000_000)


def test_an_empty_put_says_so() -> None:
    received: list[bytes] = []

    def script(connection: socket.socket) -> None:
        received.append(head_of(connection))
        connection.sendall(OK)

    with serving(script) as url, connected(url) as data:
        data.send(Request("PUT", "/b/k", {}))
    assert b"Content-Length: 0\r\n" in received[0]


def test_an_early_refusal_is_read() -> None:
    def refuse(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\nConnection: close\r\n\r\nnever")
        # Without this the kernel resets the connection, and the answer may be lost with it.
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while connection.recv(1 << 20):
                pass

    with serving(refuse) as url, connected(url) as data:
        assert data.send(Request("PUT", "/b/k", {}), bytes(8_000_000)).status == 403


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with connected(f"http://127.0.0.1:{port}") as data, pytest.raises(StoreUnavailable) as caught:
        read(data)
    assert f"127.0.0.1:{port}" in caught.value.why
    assert "endpoint" in caught.value.next_step


def test_a_name_that_nobody_has() -> None:
    with connected("http://no-such-host.invalid:81") as data, pytest.raises(StoreUnavailable) as caught:
        read(data)
    assert "no-such-host.invalid:81" in caught.value.why
    assert "endpoint" in caught.value.next_step


@pytest.mark.parametrize("request_", [Request("GET", "/a b", {}), Request("GET", "/a", {"X": "1\r\nY: 2"})])
def test_a_request_cannot_be_split(request_: Request) -> None:
    with connected("http://127.0.0.1:9") as data, pytest.raises(StoreRejected):
        data.send(request_)


BAD_PORTS = ["http://bad:host:1", "http://host:99999", "http://[::1", "http://user:pw@bad:host:1", "http://u:p/w@h:x"]


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "127.0.0.1:80", "http://user:pw@host", *BAD_PORTS])
def test_what_is_no_endpoint(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        HttpData(url)
    assert "https://" in caught.value.next_step
    assert "pw" not in str(caught.value)
