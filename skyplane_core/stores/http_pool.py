"""Connections for control calls, kept between calls and shared by threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from skyplane_core.stores.http_data import HttpData


class ConnectionPool:
    """As many connections as there are calls at a time. Thread-safe.

    Args:
        open_http: makes one more connection; it connects on first use.
    """

    def __init__(self, open_http: Callable[[], HttpData]) -> None:
        self._open = open_http
        self._lock = threading.Lock()
        self._idle: list[HttpData] = []
        self._closed = False

    @contextlib.contextmanager
    def connection(self) -> Iterator[HttpData]:
        """A connection that nobody else uses for as long as the context lasts."""
        with self._lock:
            http = self._idle.pop() if self._idle else None
        if http is None:
            http = self._open()
        try:
            yield http
        finally:
            with self._lock:
                keep = not self._closed
                if keep:
                    self._idle.append(http)
            if not keep:
                http.close()

    def close(self) -> None:
        """Close the idle connections, and from now on each one after its call."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for http in idle:
            http.close()
