"""Checksums as the stores name them, computed while bytes land and combined without reading them again."""

# ruff: noqa: D102 - the docstrings of the interfaces that these classes have hold.
from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Protocol

from awscrt import checksums as crt

Buffer = bytes | bytearray | memoryview


class Hasher(Protocol):
    """The part of hashlib's interface that is used here."""

    def update(self, data: Buffer, /) -> None: ...

    def digest(self) -> bytes: ...


class Crc:
    """A CRC behind hashlib's interface; the digest is big-endian, as S3 and GCS encode it."""

    __slots__ = ("_function", "_width", "value")

    def __init__(self, function: Callable[..., int], width: int) -> None:
        self._function = function
        self._width = width
        self.value = 0

    def update(self, data: Buffer, /) -> None:
        self.value = self._function(data, self.value)

    def digest(self) -> bytes:
        return self.value.to_bytes(self._width, "big")


DIGEST_BYTES = {"CRC32": 4, "CRC32C": 4, "CRC64NVME": 8, "SHA1": 20, "SHA256": 32, "MD5": 16}
"""Every algorithm that can be asked for, and the length of its digest."""

COMBINABLE: dict[str, Callable[[int, int, int], int]] = {
    "CRC32": crt.combine_crc32,
    "CRC32C": crt.combine_crc32c,
    "CRC64NVME": crt.combine_crc64nvme,
}
"""Algorithms whose digest of a whole follows from the digests of its parts."""

_CRCS: dict[str, Callable[..., int]] = {"CRC32": crt.crc32, "CRC32C": crt.crc32c, "CRC64NVME": crt.crc64nvme}


def hasher(algorithm: str) -> Hasher:
    """A fresh hasher for one of :data:`DIGEST_BYTES`."""
    crc = _CRCS.get(algorithm)
    if crc is not None:
        return Crc(crc, DIGEST_BYTES[algorithm])
    return hashlib.new(algorithm.lower(), usedforsecurity=False)


def combine(algorithm: str, first: bytes, second: bytes, second_size: int) -> bytes:
    """The digest of two runs of bytes put together; ``second_size`` is the length of the second in bytes."""
    value = COMBINABLE[algorithm](int.from_bytes(first, "big"), int.from_bytes(second, "big"), second_size)
    return value.to_bytes(DIGEST_BYTES[algorithm], "big")


def encode(digest: bytes) -> str:
    """Base64, as headers carry digests."""
    return base64.b64encode(digest).decode()


def decode(text: str, algorithm: str) -> bytes | None:
    """The digest in a header's base64 text, or None if it is no digest of ``algorithm``."""
    try:
        digest = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest if len(digest) == DIGEST_BYTES[algorithm] else None
