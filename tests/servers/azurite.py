"""Azurite, Microsoft's emulator of Azure Blob Storage, as a process: scripts/setup --servers installs it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = ROOT / ".venv-servers" / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_START_SECONDS = 60.0


class MissingError(Exception):
    """It, or node, is not installed here; the message says how to get it."""


@contextlib.contextmanager
def running(directory: Path, *options: str, account: str = ACCOUNT, key: str = KEY) -> Iterator[str]:
    """A server on a port of its own; yields ``http://127.0.0.1:port``, ``https://`` with a ``--cert``.

    Args:
        account, key: of its one account; else those that everybody knows.

    Raises:
        MissingError: it is not installed.
    """
    node = shutil.which("node")
    if node is None or not PROGRAM.exists():
        raise MissingError("Azurite is not installed here: scripts/setup --servers does it, where there is a node")
    port = _free_port()
    with (directory / "azurite.log").open("wb") as log:
        process = subprocess.Popen(
            [
                node,
                str(PROGRAM),
                *("--blobHost", "127.0.0.1", "--blobPort", str(port)),
                *("--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck"),
                *options,
            ],
            cwd=directory,
            env={**os.environ, "AZURITE_ACCOUNTS": f"{account}:{key}"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(port, process, directory / "azurite.log")
        yield f"{'https' if '--cert' in options else 'http'}://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"Azurite did not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)
