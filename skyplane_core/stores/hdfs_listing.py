"""A directory tree of HDFS as an ordered stream of keys."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from skyplane_core.errors import ObjectNotFound
from skyplane_core.model import ObjectInfo
from skyplane_core.stores.hdfs_client import Hdfs, Status
from skyplane_core.stores.tree import Window


def info_of(key: str, status: Status) -> ObjectInfo:
    """What a listing shows of a file, or of a directory if ``key`` ends in ``/``."""
    size = 0 if key.endswith("/") else status.size
    return ObjectInfo(key=key, size=size, version=status.version, modified=status.modified / 1000)


class Listing:
    """One walk over the files under ``root`` in a window, by the UTF-8 bytes of the whole key.

    A NameNode's own order is another one, so a directory's entries are sorted here: in memory are those of the
    directories from the root to where the walk is, no more. Files that appear or vanish meanwhile may be shown or not.
    An empty directory is a zero-byte object whose key ends in ``/``. Links, which HDFS has disabled, are not followed.
    """

    def __init__(self, hdfs: Hdfs, root: str, window: Window, uri: str) -> None:
        self._hdfs = hdfs
        self._root = root
        self._window = window
        self._uri = uri

    def __iter__(self) -> Iterator[ObjectInfo]:
        directory = self._window.directory
        if directory is None:
            return
        key = directory.decode()
        found = self._hdfs.find(posixpath.join(self._root, key.removesuffix("/")), f"{self._uri}/{key}")
        if found is not None and found.is_directory:
            yield from self._walk(directory, found)

    def _walk(self, directory: bytes, status: Status) -> Iterator[ObjectInfo]:
        entries, empty = self._entries(directory)
        if empty and directory and self._window.wanted(directory):
            yield info_of(directory.decode(), status)
        for key, entry in entries:
            if entry.is_directory:
                yield from self._walk(key, entry)
            else:
                yield info_of(key.decode(), entry)

    def _entries(self, directory: bytes) -> tuple[list[tuple[bytes, Status]], bool]:
        """The entries worth a visit by their keys, in order, and whether there is none at all."""
        text = directory.decode()
        path, where = posixpath.join(self._root, text.removesuffix("/")), f"{self._uri}/{text}"
        entries, empty = [], True
        try:
            for entry in self._hdfs.entries(path, where):
                empty = False
                key = directory + posixpath.basename(entry.path).encode() + (b"/" if entry.is_directory else b"")
                if self._window.may_hold(key) if entry.is_directory else self._window.wanted(key):
                    entries.append((key, entry))
        except ObjectNotFound:
            return [], False
        return sorted(entries), empty
