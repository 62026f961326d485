"""Times of modification as rclone and gsutil keep them in metadata, and as nanoseconds since the epoch. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone

MTIME = "mtime"
"""rclone's name: on S3 in seconds with a fraction, on GCS and elsewhere as RFC 3339."""
GSUTIL_MTIME = "goog-reserved-file-mtime"
"""gsutil's name: whole seconds."""

_SECONDS = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9})\d*)?", re.ASCII)
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_SECOND = 10**9
_FIRST, _END = -62_135_596_800 * _SECOND, 253_402_300_800 * _SECOND
"""The years 1 to 9999, which all forms have."""


def possible(mtime_ns: int) -> bool:
    """Whether every form can tell this time."""
    return _FIRST <= mtime_ns < _END


def recorded(metadata: Mapping[str, str]) -> int | None:
    """The time that an object's metadata records; None if there is none, or it is none."""
    found = parse(metadata.get(MTIME, ""))
    return parse(metadata.get(GSUTIL_MTIME, "")) if found is None else found


def parse(text: str) -> int | None:
    """Nanoseconds since the epoch of either form; None for anything else, and outside of the years 1 to 9999."""
    found = _parse(text)
    return found if found is not None and possible(found) else None


def _parse(text: str) -> int | None:
    if seconds := _SECONDS.fullmatch(text):
        size = int(seconds[2]) * _SECOND + _fraction(seconds[3])
        return -size if seconds[1] else size
    if (date := _RFC3339.fullmatch(text)) is None:
        return None
    try:
        # Python 3.10 does not know the Z.
        whole = datetime.fromisoformat(date[1] + ("+00:00" if date[3] == "Z" else date[3]))
        return int(whole.timestamp()) * _SECOND + _fraction(date[2])
    except (ValueError, OverflowError):
        return None


def as_seconds(mtime_ns: int) -> str:
    """As rclone writes it on S3."""
    sign = "-" if mtime_ns < 0 else ""
    whole, rest = divmod(abs(mtime_ns), _SECOND)
    return f"{sign}{whole}" + (f".{rest:09d}".rstrip("0") if rest else "")


def as_rfc3339(mtime_ns: int) -> str:
    """As rclone writes it on GCS, of a :func:`possible` time."""
    whole, rest = divmod(mtime_ns, _SECOND)
    date = datetime.fromtimestamp(whole, tz=timezone.utc)
    return f"{date:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + (f".{rest:09d}".rstrip("0") if rest else "") + "Z"


def _fraction(digits: str | None) -> int:
    return int((digits or "").ljust(9, "0"))
