"""A directory tree as an ordered stream of keys."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from skyplane_core.errors import StoreRejected
from skyplane_core.model import ObjectInfo
from skyplane_core.stores.local_paths import STATE_DIRECTORY, UPLOADS, is_inside, mapped


def version_of(status: os.stat_result) -> str:
    """A file's version: another file at this path, or other bytes in it, have another one.

    A directory, which stands for a zero-byte marker, keeps its version while files in it come and go.
    """
    if stat.S_ISDIR(status.st_mode):
        return f"{status.st_dev}:{status.st_ino}:directory"
    return f"{status.st_dev}:{status.st_ino}:{status.st_mtime_ns}:{status.st_size}"


def info_of(key: str, status: os.stat_result) -> ObjectInfo:
    """What a listing shows of a file, or of a directory if ``key`` ends in ``/``."""
    size = 0 if key.endswith("/") else status.st_size
    return ObjectInfo(key=key, size=size, version=version_of(status), modified=status.st_mtime)


class Listing:
    """One walk over the files under ``root`` whose key starts with ``prefix``, by the UTF-8 bytes of the whole key.

    A directory's entries are sorted with ``/`` behind the directories' names, which makes the concatenation sorted as
    well. In memory are the names of the directories from the root to where the walk is, no more. Files that appear or
    vanish meanwhile may be shown or not.

    Links to files count as files, wherever they lead. Links to directories are followed inside the tree, except to a
    directory that the walk is in; others, dangling links, sockets, pipes and devices are left out. An empty directory
    is a zero-byte object whose key ends in ``/``. Unless ``follow``, all links are left out. ``.skyplane/`` is left out
    unless ``prefix`` lies in it.
    """

    def __init__(
        self, root: str, prefix: str, start_after: str, delimiter: str, uri: str, *, follow: bool = True
    ) -> None:
        self._follow = follow
        self._root = root
        self._real_root = os.path.realpath(root)
        self._prefix = prefix.encode()
        self._start_after = start_after.encode()
        self._delimiter = delimiter.encode()
        self._uri = uri

    def __iter__(self) -> Iterator[ObjectInfo]:
        base = self._prefix.rpartition(b"/")[0]
        segments = base.split(b"/") if base else []
        if b"" in segments or b"." in segments or b".." in segments or b"\0" in base:
            return
        if (base + b"/").startswith(f"{UPLOADS}/".encode()):
            return
        start = os.path.join(os.fsencode(self._root), base)
        if not self._leads_inside(start) or not os.path.isdir(start):
            return
        directory = base + b"/" if base else b""
        above = frozenset(_identity(os.path.join(os.fsencode(self._root), *segments[:i])) for i in range(len(segments)))
        yield from self._walk(directory, above)

    def _walk(self, directory: bytes, above: frozenset[tuple[int, int]]) -> Iterator[ObjectInfo]:
        path = os.path.join(os.fsencode(self._root), directory)
        with mapped(f"{self._uri}/{os.fsdecode(directory)}"):
            here = _identity(path)
            if here in above:
                return
            names, empty = self._sorted_names(path, directory)
        if empty and directory and self._wanted(directory):
            with mapped(f"{self._uri}/{os.fsdecode(directory)}"):
                yield info_of(self._text(directory), os.stat(path))
        for name in names:
            key = directory + name
            if name.endswith(b"/"):
                yield from self._walk(key, above | {here})
            elif (status := _stat_file(path + name)) is not None:
                yield info_of(self._text(key), status)

    def _sorted_names(self, path: bytes, directory: bytes) -> tuple[list[bytes], bool]:
        """The names worth a visit, directories with a ``/`` behind them, and whether there is no entry at all."""
        names = []
        empty = True
        try:
            entries = os.scandir(path)
        except FileNotFoundError:
            return [], False
        with entries:
            for entry in entries:
                empty = False
                if not self._follow and entry.is_symlink():
                    continue
                if entry.is_dir(follow_symlinks=True):
                    key = directory + entry.name + b"/"
                    if self._may_hold(key) and (not entry.is_symlink() or self._leads_inside(entry.path)):
                        names.append(entry.name + b"/")
                elif self._wanted(directory + entry.name):
                    names.append(entry.name)
        names.sort()
        return names, empty

    def _leads_inside(self, path: bytes) -> bool:
        return is_inside(os.path.realpath(os.fsdecode(path)), self._real_root)

    def _may_hold(self, directory: bytes) -> bool:
        """Whether a directory (its key, with ``/``) can hold a key that is wanted."""
        if directory == f"{STATE_DIRECTORY}/".encode() and not self._prefix.startswith(directory):
            return False
        if directory == f"{UPLOADS}/".encode():
            return False
        if not (directory.startswith(self._prefix) or self._prefix.startswith(directory)):
            return False
        if self._delimiter and self._delimiter in directory[len(self._prefix) :]:
            return False
        return directory > self._start_after or self._start_after.startswith(directory)

    def _wanted(self, key: bytes) -> bool:
        return (
            key.startswith(self._prefix)
            and key > self._start_after
            and not (self._delimiter and self._delimiter in key[len(self._prefix) :])
        )

    def _text(self, key: bytes) -> str:
        try:
            return key.decode()
        except UnicodeDecodeError as error:
            raise StoreRejected(
                "a file's name is not UTF-8", where=f"{self._uri}/{key!r}", next_step="Rename it."
            ) from error


def _identity(path: bytes) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _stat_file(path: bytes) -> os.stat_result | None:
    """The status of a regular file or what a link to one leads to; None for anything else, or if it is gone."""
    try:
        status = os.stat(path)
    except OSError as error:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)) or os.path.islink(path):
            return None
        raise
    return status if stat.S_ISREG(status.st_mode) else None
