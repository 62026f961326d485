"""The head of an HTTP answer: status line and headers, from bytes to values. Pure.

:mod:`http.client` hands heads to the email parser, which takes more than twice as long, loses every header behind one
whose name is none, and takes a head that breaks off for a whole one (docs/performance.md has the figures).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar, overload

HEAD_LIMIT = 256 * 1024
"""Bytes of one head: stores allow 8 to 16 KiB of metadata."""
MOST_HEADERS = 100
"""As in :mod:`http.client`."""
_T = TypeVar("_T")
_STATUS_LINE = re.compile(r"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: .*)?")
# RFC 9110, 5.6.2: what a header's name is made of.
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_LENGTH = re.compile(r"[0-9]{1,18}")
_BODILESS = frozenset({204, 304})


class BadAnswerError(Exception):
    """What came is no HTTP answer, or not the whole of one."""


class Headers:
    """The headers of one answer, in their order. Names are case-insensitive, and may be repeated.

    Args:
        lines: names and values.
        defects: whether there were lines that are no headers, which are not in here.
    """

    __slots__ = ("_first", "_lines", "defects")

    def __init__(self, lines: Iterable[tuple[str, str]] = (), *, defects: bool = False) -> None:
        self._lines = list(lines)
        self._first: dict[str, str] = {}
        for name, value in self._lines:
            self._first.setdefault(name.lower(), value)
        self.defects = defects

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._first

    def __getitem__(self, name: str) -> str:
        return self._first[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, _value in self._lines])

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: _T) -> str | _T: ...
    def get(self, name: str, default: _T | None = None) -> str | _T | None:
        """The first value of a name."""
        return self._first.get(name.lower(), default)

    def get_all(self, name: str) -> list[str]:
        """Every value of a name."""
        name = name.lower()
        return [value for other, value in self._lines if other.lower() == name] if name in self._first else []

    def items(self) -> list[tuple[str, str]]:
        """All of them, as they were spelt."""
        return list(self._lines)


class Head(NamedTuple):
    """The head of one answer. ``length`` is None for a body that ends with the connection, or is ``chunked``."""

    status: int
    headers: Headers
    length: int | None
    chunked: bool
    closes: bool


def parse(block: bytes | bytearray, method: str) -> Head:
    """The head that ``block`` is, without its empty line, as the answer to a request with ``method``.

    Raises:
        BadAnswerError: it is none.
    """
    status_line, *lines = block.decode("latin-1").replace("\r\n", "\n").split("\n")
    matched = _STATUS_LINE.fullmatch(status_line)
    if matched is None:
        raise BadAnswerError(f"no status line: {status_line[:80]!r}")
    status = int(matched[2])
    headers = parse_headers(lines)
    connection = (headers.get("connection") or "").lower()
    closes = "close" in connection if matched[1] != "0" else "keep-alive" not in connection
    if method == "HEAD" or status in _BODILESS or status < 200:
        return Head(status, headers, 0, chunked=False, closes=closes)
    if (headers.get("transfer-encoding") or "").lower() == "chunked":
        return Head(status, headers, None, chunked=True, closes=closes)
    length = _length(headers)
    return Head(status, headers, length, chunked=False, closes=closes or length is None)


def parse_headers(lines: list[str]) -> Headers:
    """The headers in the lines of a head, without their ends.

    Raises:
        BadAnswerError: they are more than :data:`MOST_HEADERS`.
    """
    if len(lines) > MOST_HEADERS:
        raise BadAnswerError(f"more than {MOST_HEADERS} headers")
    found: list[tuple[str, str]] = []
    defects = False
    folds = False
    for line in lines:
        if line[:1] in (" ", "\t"):
            # RFC 9112, 5.2: the line before goes on, or what was wrong with it does.
            if folds:
                name, value = found[-1]
                found[-1] = name, f"{value} {line.strip()}"
            else:
                defects = True
            continue
        name, colon, value = line.partition(":")
        folds = bool(colon) and _NAME.fullmatch(name) is not None and "\r" not in value and "\0" not in value
        if folds:
            found.append((name, value.strip(" \t")))
        else:
            defects = True
    return Headers(found, defects=defects)


def _length(headers: Headers) -> int | None:
    text = headers.get("content-length")
    if text is None:
        return None
    if _LENGTH.fullmatch(text) is None or len(set(headers.get_all("content-length"))) > 1:
        raise BadAnswerError(f"not a length: {text[:80]!r}")
    return int(text)
