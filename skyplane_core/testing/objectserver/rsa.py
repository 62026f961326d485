"""RSA signatures (PKCS #1 v1.5 with SHA-256) checked with nothing but integers; enough for signed URLs in tests."""

from __future__ import annotations

import base64
import hashlib

_SHA256_PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")


def verify_rsa_sha256(pem: str, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` over ``message`` is by the private half of ``pem`` (``BEGIN PUBLIC KEY``)."""
    modulus, exponent = _public_numbers(pem)
    size = (modulus.bit_length() + 7) // 8
    if len(signature) != size:
        return False
    found = pow(int.from_bytes(signature, "big"), exponent, modulus).to_bytes(size, "big")
    digest = _SHA256_PREFIX + hashlib.sha256(message).digest()
    return found == b"\x00\x01" + b"\xff" * (size - len(digest) - 3) + b"\x00" + digest


def _public_numbers(pem: str) -> tuple[int, int]:
    body = "".join(line for line in pem.strip().splitlines() if not line.startswith("-----"))
    # SubjectPublicKeyInfo: SEQUENCE { SEQUENCE { algorithm }, BIT STRING { SEQUENCE { modulus, exponent } } }
    _, info, _ = _element(base64.b64decode(body))
    _, _, after_algorithm = _element(info)
    tag, bits, _ = _element(after_algorithm)
    if tag != 3:
        raise ValueError("not a PEM public key")
    _, numbers, _ = _element(bits[1:])
    _, modulus, rest = _element(numbers)
    _, exponent, _ = _element(rest)
    return int.from_bytes(modulus, "big"), int.from_bytes(exponent, "big")


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag, content and what follows, of the first DER element in ``data``."""
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    return data[0], data[start : start + length], data[start + length :]
