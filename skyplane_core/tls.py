"""TLS contexts of the control API: mutual, TLS 1.3 only, and no private key on a disk.

Names are checked, addresses are not: a gateway's certificate carries :func:`server_name`, which the client asks for
whatever host and port it dials, so a tunnel or a changed address does not weaken the check.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

DOMAIN = "skyplane.internal"
CLIENT_NAME = "client"


class KeyPair(msgspec.Struct, frozen=True):
    """A certificate and its private key, both PEM."""

    certificate_pem: str
    private_key_pem: str

    def __repr__(self) -> str:
        return "KeyPair(redacted)"

    __str__ = __repr__


def server_name(gateway_id: str, dataplane_id: str) -> str:
    """The DNS name in a gateway's certificate. It exists in no DNS."""
    return f"{gateway_id}.{dataplane_id}.{DOMAIN}"


def client_context(ca_pem: str, pair: KeyPair) -> ssl.SSLContext:
    """Context of a client: trusts this CA alone, checks the server's name, shows its own certificate.

    Raises:
        ssl.SSLError: a PEM cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    _load(context, ca_pem, pair)
    return context


def server_context(ca_pem: str, pair: KeyPair) -> ssl.SSLContext:
    """Context of a gateway: a client without a certificate of this CA does not get past the handshake.

    Raises:
        ssl.SSLError: a PEM cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    # A resumed session would skip the certificate check that an expired client certificate should fail.
    context.num_tickets = 0
    _load(context, ca_pem, pair)
    return context


def is_dataplane_client(peer_certificate: object, dataplane_id: str) -> bool:
    """Whether a verified peer certificate, as ``SSLObject.getpeercert`` shows it, is the client of this dataplane."""
    if not isinstance(peer_certificate, dict):
        return False
    subject = [attribute for name in peer_certificate.get("subject", ()) for attribute in name]
    return sorted(subject) == [("commonName", CLIENT_NAME), ("organizationName", dataplane_id)]


def load_pair(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Put a certificate and its key into a context, in place of those in it; connections made from now on use them.

    Raises:
        ssl.SSLError: the PEM cannot be used, or key and certificate do not belong together.
    """
    with _as_path(f"{pair.certificate_pem}\n{pair.private_key_pem}".encode()) as path:
        context.load_cert_chain(path)


def _load(context: ssl.SSLContext, ca_pem: str, pair: KeyPair) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=ca_pem)
    load_pair(context, pair)


@contextlib.contextmanager
def _as_path(content: bytes) -> Iterator[str]:
    """A path under which ``content`` can be read inside the ``with`` block.

    ``ssl`` loads a private key only from a path. A memfd has one and never touches a disk; where there is none,
    a file that nobody else may read exists for the moment of loading.
    """
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("skyplane-key")
        try:
            _write_all(fd, content)
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)
    else:
        fd, path = tempfile.mkstemp(prefix="skyplane-key-")
        try:
            try:
                _write_all(fd, content)
            finally:
                os.close(fd)
            yield path
        finally:
            Path(path).unlink()


def _write_all(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
