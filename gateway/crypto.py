"""Sealing frames: AES-256-GCM over the caller's buffers, keys by HKDF-SHA256.

Why no (key, nonce) pair ever repeats:

* The nonce is the frame's counter, 96 bits big-endian. A :class:`Sealer` seals each counter once: it refuses one that
  is not higher than the last, whatever its caller does.
* Each Sealer has a key of its own, ``HKDF(secret, salt, label)``, and its ``salt`` holds 32 bytes that the Sealer
  draws from the kernel itself; nobody can hand it a used one. So two sealings share a key only if two draws of 256 bits
  are equal: for 2^48 batches under one transfer key the odds are below 2^-160.
* A batch that is sent again (another attempt, another connection, a hedge) is another Sealer, hence another key.
* A writer may be made to answer one batch twice, since a relay may replay it. Its answer's salt is the batch's salt
  followed by 32 bytes of its own, so the two answers have different keys although they answer the same batch.
* Labels keep directions apart: a batch key never equals an answer key or a session key, even for equal salts.
* A session's refusals are sealed under a key that the handshake derived for this connection and this direction from
  fresh nonces (gateway.handshake), by one Sealer with one counter.

Nonces are counted and never drawn, so GCM's limit on random nonces does not apply; a key seals at most 2^32 frames of
at most 2 MiB, and a frame is far below GCM's 2^36 bytes a message.
"""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.wire import ANSWER_SALT_SIZE, TAG_SIZE
from skyplane_core.errors import FrameCorrupt

KEY_SIZE: Final = 32
SALT_SIZE: Final = 32
_BATCH_LABEL: Final = b"skyplane wire 1 batch"
_ANSWER_LABEL: Final = b"skyplane wire 1 answer"
_MAX_FRAME: Final = 2**32 - 1


def derive(secret: bytes, salt: bytes, label: bytes) -> bytes:
    """32 bytes of key: HKDF-SHA256 of ``secret``."""
    return HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=salt, info=label).derive(secret)


class Sealer:
    """Seals frames under one key that nobody else seals with. Not thread-safe.

    Make one with :func:`seal_batch`, :func:`seal_answer` or :func:`seal_session`.
    """

    def __init__(self, key: bytes, salt: bytes = b"") -> None:
        self._aead = AESGCM(key)
        self._last = -1
        self.salt = salt

    def seal_into(self, frame: int, raw: memoryview, header: memoryview, out: memoryview) -> int:
        """Seal ``raw`` into ``out`` and return the bytes written: those of ``raw`` and the tag.

        ``out`` may start at the very byte where ``raw`` does (sealed in place), or not overlap it.

        Raises:
            ValueError: ``frame`` does not count upwards; sealing it would repeat a nonce.
        """
        if not self._last < frame <= _MAX_FRAME:
            raise ValueError(f"frame {frame} after {self._last} would repeat a nonce")
        self._last = frame
        return self._aead.encrypt_into(frame.to_bytes(12, "big"), raw, header, out[: len(raw) + TAG_SIZE])


class Opener:
    """Opens what the Sealer with the same key sealed. Thread-safe."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def open_into(self, frame: int, body: memoryview, header: memoryview, out: memoryview) -> int:
        """Open ``body`` (which ends in its tag) into ``out`` and return the bytes written.

        ``out`` may start at the very byte where ``body`` does. After an error its contents are undefined.

        Raises:
            FrameCorrupt: body or header are not what was sealed.
        """
        try:
            return self._aead.decrypt_into(frame.to_bytes(12, "big"), body, header, out[: len(body) - TAG_SIZE])
        except InvalidTag as error:
            raise FrameCorrupt(
                f"frame {frame} failed its authentication tag", next_step="The batch is sent again."
            ) from error


def seal_batch(transfer_key: bytes) -> Sealer:
    """For one sending of one batch; its fresh salt goes into each header."""
    salt = os.urandom(SALT_SIZE)
    return Sealer(derive(transfer_key, salt, _BATCH_LABEL), salt)


def open_batch(transfer_key: bytes, salt: bytes) -> Opener:
    """Opens what the :func:`seal_batch` with this salt sealed."""
    return Opener(derive(transfer_key, salt, _BATCH_LABEL))


def seal_answer(transfer_key: bytes, batch_salt: bytes) -> Sealer:
    """For one answer to one batch; its fresh salt (without the batch's) starts each body of it."""
    own = os.urandom(ANSWER_SALT_SIZE)
    return Sealer(derive(transfer_key, batch_salt + own, _ANSWER_LABEL), own)


def open_answer(transfer_key: bytes, batch_salt: bytes, answer_salt: bytes) -> Opener:
    """Opens what the :func:`seal_answer` with these salts sealed."""
    return Opener(derive(transfer_key, batch_salt + answer_salt, _ANSWER_LABEL))
