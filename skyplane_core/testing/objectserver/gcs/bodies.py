"""How a GCS upload's body lands, with every checksum that the client announced verified."""

# ruff: noqa: D102 - the docstrings of the interfaces that these classes have hold.
from __future__ import annotations

from skyplane_core.testing.objectserver.blobs import Blob
from skyplane_core.testing.objectserver.messages import ApiError, BodySource, Request
from skyplane_core.testing.objectserver.state import State
from skyplane_core.testing.objectserver.upload_body import check_digest, receive

_NAMES = {"crc32c": "CRC32C", "md5": "MD5"}


def announced(request: Request) -> dict[str, str]:
    """Base64 digests by algorithm, from x-goog-hash and Content-MD5."""
    found: dict[str, str] = {}
    for item in request.headers.get("x-goog-hash", "").split(","):
        name, equals, value = item.strip().partition("=")
        if equals and name in _NAMES:
            found[_NAMES[name]] = value
    if "content-md5" in request.headers:
        found["MD5"] = request.headers["content-md5"]
    return found


def from_resource(value: dict[str, object]) -> dict[str, str]:
    """Base64 digests by algorithm that an object resource announces."""
    names = {"crc32c": "CRC32C", "md5Hash": "MD5"}
    return {algorithm: str(value[name]) for name, algorithm in names.items() if value.get(name)}


def land(request: Request, state: State, wanted: dict[str, str], body: BodySource | None = None) -> Blob:
    """Take in the body (or ``body`` in its place) and hold it against the digests ``wanted``."""
    if body is None and request.content_length is None and "transfer-encoding" not in request.headers:
        raise ApiError(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
    algorithms = {*wanted, "MD5"} if state.md5 else set(wanted)
    blob = receive(request, state.arena, algorithms, body)
    verify(blob, wanted)
    return blob


def verify(blob: Blob, wanted: dict[str, str]) -> None:
    """Raise ApiError unless the blob has these digests."""
    for algorithm, claimed in wanted.items():
        check_digest(blob, algorithm, claimed, {"MD5": "md5", "CRC32C": "crc32c"}[algorithm])


class RelatedBody:
    """The media part of a ``multipart/related`` body, whose first part is metadata."""

    def __init__(self, request: Request) -> None:
        content_type = request.headers.get("content-type", "")
        boundary = content_type.partition("boundary=")[2].partition(";")[0].strip("\"' ")
        if not content_type.startswith("multipart/") or not boundary:
            raise ApiError(400, "InvalidArgument", "multipart/related with a boundary is expected")
        self._inner = request.body
        self._delimiter = b"--" + boundary.encode("latin-1")
        self._pending = bytearray()
        self._scratch = memoryview(bytearray(256 << 10))
        self._ended = False
        self._until(self._delimiter)
        self._headers()
        self.metadata = self._until(b"\r\n" + self._delimiter)
        self.content_type = self._headers().get("content-type", "")

    def _more(self) -> None:
        got = self._inner.readinto(self._scratch)
        if not got:
            raise ApiError(400, "InvalidArgument", "the multipart body ended early")
        self._pending += self._scratch[:got]

    def _until(self, marker: bytes) -> bytes:
        while (at := self._pending.find(marker)) < 0:
            self._more()
        data = bytes(self._pending[:at])
        del self._pending[: at + len(marker)]
        return data

    def _headers(self) -> dict[str, str]:
        # What is left of the delimiter's line comes first.
        lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")[1:]
        return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def readinto(self, view: memoryview) -> int:
        # The end may be split over two reads: so much is held back until the body has ended.
        hold = len(self._delimiter) + 16
        while not self._ended and len(self._pending) <= hold:
            got = self._inner.readinto(self._scratch)
            if got:
                self._pending += self._scratch[:got]
                continue
            end = self._pending.rfind(b"\r\n" + self._delimiter)
            if end < 0:
                raise ApiError(400, "InvalidArgument", "the multipart body has no end")
            del self._pending[end:]
            self._ended = True
        ready = len(self._pending) if self._ended else len(self._pending) - hold
        count = min(len(view), ready)
        view[:count] = self._pending[:count]
        del self._pending[:count]
        return count
