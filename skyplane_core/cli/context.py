"""What commands share: how to make a client, and where their words go. Tests put their own in its place."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from skyplane_core.cli.show import JsonShow, Show, TextShow

if TYPE_CHECKING:
    from skyplane_core.client import SkyplaneClient
    from skyplane_core.provision.hosts import SshHost


def make_client(
    gateways: int, hosts: tuple[SshHost, ...] = (), layout: str = "", via: str = "relayed"
) -> SkyplaneClient:
    """The client, imported late: ``skyplane --help`` needs none of it."""
    from skyplane_core.client import ClientConfig, SkyplaneClient
    from skyplane_core.planner.plan import Via

    return SkyplaneClient(ClientConfig(gateways=gateways, hosts=hosts, layout=layout, via=Via(via)))


def make_show(*, json: bool) -> Show:
    """JSON lines, a bar on a terminal, or plain text."""
    if json:
        return JsonShow()
    if sys.stderr.isatty():
        from skyplane_core.cli.bar import BarShow

        return BarShow()
    return TextShow()


@dataclasses.dataclass(frozen=True)
class Context:
    """Click's ``obj``."""

    make_client: Callable[[int, tuple[SshHost, ...], str, str], SkyplaneClient] = make_client

    def client(
        self, *, gateways: int = 1, hosts: tuple[SshHost, ...] = (), layout: str = "", via: str = "relayed"
    ) -> SkyplaneClient:
        """A client that plans with so many gateways, with a layout, or with these hosts (see :class:`ClientConfig`)."""
        return self.make_client(gateways, hosts, layout, via)

    def show(self, *, json: bool | None) -> Show:
        """Where words go; None chooses by whether stdout is a terminal."""
        return make_show(json=not sys.stdout.isatty() if json is None else json)


pass_context = click.make_pass_decorator(Context, ensure=True)
