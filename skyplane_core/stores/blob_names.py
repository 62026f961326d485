"""Which keys Azure takes as names of blobs, and would not quietly take for another one. Pure."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x1f\x7f]")
_MAX_UNITS = 1024
_MAX_SEGMENTS = 254


def blob_refusal(key: str) -> str:
    """Why no blob can have this name; empty if one can.

    Azure refuses some names. It stores ``./key`` and ``key.`` as ``key``, and a backslash as a slash.
    """
    segments = key.split("/")
    if _CONTROL.search(key):
        return "Azure takes no control characters in names"
    if any(segment.endswith(".") for segment in segments):
        return "Azure drops a dot at the end of a path segment, and would mix it up with another name"
    if "\\" in key:
        return "Azure stores a backslash as a slash, and would mix it up with another name"
    if len(key.encode("utf-16-le", "surrogatepass")) // 2 > _MAX_UNITS:
        return f"Azure takes at most {_MAX_UNITS} characters"
    if len(segments) > _MAX_SEGMENTS:
        return f"Azure takes at most {_MAX_SEGMENTS} path segments"
    return ""
