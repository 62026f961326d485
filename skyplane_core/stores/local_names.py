"""How the file system under a directory takes names: whether it folds case, and whether it is one of Windows."""

from __future__ import annotations

import os
from typing import NamedTuple

_WINDOWS = frozenset({"vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "cifs", "smb3", "smbfs"})
_MOUNTS = "/proc/self/mountinfo"


class NameRules(NamedTuple):
    """See :class:`skyplane_core.stores.base.Capabilities`."""

    folds_case: bool
    windows_names: bool


def name_rules(root: str) -> NameRules:
    """The rules for a directory, which need not exist yet: those of the nearest one above it that does."""
    path = os.path.realpath(root)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    windows = os.name == "nt" or file_system(path, _mounts()) in _WINDOWS
    return NameRules(windows or _folds_case(path), windows)


def file_system(path: str, mounts: str) -> str:
    """The type of the file system that ``path`` is on, by the text of ``/proc/self/mountinfo``; empty if unknown."""
    found, best = "", ""
    for line in mounts.splitlines():
        fields, _, described = line.partition(" - ")
        parts = fields.split(" ")
        if len(parts) < 5 or not described:
            continue
        point = _unescaped(parts[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        # Of several mounts on one point the last one is seen.
        if inside and len(point) >= len(best):
            found, best = described.split(" ", 1)[0], point
    return found


def _folds_case(path: str) -> bool:
    """Whether a directory answers to its name in the other case. One without letters tells nothing: its parent does."""
    while path != os.path.dirname(path):
        parent, name = os.path.split(path)
        if (other := name.swapcase()) != name:
            try:
                return os.path.samefile(path, os.path.join(parent, other))
            except OSError:
                return False
        path = parent
    return False


def _mounts() -> str:
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _unescaped(text: str) -> str:
    """Blanks and backslashes are octal there."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
