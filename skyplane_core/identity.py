"""Who belongs to a dataplane: a certificate authority and a wire secret, both derived from one control secret.

Nothing is stored: whoever holds the control secret and knows the dataplane's id derives the same CA again and can mint
itself a client certificate, on another machine and after a restart. The CA's private key never leaves the client.
"""

from __future__ import annotations

import base64
import datetime
import re
import secrets
import time
from collections.abc import Callable
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from skyplane_core.errors import UsageError
from skyplane_core.tls import CLIENT_NAME, KeyPair, server_name

MIN_SECRET_BYTES = 32
CLIENT_LIFETIME_SECONDS = 12 * 3600
CA_LIFETIME_SECONDS = 366 * 24 * 3600
CLOCK_SKEW_SECONDS = 3600
"""How far behind a gateway's clock may be; a certificate is valid from that much before it was made."""

_DATAPLANE_ID = re.compile(r"dp-([0-9a-v]{8})-[0-9a-v]{16}")
_GATEWAY_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def new_dataplane_id(now: float | None = None, rng: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """A new dataplane's id: a DNS label that sorts by creation time and holds 80 random bits.

    Args:
        now: seconds since the epoch; default the current time.
        rng: returns that many random bytes.
    """
    seconds = int(time.time() if now is None else now)
    return f"dp-{_base32(seconds.to_bytes(5, 'big'))}-{_base32(rng(10))}"


def created_at(dataplane_id: str) -> int:
    """When a dataplane was made, in seconds since the epoch, as its id says.

    Raises:
        UsageError: not an id that :func:`new_dataplane_id` makes.
    """
    match = _DATAPLANE_ID.fullmatch(dataplane_id)
    if match is None:
        raise UsageError("not a dataplane id", where=repr(dataplane_id)[:100])
    return int.from_bytes(base64.b32hexdecode(match[1].upper()), "big")


def check_secret(control_secret: bytes) -> None:
    """Refuse a control secret that could be guessed.

    Raises:
        UsageError: it is too short.
    """
    if len(control_secret) < MIN_SECRET_BYTES:
        raise UsageError(
            f"the control secret has {len(control_secret)} bytes and needs at least {MIN_SECRET_BYTES}",
            next_step="Make one with: openssl rand -base64 32",
        )


class DataplaneIdentity:
    """The keys of one dataplane, derived from ``control_secret`` and ``dataplane_id`` alone.

    Immutable and safe to share between threads. Cannot be pickled, so that it cannot end up in an XCom by accident.

    Args:
        control_secret: at least 32 bytes that nobody can guess.
        dataplane_id: see :func:`new_dataplane_id`.

    Raises:
        UsageError: the secret is too short, or the id malformed.
    """

    def __init__(self, control_secret: bytes, dataplane_id: str) -> None:
        check_secret(control_secret)
        self.dataplane_id = dataplane_id
        self._created = created_at(dataplane_id)
        self._ca_key = Ed25519PrivateKey.from_private_bytes(
            _derive(control_secret, dataplane_id, b"skyplane ca key v1")
        )
        self._wire_secret = _derive(control_secret, dataplane_id, b"skyplane wire secret v1")
        self._ca = self._ca_certificate()

    def __repr__(self) -> str:
        return f"DataplaneIdentity({self.dataplane_id}, ca {self.ca_fingerprint()[:16]})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a dataplane's identity holds private keys and is never serialized")

    @property
    def ca_pem(self) -> str:
        """The CA's certificate. The same bytes whenever and wherever it is derived."""
        return self._ca.public_bytes(Encoding.PEM).decode()

    def ca_fingerprint(self) -> str:
        """SHA-256 of the CA's certificate, in hex. Public; tells a wrong control secret before anything is dialled."""
        return self._ca.fingerprint(hashes.SHA256()).hex()

    def wire_secret(self) -> bytes:
        """32 bytes that the gateways of this dataplane share to authenticate their connections to each other."""
        return self._wire_secret

    def server_name(self, gateway_id: str) -> str:
        """The name that the certificate of this gateway carries."""
        return server_name(gateway_id, self.dataplane_id)

    def client_certificate(self, now: float | None = None) -> KeyPair:
        """A fresh client certificate, valid for :data:`CLIENT_LIFETIME_SECONDS` from ``now`` (epoch seconds)."""
        moment = time.time() if now is None else now
        return self._issue(CLIENT_NAME, ExtendedKeyUsageOID.CLIENT_AUTH, moment, moment + CLIENT_LIFETIME_SECONDS, None)

    def gateway_certificate(self, gateway_id: str, now: float | None = None) -> KeyPair:
        """A fresh server certificate for one gateway, valid as long as the CA: a gateway cannot renew its own.

        Raises:
            UsageError: ``gateway_id`` is not a DNS label in lower case.
        """
        if _GATEWAY_ID.fullmatch(gateway_id) is None:
            raise UsageError(
                "not a gateway id", where=repr(gateway_id)[:100], why="it has to be a DNS label in lower case"
            )
        moment = time.time() if now is None else now
        end = self._created + CA_LIFETIME_SECONDS
        return self._issue(gateway_id, ExtendedKeyUsageOID.SERVER_AUTH, moment, end, self.server_name(gateway_id))

    def _ca_certificate(self) -> x509.Certificate:
        # Ed25519 signatures, the serial number and the dates are all deterministic, hence so is the certificate.
        name = self._name("ca")
        public = self._ca_key.public_key()
        builder = _builder(name, name, public, 1, self._created, self._created + CA_LIFETIME_SECONDS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        return builder.sign(self._ca_key, None)

    def _issue(
        self, common_name: str, usage: ObjectIdentifier, start: float, end: float, dns_name: str | None
    ) -> KeyPair:
        key = Ed25519PrivateKey.generate()
        public = key.public_key()
        builder = _builder(self._name(common_name), self._ca.subject, public, x509.random_serial_number(), start, end)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._ca_key.public_key())
        builder = builder.add_extension(authority, critical=False)
        if dns_name is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns_name)]), critical=False)
        certificate = builder.sign(self._ca_key, None)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return KeyPair(certificate.public_bytes(Encoding.PEM).decode(), private.decode())

    def _name(self, common_name: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.dataplane_id),
                x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            ]
        )


def _derive(secret: bytes, dataplane_id: str, purpose: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=dataplane_id.encode(), info=purpose).derive(secret)


def _base32(data: bytes) -> str:
    return base64.b32hexencode(data).decode().rstrip("=").lower()


def _builder(
    subject: x509.Name, issuer: x509.Name, public: Ed25519PublicKey, serial: int, start: float, end: float
) -> x509.CertificateBuilder:
    def utc(seconds: float) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc)

    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=public)
    builder = builder.serial_number(serial)
    return builder.not_valid_before(utc(start - CLOCK_SKEW_SECONDS)).not_valid_after(utc(end))


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
