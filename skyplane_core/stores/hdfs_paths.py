"""Keys as paths below one directory of HDFS."""

from __future__ import annotations

import posixpath

from skyplane_core.errors import BucketNotFound, ObjectNotFound, StoreRejected
from skyplane_core.model import StoreConfig
from skyplane_core.stores.hdfs_client import Hdfs, Status
from skyplane_core.stores.local_paths import check_key
from skyplane_core.stores.tree import STATE_DIRECTORY, UPLOADS


def path_of(root: str, key: str, where: str) -> str:
    """The path of ``key``. Raises StoreRejected for one that HDFS does not take, or where writes are prepared."""
    check_key(key, where)
    if ":" in key:
        raise StoreRejected(
            "the key cannot be a file name",
            where=where,
            why="HDFS takes no ':' in a name",
            next_step="Exclude this object or give it another name.",
        )
    return posixpath.join(root, key.removesuffix("/"))


def uploads_of(root: str) -> str:
    """Where writes to the root are prepared."""
    return posixpath.join(root, UPLOADS)


def require_root(hdfs: Hdfs, config: StoreConfig) -> Status:
    """The root's status. Raises BucketNotFound unless it is a directory."""
    try:
        found = hdfs.status(config.bucket, config.uri)
    except ObjectNotFound as error:
        raise BucketNotFound(
            "the directory does not exist", where=config.uri, next_step="Create it, or check its name."
        ) from error
    if not found.is_directory:
        raise BucketNotFound(
            "the directory is a file", where=config.uri, next_step="Name a directory, or this one file."
        )
    return found


def make_uploads(hdfs: Hdfs, config: StoreConfig) -> str:
    """Make the directory where writes are prepared, and return it: whoever may write to the root may do so there.

    Raises:
        BucketNotFound: the root is not there.
    """
    root = require_root(hdfs, config)
    for directory in (STATE_DIRECTORY, UPLOADS):
        hdfs.make_directory(posixpath.join(config.bucket, directory), config.uri, root.mode)
    return uploads_of(config.bucket)


def remove_empty_parents(hdfs: Hdfs, root: str, path: str, where: str) -> None:
    """Remove the directories above ``path``, below the root, that hold nothing any more."""
    parent = posixpath.dirname(path)
    while len(parent) > len(root.rstrip("/")):
        try:
            hdfs.delete(parent, where)
        except StoreRejected:
            return  # Something is in it.
        parent = posixpath.dirname(parent)
