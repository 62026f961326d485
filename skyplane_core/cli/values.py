"""Types of option values. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import click

from skyplane_core.errors import UsageError
from skyplane_core.planner.layout import Layout
from skyplane_core.settings import delete_cap
from skyplane_core.spec import DeleteCap
from skyplane_core.units import parse_age, parse_size

__all__ = ["age", "cap", "clean", "endpoint_url", "layout", "parse_size", "readable", "size", "transfer_id"]


def size(text: str) -> int:
    """The type of an option whose value is :func:`skyplane_core.units.parse_size`'s."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def age(text: str) -> float:
    """The type of an option whose value is :func:`skyplane_core.units.parse_age`'s."""
    try:
        return parse_age(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def cap(text: str) -> DeleteCap:
    """The type of an option whose value is :func:`skyplane_core.settings.delete_cap`'s."""
    try:
        return delete_cap(text)
    except UsageError as error:
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
