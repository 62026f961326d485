"""Requests, answers and errors: the values that pass between the HTTP side and a store's protocol."""

from __future__ import annotations

import dataclasses
import time
import urllib.parse
from collections.abc import Callable
from email.utils import formatdate
from typing import Protocol

from skyplane_core.testing.objectserver.blobs import Blob

MAX_DOCUMENT = 16 << 20
"""Bytes of an XML or JSON request body that are accepted at most."""


class ApiError(Exception):
    """An answer that refuses; ``code`` is S3's name for it, which the other protocols translate.

    ``fields`` are further elements of the error document, ``headers`` further headers.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str = "",
        *,
        fields: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message or code
        self.fields = fields or {}
        self.headers = headers or {}


class ConnectionLost(Exception):
    """The client went away, or a fault cut the connection; nobody is left to be answered."""


class BodySource(Protocol):
    """The body of a request as a stream."""

    def readinto(self, view: memoryview) -> int:
        """Fill up to ``len(view)`` bytes and return how many; 0 at the end. Raises ConnectionLost if cut short."""
        ...


@dataclasses.dataclass(slots=True)
class Request:
    """One request. ``path`` is as sent (still percent-encoded), ``headers`` have lower-case names.

    ``buffer`` is the connection's own scratch memory: valid during this request.
    """

    method: str
    target: str
    path: str
    raw_query: str
    headers: dict[str, str]
    body: BodySource
    buffer: Callable[[], memoryview]
    secure: bool = False
    _query: dict[str, str] | None = None

    @property
    def query(self) -> dict[str, str]:
        """Decoded query parameters; of a repeated one, the last."""
        if self._query is None:
            self._query = dict(urllib.parse.parse_qsl(self.raw_query, keep_blank_values=True))
        return self._query

    @property
    def content_length(self) -> int | None:
        """The announced length in bytes, or None."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isdecimal() else None

    @property
    def body_length(self) -> int | None:
        """Bytes that the decoded body is said to have, or None."""
        text = self.headers.get("x-amz-decoded-content-length", "")
        return int(text) if text.isdecimal() else self.content_length

    def number(self, name: str, default: int, maximum: int | None = None) -> int:
        """A query parameter that is a number, cut down to ``maximum``. Raises ApiError for what is none."""
        text = self.query.get(name, "")
        if text and not text.isdecimal():
            raise ApiError(400, "InvalidArgument", f"{name} is not a number")
        value = int(text) if text else default
        return value if maximum is None else min(value, maximum)

    @property
    def base_url(self) -> str:
        """Scheme and authority as this client reached us."""
        return f"{'https' if self.secure else 'http'}://{self.headers.get('host', 'localhost')}"

    def read_document(self) -> bytes:
        """The whole body, which must be small."""
        data, view = bytearray(), self.buffer()
        while got := self.body.readinto(view):
            data += view[:got]
            if len(data) > MAX_DOCUMENT:
                raise ApiError(400, "MalformedXML", "the request body is too large for this operation")
        return bytes(data)


@dataclasses.dataclass(slots=True)
class BlobRange:
    """``size`` bytes of a blob from ``start``, as the body of an answer."""

    blob: Blob
    start: int
    size: int


@dataclasses.dataclass(slots=True)
class Response:
    """An answer. Content-Length is added by the connection; an answer to HEAD is sent without its body."""

    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: bytes | BlobRange = b""


@dataclasses.dataclass(slots=True)
class Call:
    """What a request turned out to be: its operation, on which key, and how to carry it out."""

    operation: str
    bucket: str
    key: str
    run: Callable[[], Response]


class StoreProtocol(Protocol):
    """One store's HTTP dialect."""

    def route(self, request: Request) -> Call:
        """Name the operation. Raises ApiError for a request that means nothing here."""
        ...

    def authenticate(self, request: Request, call: Call) -> None:
        """Raise ApiError unless the request may pass; may replace ``request.body`` by one that is checked."""
        ...

    def expire(self, request: Request) -> ApiError:
        """Treat the credentials of this request as expired from now on, and return the refusal."""
        ...

    def render_error(self, error: ApiError, request: Request) -> Response:
        """The answer for an error."""
        ...


def http_date(seconds: float) -> str:
    """A time as HTTP headers write it."""
    return formatdate(seconds, usegmt=True)


def iso_date(seconds: float, digits: int = 3) -> str:
    """A time as RFC 3339 with ``digits`` decimals, in UTC."""
    whole = int(seconds)
    fraction = f"{seconds - whole:.{digits}f}"[1:]
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f"{fraction}Z"


def unquote(text: str) -> str:
    """Percent-decode a piece of a path; ``+`` stays. Raises ApiError for bytes that are not UTF-8."""
    if "%" not in text:
        return text
    try:
        return urllib.parse.unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise ApiError(400, "InvalidURI", "the key is not UTF-8") from None


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """``(start, size)`` of a single ``bytes=`` range, None where the header is to be ignored.

    Raises:
        ApiError: 416, if no byte of the object lies in the range.
    """
    unit, _, spec = header.partition("=")
    first, dash, last = spec.strip().partition("-")
    if unit.strip() != "bytes" or not dash or "," in spec or not (first + last).isdecimal():
        return None
    if not first:
        start, end = max(0, size - int(last)), size
        satisfiable = int(last) > 0 and size > 0
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
        satisfiable = start < size
    if not satisfiable:
        raise ApiError(
            416, "InvalidRange", "The requested range is not satisfiable", headers={"Content-Range": f"bytes */{size}"}
        )
    return start, end - start
