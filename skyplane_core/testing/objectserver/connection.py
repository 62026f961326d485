"""One client connection, served by one thread: parse, route, run, answer; and the faults that strike on the way."""

from __future__ import annotations

import logging
import socket
import ssl
import struct
from http import HTTPStatus
from typing import Protocol

from skyplane_core.testing.objectserver.faults import Fault, Faults
from skyplane_core.testing.objectserver.messages import (
    ApiError,
    BlobRange,
    BodySource,
    Call,
    ConnectionLost,
    Request,
    Response,
    StoreProtocol,
)
from skyplane_core.testing.objectserver.stream import ChunkedBody, FixedBody, Pacer, Stream
from skyplane_core.testing.objectserver.tampered import TamperedBody

log = logging.getLogger(__name__)

SCRATCH = 1 << 20
"""Bytes of a connection's scratch memory: how much of an upload is handled at a time."""

INLINE = 64 << 10
"""Bodies up to so many bytes leave in one call with their headers."""

_CHUNK = 1 << 20
"""Bytes of an object that are sent in one call."""
_OF_ANSWERS = ("truncate", "flip", "slow", "reset-during", "hold-during")
"""Faults that an answer's body meets on its way."""

_PHRASES = {int(status): status.phrase for status in HTTPStatus}


class Surroundings(Protocol):
    """What a connection needs of its server."""

    protocol: StoreProtocol
    faults: Faults
    latency: float
    bandwidth: float

    def sleep(self, seconds: float) -> None:
        """Wait; raises ConnectionLost when the server stops meanwhile."""
        ...

    def hold(self, operation: str, key: str) -> None:
        """Wait until the test releases what is held; raises ConnectionLost when the server stops meanwhile."""
        ...

    def count(self, operation: str) -> None:
        """Note a request, before it is carried out."""
        ...

    def moved(self, received: int, sent: int) -> None:
        """Note bytes on the wire."""
        ...


