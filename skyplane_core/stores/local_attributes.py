"""A file's own attributes: time of modification and permissions."""

from __future__ import annotations

import os
import stat

import msgspec

from skyplane_core.model import ObjectAttributes

_MODE = 0o777
"""What of a mode is carried: never set-uid, set-gid or the sticky bit."""
_decoder = msgspec.json.Decoder(ObjectAttributes)


def of(status: os.stat_result) -> ObjectAttributes:
    """What a file's status says; a directory, which stands for a marker, says nothing."""
    if stat.S_ISDIR(status.st_mode):
        return ObjectAttributes()
    return ObjectAttributes(mtime_ns=status.st_mtime_ns, mode=status.st_mode & _MODE)


def set_mtime(path: str, attributes: ObjectAttributes) -> None:
    """Give a file its time; after its last write."""
    if attributes.mtime_ns is not None:
        os.utime(path, ns=(attributes.mtime_ns, attributes.mtime_ns))


def set_mode(path: str, attributes: ObjectAttributes) -> None:
    """Give a file its permissions; last of all, since they may be none to write it."""
    if attributes.mode is not None:
        os.chmod(path, attributes.mode & _MODE)


def encode(attributes: ObjectAttributes) -> bytes:
    """These attributes as JSON, for an upload that goes on later."""
    return msgspec.json.encode(ObjectAttributes(mtime_ns=attributes.mtime_ns, mode=attributes.mode))


def decode(text: str) -> ObjectAttributes:
    """The inverse of :func:`encode`."""
    return _decoder.decode(text)
