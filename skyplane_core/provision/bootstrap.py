"""What a gateway is told at birth, on its standard input, and what it answers once it listens."""

from __future__ import annotations

import msgspec

MIB = 1024 * 1024
DEFAULT_POOL_BYTES = 512 * MIB


class Bootstrap(msgspec.Struct, frozen=True, omit_defaults=True):
    """One JSON object on the daemon's stdin, which is then closed. Holds the dataplane's identity and no transfer.

    Args:
        ca_pem: the dataplane CA's certificate; only peers with a certificate of this CA may talk to the control API.
        certificate_pem, private_key_pem: this gateway's own, for its control API.
        wire_secret: 32 bytes that all gateways of the dataplane share, to authenticate wire connections.
        bind_host: address to listen on; ``control_host``: another one for the control API.
        control_port, wire_port: 0: any free port.
        pool_bytes: the buffer pool; the gateway's memory limit is this plus about 150 MB.
        expiry_seconds: the gateway ends itself when no transfer progressed for so long.
        log_path: file to log to; empty: standard error.
    """

    dataplane_id: str
    gateway_id: str
    ca_pem: str
    certificate_pem: str
    private_key_pem: str
    wire_secret: bytes
    bind_host: str = "127.0.0.1"
    control_host: str = ""
    control_port: int = 0
    wire_port: int = 0
    pool_bytes: int = DEFAULT_POOL_BYTES
    expiry_seconds: float = 900.0
    log_path: str = ""

    def __repr__(self) -> str:
        return f"Bootstrap({self.dataplane_id}/{self.gateway_id}, redacted)"

    __str__ = __repr__


class Listening(msgspec.Struct, frozen=True):
    """One JSON line on the daemon's stdout, which is then closed: it listens, and its API answers."""

    gateway_id: str
    pid: int
    control_port: int
    wire_port: int