class Connection:
    """Serves the requests of one socket until it closes."""

    def __init__(self, sock: socket.socket, server: Surroundings) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._server = server
        self._stream = Stream(sock)
        self._secure = isinstance(sock, ssl.SSLSocket)
        self._scratch: memoryview | None = None
        self._sent = 0

    def serve(self) -> None:
        """Return when the connection is over; the caller closes the socket."""
        try:
            while self._serve_one():
                pass
        except ConnectionLost as lost:
            log.debug("connection ended: %s", lost)
        except OSError as error:
            log.debug("connection broke: %s", error)

    def _buffer(self) -> memoryview:
        if self._scratch is None:
            self._scratch = memoryview(bytearray(SCRATCH))
        return self._scratch

    def _serve_one(self) -> bool:
        head = self._stream.read_until(b"\r\n\r\n")
        if head is None:
            return False
        lines = head.decode("latin-1").split("\r\n")
        method, _, rest = lines[0].lstrip("\r\n").partition(" ")
        target, _, version = rest.rpartition(" ")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                raise ConnectionLost(f"malformed header line {line!r}")
            name = name.strip().lower()
            value = value.strip()
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        if target.startswith(("http://", "https://")):
            target = "/" + target.split("/", 3)[3] if target.count("/") > 2 else "/"
        path, _, query = target.partition("?")
        body = self._body(headers)
        request = Request(method, target, path, query, headers, body, self._buffer, self._secure)
        keep = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        return self._carry_out(request, body) and keep

    def _body(self, headers: dict[str, str]) -> FixedBody | ChunkedBody:
        expected = headers.get("expect", "").lower() == "100-continue"

        def begin() -> None:
            if expected:
                self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

        pacer = Pacer(self._server.bandwidth, self._server.sleep)
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return ChunkedBody(self._stream, pacer, begin)
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise ConnectionLost("Content-Length is no number")
        return FixedBody(self._stream, int(length), pacer, begin)

    def _carry_out(self, request: Request, body: FixedBody | ChunkedBody) -> bool:
        server = self._server
        received, sent = self._stream.received, self._sent
        if server.latency:
            server.sleep(server.latency)
        fault: Fault | None = None
        try:
            try:
                call = server.protocol.route(request)
            except ApiError:
                server.count("Unknown")
                raise
            server.count(call.operation)
            fault = server.faults.pick(call.operation, call.key)
            response = self._run(request, call, fault, body)
            if fault is not None and fault.action == "hold-after":
                server.hold(fault.operation, fault.key)
        except ApiError as error:
            response = server.protocol.render_error(error, request)
        except (ConnectionLost, OSError):
            server.moved(self._stream.received - received, 0)
            raise
        except Exception:
            log.exception("the object server failed on %s %s", request.method, request.target)
            response = server.protocol.render_error(ApiError(500, "InternalError", "see the server's log"), request)
        # A client that waits for 100 Continue and gets an error instead sends no body: nothing to drain, no way on.
        whole = body.finished or "expect" not in request.headers
        if whole:
            self._drain(body)
        server.moved(self._stream.received - received, 0)
        if fault is not None and fault.action == "reset-after":
            self._reset()
        self._send(request, response, fault, keep=whole)
        server.moved(0, self._sent - sent)
        return whole

    def _run(self, request: Request, call: Call, fault: Fault | None, body: BodySource) -> Response:
        server = self._server
        tampered: TamperedBody | None = None
        if fault is not None:
            if fault.action == "reset-before":
                self._reset()
            if fault.action == "stall":
                server.sleep(fault.seconds)
            if fault.action == "hold-before":
                server.hold(fault.operation, fault.key)
            if fault.action == "expire":
                raise server.protocol.expire(request)
            if fault.action == "status":
                headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
                raise ApiError(fault.status, fault.code, "injected by a fault", headers=headers)
            midway = fault.action in ("reset-during", "hold-during") and request.content_length
            if fault.action in ("flip-upload", "flip-stored") or midway:
                tampered = TamperedBody(body, fault, lambda: server.hold(fault.operation, fault.key))
                request.body = tampered
            if fault.action == "slow" and isinstance(body, (FixedBody, ChunkedBody)):
                body.limit(fault.rate)
        try:
            server.protocol.authenticate(request, call)
            response = call.run()
            if tampered is not None and fault is not None and fault.action == "flip-stored":
                tampered.spoil()
        except ConnectionLost:
            if fault is not None and fault.action == "reset-during":
                self._reset()
            raise
        return response

    def _drain(self, body: FixedBody | ChunkedBody) -> None:
        if not body.finished:
            view = self._buffer()
            while body.readinto(view):
                pass

    def _reset(self) -> None:
        """Close with RST instead of FIN, as a crashed machine or a middlebox does."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionLost("reset by a fault")

    def _send(self, request: Request, response: Response, fault: Fault | None, *, keep: bool) -> None:
        body = response.body
        size = body.size if isinstance(body, BlobRange) else len(body)
        lines = [f"HTTP/1.1 {response.status} {_PHRASES.get(response.status, 'Unknown')}"]
        # Clients that know what each server can be trusted with go by this name.
        if "Server" not in response.headers:
            lines.append("Server: skyplane-objectserver")
        lines += [f"{name}: {value}" for name, value in response.headers.items()]
        if response.status not in (204, 304):
            lines.append(f"Content-Length: {size}")
        if not keep:
            lines.append("Connection: close")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if request.method == "HEAD" or size == 0 or response.status in (204, 304):
            self._write(head)
        elif fault is not None and fault.action in _OF_ANSWERS:
            self._send_faulty(head, body, size, fault, request)
        elif isinstance(body, bytes):
            self._write(head + body)
        elif size <= INLINE and not self._server.bandwidth:
            self._write(head + body.blob.read(body.start, body.size))
        else:
            self._send_blob(head, body, Pacer(self._server.bandwidth, self._server.sleep))

    def _write(self, data: bytes | memoryview) -> None:
        self._sock.sendall(data)
        self._sent += len(data)

    def _send_blob(self, head: bytes, body: BlobRange, pacer: Pacer) -> None:
        if self._secure:
            self._write(head)
        else:
            self._sock.sendall(head, socket.MSG_MORE)
            self._sent += len(head)
        for chunk in body.blob.chunks(body.start, body.size, min(_CHUNK, pacer.slice)):
            self._write(chunk)
            pacer.moved(len(chunk))

    def _send_faulty(self, head: bytes, body: bytes | BlobRange, size: int, fault: Fault, request: Request) -> None:
        data = bytearray(body if isinstance(body, bytes) else body.blob.read(body.start, body.size))
        if fault.action == "flip" and fault.at < size:
            data[fault.at] ^= 1
        cut = fault.action in ("truncate", "reset-during") and fault.at < size
        if cut:
            del data[fault.at :]
        pacer = Pacer(fault.rate if fault.action == "slow" else self._server.bandwidth, self._server.sleep)
        self._write(head)
        view = memoryview(data)
        if fault.action == "hold-during" and not request.content_length:
            self._write(view[: fault.at])
            self._server.hold(fault.operation, fault.key)
            view = view[fault.at :]
        for start in range(0, len(view), pacer.slice):
            piece = view[start : start + pacer.slice]
            self._write(piece)
            pacer.moved(len(piece))
        if cut:
            if fault.action == "reset-during":
                self._reset()
            raise ConnectionLost("truncated by a fault")
