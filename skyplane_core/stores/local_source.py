"""Which source version a local file is a copy of, in an extended attribute, so that a sync to a disk can be exact.

The file's time of change is recorded beside it: a file that somebody wrote to since then is no copy any more. A file
system without user attributes records nothing, and then the next sync copies once more, which is safe.
"""

from __future__ import annotations

import errno
import os

from skyplane_core.model import ObjectAttributes
from skyplane_core.spec import SOURCE_VERSION_KEY

_NAME = "user.skyplane.source"
_CANNOT = (errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.ENOSPC, errno.E2BIG)
_UNFINISHED = "0"


def note(path: str, attributes: ObjectAttributes) -> None:
    """Record, on a file that is still being written, what it will be a copy of."""
    version = attributes.metadata.get(SOURCE_VERSION_KEY)
    if version is not None:
        _set(path, _UNFINISHED, version)


def seal(path: str) -> None:
    """The file is complete: from now on a change of its bytes voids what was noted."""
    _modified, version = _get(path)
    if version:
        _set(path, str(os.stat(path).st_mtime_ns), version)


def attributes_of(path: str) -> ObjectAttributes:
    """What is known of a file: the source version that it is a copy of, if it still is."""
    modified, version = _get(path)
    if not version or modified != str(os.stat(path).st_mtime_ns):
        return ObjectAttributes()
    return ObjectAttributes(metadata={SOURCE_VERSION_KEY: version})


def _set(path: str, modified: str, version: str) -> None:
    if not hasattr(os, "setxattr"):
        return
    try:
        os.setxattr(path, _NAME, f"{modified} {version}".encode())
    except OSError as error:
        if error.errno not in _CANNOT:
            raise


def _get(path: str) -> tuple[str, str]:
    if not hasattr(os, "getxattr"):
        return "", ""
    try:
        modified, _, version = os.getxattr(path, _NAME).decode().partition(" ")
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return "", ""
    return modified, version
