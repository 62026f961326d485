"""A list server as tests and benchmarks use it: a process of its own, with an object server behind it."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType

from skyplane_core.testing.objectserver import ObjectServer

STOP_SECONDS = 10.0


class ListServer:
    """``count`` objects in every bucket that exists, which can be listed and not read. A context manager.

    What is written goes to an object server behind it and shows in listings below ``.skyplane/`` only, where
    transfers keep their state. The GCS side shows copies of the S3 side, with the record of
    their source.

    Args:
        kind: ``s3`` or ``gcs``.
        bucket: the bucket that exists.
        latency: seconds before each page of a listing.
    """

    def __init__(self, kind: str, count: int, bucket: str, *, latency: float = 0.0) -> None:
        self.kind = kind
        self._arguments = [kind, str(count)]
        self._latency = latency
        self.behind = ObjectServer(kind, buckets=[bucket], in_process=False)
        self._process: subprocess.Popen[str] | None = None
        self.endpoint_url = ""

    def __enter__(self) -> ListServer:
        self.behind.start()
        command = [sys.executable, "-m", "skyplane_core.testing.listserver", *self._arguments]
        self._process = subprocess.Popen(
            [*command, self.behind.endpoint_url, str(self._latency)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.endpoint_url = self._process.stdout.readline().strip() if self._process.stdout else ""
        if not self.endpoint_url:
            self.__exit__(None, None, None)
            raise RuntimeError("the list server did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            try:
                self._process.communicate(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
            self._process = None
        self.behind.stop()

    @property
    def pid(self) -> int:
        """The process that serves the listings."""
        if self._process is None:
            raise RuntimeError("this list server is not running")
        return self._process.pid
