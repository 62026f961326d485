"""Types of option values. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import click

from skyplane_core.errors import UsageError
from skyplane_core.planner.layout import Layout

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


def size(text: str) -> int:
    """The type of an option whose value is :func:`parse_size`'s."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def endpoint_url(text: str) -> str:
    """The type of an option that takes the address of an S3-compatible server or an emulator."""
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not an address: {error}") from None
    if text and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise click.BadParameter(f"{text!r} is not an address like https://host:9000")
    if parts.username or parts.password:
        raise click.BadParameter("credentials do not belong in an address; put them into the environment")
    return text


def transfer_id(text: str) -> str:
    """The type of an option that names an earlier transfer."""
    if re.fullmatch(r"[0-9a-f]{32}", text) is None:
        raise click.BadParameter(f"{text!r} is not a transfer id; it has 32 hexadecimal digits")
    return text


def layout(text: str) -> str:
    """The type of an option that says how many gateways read, relay and write."""
    try:
        return str(Layout.parse(text)) if text else ""
    except UsageError as error:
        raise click.BadParameter(str(error)) from None


def clean(text: str) -> str:
    """``text`` without anything that a terminal would obey: keys and error texts come from strangers."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def readable(text: str) -> str:
    """:func:`clean`, but with its lines. All but the first are indented: none can pose as words of ours."""
    return "\n  ".join(clean(line) for line in text.split("\n"))
