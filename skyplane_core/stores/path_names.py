"""Which keys can be paths strictly inside a directory, and which of them Windows takes as file names. Pure."""

from __future__ import annotations

_PORTS = (f"{port}{number}" for port in ("com", "lpt") for number in "123456789¹²³")
_RESERVED = frozenset({"con", "prn", "aux", "nul", "conin$", "conout$", *_PORTS})
_FORBIDDEN = frozenset('<>:"\\|?*') | frozenset(map(chr, range(32)))


def path_refusal(key: str, max_segment_bytes: int) -> str:
    """Why a key, which is valid Unicode, is no path that a listing would show as it is; empty if it is one."""
    segments = key.removesuffix("/").split("/")
    if not key or key == "/":
        return "it is empty"
    if "\0" in key:
        return "it holds a NUL"
    if key.startswith("/"):
        return "it is absolute"
    if "" in segments:
        return "it has an empty segment"
    if "." in segments or ".." in segments:
        return "it has a '.' or '..' segment"
    if any(len(segment.encode()) > max_segment_bytes for segment in segments):
        return f"a segment is longer than {max_segment_bytes} bytes"
    return ""


def windows_refusal(key: str) -> str:
    """Why Windows, or a file system of its own, takes no file of this name; empty if it does."""
    for segment in key.removesuffix("/").split("/"):
        if found := sorted(_FORBIDDEN.intersection(segment)):
            return f"{segment!r} has the character {found[0]!r}"
        if segment.endswith((" ", ".")):
            return f"{segment!r} ends in a space or a dot"
        if segment.partition(".")[0].rstrip(" ").casefold() in _RESERVED:
            return f"{segment!r} is a reserved name"
    return ""
