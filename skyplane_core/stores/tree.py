"""Which part of a directory tree a listing shows. Pure; for stores whose keys are paths below a directory.

Keys are bytes here, and those of directories end in ``/``: in the order of such keys, the walk is in the order of all.
"""

from __future__ import annotations

from skyplane_core.errors import StoreRejected

STATE_DIRECTORY = ".skyplane"
UPLOADS = f"{STATE_DIRECTORY}/uploads"
"""Where writes are prepared, under the root; no key may name a place in it."""


class Window:
    """What a listing of ``prefix`` behind ``start_after`` shows, with no ``delimiter`` behind the prefix.

    ``.skyplane/`` is left out unless ``prefix`` lies in it; where writes are prepared is never shown.
    """

    def __init__(self, prefix: str, start_after: str, delimiter: str) -> None:
        self._prefix = prefix.encode()
        self._start_after = start_after.encode()
        self._delimiter = delimiter.encode()

    @property
    def directory(self) -> bytes | None:
        """The key of the directory to begin the walk in, empty for the root; None if nothing can be there."""
        base = self._prefix.rpartition(b"/")[0]
        segments = base.split(b"/") if base else []
        if b"" in segments or b"." in segments or b".." in segments or b"\0" in base:
            return None
        directory = base + b"/" if base else b""
        return None if directory.startswith(f"{UPLOADS}/".encode()) else directory

    def may_hold(self, directory: bytes) -> bool:
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

    def wanted(self, key: bytes) -> bool:
        """Whether a key is shown."""
        return (
            key.startswith(self._prefix)
            and key > self._start_after
            and not (self._delimiter and self._delimiter in key[len(self._prefix) :])
        )


def key_text(key: bytes, uri: str) -> str:
    """The key as text. Raises StoreRejected: it is not UTF-8."""
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise StoreRejected("a file's name is not UTF-8", where=f"{uri}/{key!r}", next_step="Rename it.") from error
