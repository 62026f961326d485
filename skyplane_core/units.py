"""Quantities in words."""

from __future__ import annotations

import re


def human(number: float) -> str:
    """A number of bytes for a person."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def counted(number: int, noun: str) -> str:
    """``1 object``, ``1,234 objects``, ``2 processes``."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(iB|B)?|B)?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str) -> int:
    """Bytes: ``16M`` and ``16MiB`` are 16 * 1024 * 1024, ``16MB`` is 16 * 1000 * 1000, ``16`` is 16.

    Raises:
        ValueError: not a positive size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write 16MiB, 16M, 16MB or a number of bytes")
    number, unit, suffix = match[1], (match[2] or "").upper(), (match[3] or "").lower()
    found = int(float(number) * (1000 if suffix == "b" else 1024) ** _POWERS[unit])
    if found < 1:
        raise ValueError(f"{text!r} is not a positive size")
    return found


_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)", re.IGNORECASE)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_age(text: str) -> float:
    """Seconds: ``90`` and ``90s`` are 90, ``15m``, ``36h``, ``7d`` and ``2w`` minutes, hours, days and weeks.

    Raises:
        ValueError: not an age.
    """
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not an age; write 90s, 15m, 36h, 7d or 2w")
    return float(match[1]) * _SECONDS[match[2].lower()]


def duration(seconds: float) -> str:
    """A time for a person: ``0.4 s``, ``12 s``, ``3:05 min``, ``2:03:05 h``, ``3 d 02:03 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds % 1 else f"{seconds:.0f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02d}:{minutes:02d} h"
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d} h"
    return f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"


def dollars(usd: float | None) -> str:
    """A sum of money for a person; None is an unknown one."""
    if usd is None:
        return "unknown"
    return "< $0.01" if 0 < usd < 0.01 else f"${usd:,.2f}"
