"""Keys as paths under one directory, and the operating system's errors as the engine's."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from skyplane_core.errors import (
    ObjectNotFound,
    PermissionDenied,
    SkyplaneError,
    StoreError,
    StoreRejected,
    StoreUnavailable,
)
from skyplane_core.stores.base import NEXT_FOR_MISSING
from skyplane_core.stores.path_names import path_refusal
from skyplane_core.stores.tree import UPLOADS

NEXT_FOR_RIGHTS = "Give the user that runs this the right to that path, or run it as another user."
MAX_NAME_BYTES = 255
_KINDS: dict[int, type[StoreError]] = {
    errno.ENOENT: ObjectNotFound,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EROFS: PermissionDenied,
    errno.EIO: StoreUnavailable,
    errno.EAGAIN: StoreUnavailable,
    errno.EBUSY: StoreUnavailable,
    errno.EMFILE: StoreUnavailable,
    errno.ENFILE: StoreUnavailable,
    errno.ENOMEM: StoreUnavailable,
    errno.ESTALE: StoreUnavailable,
    errno.ETIMEDOUT: StoreUnavailable,
}
_NEXT = {
    errno.ENOENT: NEXT_FOR_MISSING,
    errno.EACCES: NEXT_FOR_RIGHTS,
    errno.EPERM: NEXT_FOR_RIGHTS,
    errno.EROFS: "That file system is mounted read-only: mount it writable or use another directory.",
    errno.ENOSPC: "Free some space there and run the transfer again.",
    errno.EDQUOT: "Raise the quota or free some space, and run the transfer again.",
    errno.ENOTDIR: "A file system cannot hold both a file 'a' and files below 'a/'; map one of them elsewhere.",
    errno.EISDIR: "A file system cannot hold both a file 'a' and files below 'a/'; map one of them elsewhere.",
    errno.EXDEV: "Another file system is mounted inside the directory; use that mount as the directory instead.",
}


def check_key(key: str, where: str) -> None:
    """Refuse a key that is no path strictly inside the root, or that would not come back from a listing as it is.

    Raises:
        StoreRejected: it is empty, absolute, has an empty, ``.`` or ``..`` segment, a NUL, or is no valid Unicode; or
            it lies where writes are prepared.
    """
    reason = "it is not valid Unicode" if not _is_unicode(key) else path_refusal(key, MAX_NAME_BYTES)
    if not reason and f"{key.removesuffix('/')}/".startswith(f"{UPLOADS}/"):
        reason = f"{UPLOADS}/ is reserved"
    if reason:
        raise StoreRejected(
            "the key cannot be a file name",
            where=where,
            why=reason,
            next_step="Exclude this object or give it another name.",
        )


def path_of(root: str, key: str, where: str) -> str:
    """The path of ``key``, which is checked. A link on the way may not lead out of the root.

    The check holds for the tree as it is now; the root is not meant to be shared with somebody hostile.
    """
    check_key(key, where)
    path = os.path.join(root, key.removesuffix("/"))
    real_root = os.path.realpath(root)
    parent = os.path.realpath(path if key.endswith("/") else os.path.dirname(path))
    if not is_inside(parent, real_root):
        raise StoreRejected(
            "the key's directory lies outside of the target",
            where=where,
            why=f"a link leads to {parent}",
            next_step="Remove the link, or use the directory that it points to.",
        )
    return path


def is_inside(real_path: str, real_root: str) -> bool:
    """Whether ``real_path`` is the root or lies in it; both are free of links."""
    return real_path == real_root or real_path.startswith(real_root.rstrip("/") + "/")


def make_parents(path: str) -> None:
    """Make the missing directories above ``path``, durably."""
    missing = []
    parent = os.path.dirname(path)
    while not os.path.isdir(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory)
        sync_directory(os.path.dirname(directory))


def remove_empty_parents(root: str, path: str) -> None:
    """Remove the directories above ``path``, below the root, that hold nothing any more."""
    parent = os.path.dirname(path)
    while len(parent) > len(root.rstrip("/")):
        try:
            os.rmdir(parent)
        except OSError as error:
            # Something is in it, or somebody else removes or links it: then it is not ours to remove.
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.EBUSY):
                return
            raise
        parent = os.path.dirname(parent)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def mapped(where: str) -> Iterator[None]:
    """Turn an OSError within into an error of ours."""
    try:
        yield
    except SkyplaneError:
        raise
    except OSError as error:
        number = error.errno or 0
        kind = _KINDS.get(number, StoreRejected)
        raise kind(
            "the object does not exist" if kind is ObjectNotFound else "the file system refuses",
            where=where,
            why=f"{errno.errorcode.get(number, number)}: {error.strerror}",
            next_step=_NEXT.get(number, ""),
        ) from error


def _is_unicode(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
