"""What a gateway is told at birth: read it, check it, and say in one line what is wrong with it."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import select
import ssl
import sys
import time

import msgspec

from skyplane_core.provision.bootstrap import Bootstrap
from skyplane_core.tls import KeyPair, server_context

BAD_INPUT = 2
"""Exit code: what came on standard input is not a usable bootstrap."""
CANNOT_START = 3
"""Exit code: a library is missing, a port is taken, or the log file cannot be written."""

_MAX_BOOTSTRAP = 1024 * 1024
_INPUT_SECONDS = 30.0
_REQUIRED = ("aiohttp", "awscrt", "cramjam", "cryptography")
_EXTRA = "pip install 'airflow-provider-skyplane[gateway]'"
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class CannotStartError(Exception):
    """Why a gateway does not start, in one line, and its exit code. The text holds nothing that was sent to it."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def read_bootstrap() -> Bootstrap:
    """The bootstrap on standard input, complete and checked.

    Raises:
        CannotStartError: there is none, or it is of no use.
    """
    if sys.stdin.isatty():
        raise CannotStartError("a bootstrap is expected on standard input, not a terminal", BAD_INPUT)
    content = bytearray()
    deadline = time.monotonic() + _INPUT_SECONDS
    while True:
        ready, _, _ = select.select([0], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise CannotStartError(f"standard input did not end within {_INPUT_SECONDS:.0f} s", BAD_INPUT)
        chunk = os.read(0, 65536)
        if not chunk:
            break
        content += chunk
        if len(content) > _MAX_BOOTSTRAP:
            raise CannotStartError(f"the bootstrap is longer than {_MAX_BOOTSTRAP} bytes", BAD_INPUT)
    try:
        bootstrap = msgspec.json.decode(content, type=Bootstrap)
    except msgspec.DecodeError as error:
        raise CannotStartError(f"bad bootstrap: {error}", BAD_INPUT) from error
    wrong = _wrong(bootstrap)
    if wrong:
        raise CannotStartError(f"bad bootstrap: {wrong}", BAD_INPUT)
    return bootstrap


def _wrong(bootstrap: Bootstrap) -> str:
    """What is wrong with the values, by name of the field and without its value; empty if nothing is."""
    checks = {
        "dataplane_id": _LABEL.fullmatch(bootstrap.dataplane_id),
        "gateway_id": _LABEL.fullmatch(bootstrap.gateway_id),
        "wire_secret": len(bootstrap.wire_secret) == 32,
        "bind_host": bootstrap.bind_host,
        "control_port": 0 <= bootstrap.control_port < 65536,
        "wire_port": 0 <= bootstrap.wire_port < 65536,
        "pool_bytes": bootstrap.pool_bytes > 0,
        "expiry_seconds": 0 < bootstrap.expiry_seconds < math.inf,
        "log_path": not bootstrap.log_path or bootstrap.log_path.startswith("/"),
    }
    return ", ".join(f"{name} is not usable" for name, good in checks.items() if not good)


def check_libraries() -> None:
    """Notice a missing library here, where its name can be told, and not in a process that dies of it.

    Raises:
        CannotStartError: one is missing or too old.
    """
    missing = [name for name in _REQUIRED if importlib.util.find_spec(name) is None]
    if missing:
        raise CannotStartError(f"not installed: {', '.join(missing)}. Run: {_EXTRA}", CANNOT_START)
    from cryptography import __version__

    if int(__version__.split(".")[0]) < 50:
        # Older ones hold the GIL for the whole of an AEAD call.
        raise CannotStartError(f"cryptography {__version__} is too old. Run: {_EXTRA}", CANNOT_START)


def tls_of(bootstrap: Bootstrap) -> ssl.SSLContext:
    """The server context of this gateway's API.

    Raises:
        CannotStartError: certificate and key cannot be used.
    """
    try:
        return server_context(bootstrap.ca_pem, KeyPair(bootstrap.certificate_pem, bootstrap.private_key_pem))
    except (ssl.SSLError, ValueError) as error:
        raise CannotStartError(f"bad bootstrap: unusable certificate or key ({error})", BAD_INPUT) from error
