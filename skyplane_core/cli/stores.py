"""Options of ``cp`` and ``sync`` that say how either end is reached and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from skyplane_core.cli.values import endpoint_url
from skyplane_core.store_options import Addressing, StoreOptions, Symlinks

F = TypeVar("F", bound=Callable[..., Any])

_FOR_BOTH: dict[str, dict[str, Any]] = {
    "endpoint_url": {
        "type": endpoint_url,
        "metavar": "URL",
        "default": "",
        "help": "An S3-compatible server or emulator.",
    },
    "region": {"metavar": "REGION", "default": "", "help": "Of an S3 or cos:// bucket."},
    "account": {"metavar": "ID", "default": "", "help": "The Cloudflare account of an r2:// bucket."},
    "addressing": {
        "type": click.Choice([how.value for how in Addressing]),
        "default": Addressing.AUTO.value,
        "help": "Whether an S3 bucket is named in the path or in the host.",
    },
    "project": {"metavar": "PROJECT", "default": "", "help": "The Google Cloud project that is billed."},
    "requester_pays": {"is_flag": True, "help": "Agree to pay for requests."},
    "anonymous": {"is_flag": True, "help": "Use no credentials."},
}
_OF_DESTINATION: dict[str, dict[str, Any]] = {
    "encryption": {
        "metavar": "NAME",
        "default": "",
        "help": "How S3 encrypts what is written: AES256, aws:kms or aws:kms:dsse.",
    },
    "kms_key": {"metavar": "KEY", "default": "", "help": "The key that what is written is encrypted with."},
    "acl": {"metavar": "NAME", "default": "", "help": "The canned access control list of what is written to S3."},
}
_OF_SOURCE: dict[str, dict[str, Any]] = {
    "match_glob": {
        "metavar": "GLOB",
        "default": "",
        "help": "Of a gs:// source, only objects whose whole name matches; GCS itself chooses.",
    },
    "object_version": {
        "metavar": "ID",
        "default": "",
        "help": "Of a source that is one object, this version: an S3 version id or a GCS generation.",
    },
    "symlinks": {
        "type": click.Choice([how.value for how in Symlinks]),
        "default": Symlinks.FOLLOW.value,
        "show_default": True,
        "help": "Links in a local source: read what they lead to, or leave them out.",
    },
}


def store_options(function: F) -> F:
    """Decorate a command with all of them; their values go to :func:`stores_of`."""
    named = (
        *((f"{name}_source", settings) for name, settings in _FOR_BOTH.items()),
        *((f"{name}_destination", settings) for name, settings in _FOR_BOTH.items()),
        *_OF_DESTINATION.items(),
        *_OF_SOURCE.items(),
    )
    for name, settings in reversed(named):
        function = click.option(f"--{name.replace('_', '-')}", name, **settings)(function)
    return function


def stores_of(values: Mapping[str, Any]) -> tuple[StoreOptions, StoreOptions]:
    """The options of source and destination.

    Raises:
        UsageError: some cannot be used.
    """
    source = {name: values[f"{name}_source"] for name in _FOR_BOTH} | {name: values[name] for name in _OF_SOURCE}
    destination = {name: values[f"{name}_destination"] for name in _FOR_BOTH}
    return StoreOptions.of(source), StoreOptions.of(destination | {name: values[name] for name in _OF_DESTINATION})
