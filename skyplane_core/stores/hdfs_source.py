"""Which source version a file in HDFS is a copy of, in an extended attribute, so that a sync to HDFS can be exact.

The file's own version is recorded beside it: a file that somebody wrote to since then is no copy any more. A cluster
that takes no attributes records nothing, and then the next sync copies once more, which is safe.
"""

from __future__ import annotations

import contextlib

from skyplane_core.errors import PermissionDenied, StoreRejected
from skyplane_core.model import ObjectAttributes
from skyplane_core.spec import SOURCE_VERSION_KEY
from skyplane_core.stores.hdfs_client import Hdfs, Status

_NAME = "skyplane.source"
_CANNOT = (StoreRejected, PermissionDenied)
"""A cluster may have attributes turned off, limit their length, or want to know better who is asking."""


def source_of(attributes: ObjectAttributes) -> str:
    """The source's version that is to be recorded, empty for none."""
    return attributes.metadata.get(SOURCE_VERSION_KEY, "")


def note(hdfs: Hdfs, path: str, version: str, source: str, where: str) -> None:
    """Record that the file at ``path``, as it is in ``version``, is a copy of ``source``."""
    if source and hdfs.calls is not None:
        with contextlib.suppress(*_CANNOT):
            hdfs.calls.set_attribute(path, _NAME, f"{version} {source}", where)


def attributes_of(hdfs: Hdfs, path: str, found: Status, where: str) -> ObjectAttributes:
    """What is known of a file: the source version that it is a copy of, if it still is."""
    if hdfs.calls is None or found.is_directory:
        return ObjectAttributes()
    recorded = ""
    with contextlib.suppress(*_CANNOT):
        recorded = hdfs.calls.attribute(path, _NAME, where)
    version, _, source = recorded.partition(" ")
    return ObjectAttributes(metadata={SOURCE_VERSION_KEY: source}) if version == found.version else ObjectAttributes()
