"""Reading the head of an HTTP answer, with one check more than :mod:`http.client` has."""

from __future__ import annotations

import http.client
from io import BufferedReader
from typing import Any, cast


class _Lines:
    """A file that remembers the last line that was read from it."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self.last = b""

    def readline(self, limit: int = -1) -> bytes:
        self.last = self._file.readline(limit)
        return self.last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def begin(response: http.client.HTTPResponse) -> None:
    """Read the answer's head, whole.

    Raises:
        OSError, http.client.HTTPException: none came, or it broke off, which ``http.client`` alone does not notice: it
            takes half an ETag for a part's id.
    """
    file = response.fp
    lines = _Lines(file)
    response.fp = cast("BufferedReader", lines)
    try:
        response.begin()
    finally:
        if response.fp is not None:
            response.fp = file
    if lines.last not in (b"\r\n", b"\n"):
        raise http.client.HTTPException("the answer's head broke off")
