"""One keep-alive HTTP(S) connection for one data thread: the caller's buffers, the kernel's socket, nothing between.

Not :mod:`http.client`, which always sends a small body apart from its head, hands a large one to a single ``sendall``,
whose timeout then bounds the whole body and not its progress, and parses answers dearly (see
:mod:`skyplane_core.stores.http_head`).
"""

from __future__ import annotations

import functools
import socket
import ssl
from pathlib import Path
from typing import NamedTuple, NoReturn
from urllib.parse import SplitResult, urlsplit

from skyplane_core.errors import StoreRejected, StoreUnavailable, UsageError
from skyplane_core.stores.base import Landed
from skyplane_core.stores.http_answer import Incoming
from skyplane_core.stores.http_head import BadAnswerError, Head, Headers

ANSWER_LIMIT = 1024 * 1024
"""Bytes kept of a body that is not the caller's object: results and error documents are far smaller."""

CONNECT_TIMEOUT = 10.0
CONTROL_TIMEOUT = 60.0
DATA_TIMEOUT = 20.0
"""Shorter, so that a part whose connection is stuck is on another one well before its transfer counts as stuck."""
"""Seconds for a connection to an address: room for three lost SYNs, and an answer when nobody is there."""
_COALESCE_LIMIT = 64 * 1024
_SEND_SLICE = 1024 * 1024
_DEFAULT_PORTS = {"http": 80, "https": 443}
_CLOSED = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
_NEXT_FOR_CERTIFICATES = "Name the CA bundle that signed the server's certificate (verify)."
NEXT_FOR_CONNECTING = "Check the endpoint's URL, and that this machine's network reaches it."
_METHODS_WITH_BODY = frozenset({"PUT", "POST", "PATCH"})


class Request(NamedTuple):
    """One request. ``target`` is path and query, already percent-encoded; it is sent as it is.

    ``Host``, ``Accept-Encoding: identity`` and ``Content-Length`` are added; the first two only where ``headers``
    has none.
    """

    method: str
    target: str
    headers: dict[str, str]


class Answer(NamedTuple):
    """One answer. ``body`` is empty where it went into the caller's buffer."""

    status: int
    headers: Headers
    body: bytes


class HttpData:
    """A connection to one endpoint, opened on first use and kept open. Not thread-safe.

    Every failure to get a whole answer is a :class:`StoreUnavailable` that names the endpoint and the path (never
    the query, which may carry a signature); any status is an answer. A kept connection that the server has closed
    meanwhile is opened again and the request is repeated, once, provided that no byte of an answer had come.

    Args:
        endpoint_url: scheme and authority, such as ``https://host:port``; a path in it is ignored.
        verify: True for the system's CAs, False for none, or the path of a CA bundle or directory.
        timeout: seconds without progress, for each piece sent and for each read; for connecting at most
            :data:`CONNECT_TIMEOUT`.
    """

    def __init__(self, endpoint_url: str, *, verify: bool | str = True, timeout: float = CONTROL_TIMEOUT) -> None:
        url = parse_endpoint(endpoint_url)
        self.host_header = host_header(endpoint_url)
        self._endpoint = f"{url.scheme}://{self.host_header}"
        self._address = (url.hostname or "", url.port or _DEFAULT_PORTS[url.scheme])
        self._tls = tls_context(verify) if url.scheme == "https" else None
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._incoming: Incoming | None = None

    def get_into(
        self,
        request: Request,
        buffer: memoryview,
        *,
        expect: tuple[int, ...] = (200, 206),
        landed: Landed | None = None,
    ) -> Answer:
        """Send ``request`` without a body and read the answer's body into ``buffer``, which it must fill exactly.

        With a status outside ``expect`` the buffer is untouched and the body, up to :data:`ANSWER_LIMIT`, is in the
        answer. After an error the buffer's contents are undefined.
        """
        try:
            head, incoming = self._exchange(request, b"")
            if head.status in expect:
                incoming.fill(head, buffer, landed)
                body = b""
            else:
                body = incoming.body(head, ANSWER_LIMIT)
            self._finish(head, incoming, body)
        except (OSError, BadAnswerError) as error:
            self._fail(request, error)
        except BaseException:
            self.close()
            raise
        return Answer(head.status, head.headers, body)

    def send(self, request: Request, body: memoryview | bytes = b"", *, limit: int = ANSWER_LIMIT) -> Answer:
        """Send ``request`` with ``body``, which is not copied unless it is small, and return the whole answer.

        Args:
            limit: bytes that are kept of the answer's body.
        """
        try:
            head, incoming = self._exchange(request, body)
            answer = incoming.body(head, limit)
            self._finish(head, incoming, answer, limit)
        except (OSError, BadAnswerError) as error:
            self._fail(request, error)
        except BaseException:
            self.close()
            raise
        return Answer(head.status, head.headers, answer)

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = self._incoming = None

    def _exchange(self, request: Request, body: memoryview | bytes) -> tuple[Head, Incoming]:
        """The answer's head; repeats the request once if a kept connection turns out to be stale."""
        head = self._head(request, len(memoryview(body).cast("B")))
        reused = self._socket is not None
        try:
            return self._try_exchange(request.method, head, body)
        except _CLOSED:
            self.close()
            if not reused:
                raise
            return self._try_exchange(request.method, head, body)

    def _try_exchange(self, method: str, head: bytes, body: memoryview | bytes) -> tuple[Head, Incoming]:
        """One attempt. Raises one of ``_CLOSED`` only if no answer came."""
        connection = self._socket or self._connect()
        incoming = self._incoming = self._incoming or Incoming(connection)
        broken: OSError | None = None
        try:
            _send(connection, head, body)
        except _CLOSED as error:
            # A server may refuse a large body early: answer, then close. Its answer says more than our broken pipe.
            broken = error
        try:
            answer = incoming.head(method)
        except _CLOSED as error:
            raise broken or error from None
        return (answer if broken is None else answer._replace(closes=True)), incoming

    def _connect(self) -> socket.socket:
        try:
            plain = socket.create_connection(self._address, min(self._timeout, CONNECT_TIMEOUT))
        except OSError as error:
            host, port = self._address
            raise StoreUnavailable(
                "no connection",
                where=self._endpoint,
                why=f"{host}:{port}: {_explain(error)}",
                next_step=NEXT_FOR_CONNECTING,
            ) from error
        try:
            plain.settimeout(self._timeout)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = (
                plain if self._tls is None else self._tls.wrap_socket(plain, server_hostname=self._address[0])
            )
        except BaseException:
            plain.close()
            raise
        return self._socket

    def _head(self, request: Request, length: int) -> bytes:
        lines = [f"{request.method} {request.target} HTTP/1.1"]
        names = set()
        for name, value in request.headers.items():
            lower = name.lower()
            names.add(lower)
            if lower != "content-length":
                lines.append(f"{name}: {value}")
        if "host" not in names:
            # RFC 9110, 7.2: it should be the first.
            lines.insert(1, f"Host: {self.host_header}")
        if "accept-encoding" not in names:
            lines.append("Accept-Encoding: identity")
        if length or request.method in _METHODS_WITH_BODY:
            lines.append(f"Content-Length: {length}")
        text = "\r\n".join(lines)
        breaks = len(lines) - 1
        if text.count("\n") != breaks or text.count("\r") != breaks or "\0" in text or " " in request.target:
            raise StoreRejected(
                "a line break, a NUL or a blank where HTTP has no room for one",
                where=self._where(request),
                next_step="Check the object's name and metadata.",
            )
        return f"{text}\r\n\r\n".encode()

    def _finish(self, head: Head, incoming: Incoming, body: bytes, limit: int = ANSWER_LIMIT) -> None:
        """Close a connection that is of no more use, also one on which more came than was asked for."""
        if head.closes or head.headers.defects or incoming.leftover or len(body) == limit:
            self.close()

    def _fail(self, request: Request, error: Exception) -> NoReturn:
        self.close()
        raise StoreUnavailable(
            f"{request.method} got no whole answer",
            where=self._where(request),
            why=_explain(error),
            next_step=_NEXT_FOR_CERTIFICATES if isinstance(error, ssl.SSLCertVerificationError) else "",
        ) from error

    def _where(self, request: Request) -> str:
        return self._endpoint + request.target.partition("?")[0]


