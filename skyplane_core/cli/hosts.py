"""``--hosts`` and ``--host``: machines that become gateways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from skyplane_core.provision.hosts import SshHost

F = TypeVar("F", bound=Callable[..., Any])


def hosts_options(function: F) -> F:
    """Adds both options to a command; :func:`chosen` makes hosts of their values."""
    file = click.option(
        "--hosts",
        "hosts_file",
        type=click.Path(path_type=Path),
        envvar="SKYPLANE_HOSTS",
        show_envvar=True,
        metavar="FILE",
        help="Use the machines in this TOML or JSON file as gateways, over SSH.",
    )
    one = click.option(
        "--host",
        "host_names",
        multiple=True,
        metavar="USER@ADDRESS[:PORT]",
        help="Use this machine as a gateway; twice: one reads, the other writes.",
    )
    return file(one(function))


def chosen(hosts_file: Path | None, host_names: tuple[str, ...]) -> tuple[SshHost, ...]:
    """The hosts of both options, those of the file first.

    Raises:
        UsageError: one cannot be understood.
    """
    if hosts_file is None and not host_names:
        return ()
    from skyplane_core.provision.hosts import parse_host, read_hosts

    listed = () if hosts_file is None else read_hosts(hosts_file)
    return (*listed, *map(parse_host, host_names))
