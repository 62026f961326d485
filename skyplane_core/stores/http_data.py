"""One keep-alive HTTP(S) connection for one data thread: the caller's buffers, the kernel's socket, nothing between.

Answers are parsed by :mod:`http.client`; requests are written here, because ``http.client`` always sends a small body
apart from its head and hands a large one to a single ``sendall``, whose timeout then bounds the whole body and not its
progress.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import socket
import ssl
from pathlib import Path
from typing import NamedTuple, NoReturn
from urllib.parse import SplitResult, urlsplit

from skyplane_core.errors import StoreRejected, StoreUnavailable, UsageError
from skyplane_core.stores.http_head import begin

ANSWER_LIMIT = 1024 * 1024
"""Bytes kept of a body that is not the caller's object: results and error documents are far smaller."""

CONNECT_TIMEOUT = 10.0
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
    headers: http.client.HTTPMessage
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

    def __init__(self, endpoint_url: str, *, verify: bool | str = True, timeout: float = 60.0) -> None:
        url = parse_endpoint(endpoint_url)
        self.host_header = host_header(endpoint_url)
        self._endpoint = f"{url.scheme}://{self.host_header}"
        self._address = (url.hostname or "", url.port or _DEFAULT_PORTS[url.scheme])
        self._tls = tls_context(verify) if url.scheme == "https" else None
        self._timeout = timeout
        self._socket: socket.socket | None = None

    def get_into(self, request: Request, buffer: memoryview, *, expect: tuple[int, ...] = (200, 206)) -> Answer:
        """Send ``request`` without a body and read the answer's body into ``buffer``, which it must fill exactly.

        With a status outside ``expect`` the buffer is untouched and the body, up to :data:`ANSWER_LIMIT`, is in the
        answer. After an error the buffer's contents are undefined.
        """
        try:
            with contextlib.closing(self._exchange(request, b"")) as response:
                if response.status in expect:
                    _fill(response, buffer)
                    body = b""
                else:
                    body = _bounded(response)
                self._finish(response)
        except (OSError, http.client.HTTPException) as error:
            self._fail(request, error)
        except BaseException:
            self.close()
            raise
        return Answer(response.status, response.headers, body)

    def send(self, request: Request, body: memoryview | bytes = b"") -> Answer:
        """Send ``request`` with ``body``, which is not copied unless it is small, and return the whole answer."""
        try:
            with contextlib.closing(self._exchange(request, body)) as response:
                answer = _bounded(response)
                self._finish(response)
        except (OSError, http.client.HTTPException) as error:
            self._fail(request, error)
        except BaseException:
            self.close()
            raise
        return Answer(response.status, response.headers, answer)

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, request: Request, body: memoryview | bytes) -> http.client.HTTPResponse:
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

    def _try_exchange(self, method: str, head: bytes, body: memoryview | bytes) -> http.client.HTTPResponse:
        """One attempt. Raises one of ``_CLOSED`` only if no answer came."""
        connection = self._socket or self._connect()
        broken: OSError | None = None
        try:
            _send(connection, head, body)
        except _CLOSED as error:
            # A server may refuse a large body early: answer, then close. Its answer says more than our broken pipe.
            broken = error
        response = http.client.HTTPResponse(connection, method=method)
        try:
            begin(response)
        except _CLOSED as error:
            response.close()
            raise broken or error from None
        except BaseException:
            response.close()
            raise
        if broken is not None:
            response.will_close = True
        return response

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
        names = {name.lower() for name in request.headers}
        if "host" not in names:
            lines.append(f"Host: {self.host_header}")
        if "accept-encoding" not in names:
            lines.append("Accept-Encoding: identity")
        lines.extend(f"{name}: {value}" for name, value in request.headers.items() if name.lower() != "content-length")
        if length or request.method in _METHODS_WITH_BODY:
            lines.append(f"Content-Length: {length}")
        if any("\r" in line or "\n" in line or "\0" in line for line in lines) or request.target.count(" "):
            raise StoreRejected(
                "a line break, a NUL or a blank where HTTP has no room for one",
                where=self._where(request),
                next_step="Check the object's name and metadata.",
            )
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _finish(self, response: http.client.HTTPResponse) -> None:
        if response.will_close:
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


def _fill(response: http.client.HTTPResponse, buffer: memoryview) -> None:
    wanted = len(buffer)
    if response.length is not None and response.length != wanted:
        raise http.client.HTTPException(f"{response.length} bytes announced, {wanted} asked for")
    got = 0
    while got < wanted:
        count = response.readinto(buffer[got:])
        if not count:
            raise http.client.HTTPException(f"the body ended after {got} of {wanted} bytes")
        got += count
    if response.headers.defects:
        # http.client gives up at a header that is none, as odd metadata names make them, and so loses the length of the
        # body. What was asked for is here; whether more follows cannot be told without waiting for it.
        response.will_close = True
    elif response.length is None and response.read(1):
        raise http.client.HTTPException(f"more than the {wanted} bytes asked for")


def _bounded(response: http.client.HTTPResponse) -> bytes:
    wanted = ANSWER_LIMIT if response.length is None else min(response.length, ANSWER_LIMIT)
    announced = response.length
    body = response.read(wanted) if wanted else b""
    if announced is not None and len(body) < wanted:
        raise http.client.HTTPException(f"the body ended after {len(body)} of {announced} bytes")
    if len(body) == ANSWER_LIMIT:
        response.will_close = True
    return body


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