def parse_endpoint(endpoint_url: str, name: str = "endpoint_url") -> SplitResult:
    """The parts of an endpoint's URL.

    Args:
        name: the argument or environment variable that it comes from.

    Raises:
        UsageError: it is not ``http`` or ``https``, a host and perhaps a port. Names no user and no password.
    """
    why = "it must be http:// or https://, a host and perhaps a port, without a user"
    try:
        url = urlsplit(endpoint_url)
        if url.scheme in _DEFAULT_PORTS and url.hostname and url.username is None and url.port != 0:
            return url
    except ValueError as error:
        why = str(error)
    scheme, mark, rest = endpoint_url.partition("://")
    shown = f"{scheme}{mark}{rest.rpartition('@')[2]}" if mark else endpoint_url.rpartition("@")[2]
    # What urllib says of a port quotes it, and what it takes for a port may be a password.
    raise UsageError(
        f"{name} is not the URL of an HTTP endpoint",
        where=shown.partition("?")[0],
        why=why if "@" not in endpoint_url else "",
        next_step="Write it as https://host or https://host:port.",
    )


@functools.lru_cache(maxsize=64)
def host_header(endpoint_url: str) -> str:
    """The ``Host`` header for an endpoint, as signers sign it: without the scheme's own port."""
    url = urlsplit(endpoint_url)
    host = url.netloc.rpartition("@")[2]
    return host[: host.rindex(":")] if url.port is not None and url.port == _DEFAULT_PORTS.get(url.scheme) else host


@functools.lru_cache(maxsize=16)
def tls_context(verify: bool | str) -> ssl.SSLContext:  # noqa: FBT001 - as in StoreConfig
    """The TLS client context for ``verify``, shared by all connections that verify alike."""
    if isinstance(verify, str):
        try:
            directory = Path(verify).is_dir()
            context = ssl.create_default_context(
                cafile=None if directory else verify, capath=verify if directory else None
            )
        except OSError as error:
            raise UsageError("the CA bundle cannot be read", where=verify, why=str(error)) from error
    else:
        context = ssl.create_default_context()
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def _send(connection: socket.socket, head: bytes, body: memoryview | bytes) -> None:
    if len(body) <= _COALESCE_LIMIT:
        connection.sendall(head + bytes(body) if body else head)
        return
    connection.sendall(head)
    view = memoryview(body).cast("B")
    for start in range(0, len(view), _SEND_SLICE):
        connection.sendall(view[start : start + _SEND_SLICE])


def _explain(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "nothing moved for as long as the timeout allows"
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
