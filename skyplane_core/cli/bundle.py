"""``skyplane bundle``: what gateways on other machines are made of."""

from __future__ import annotations

import time

import click

from skyplane_core.cli.context import Context, pass_context
from skyplane_core.cli.exits import Exit
from skyplane_core.units import human


@click.group()
def bundle() -> None:
    """What is sent to hosts that become gateways (--hosts, --host)."""


@bundle.command()
@click.option("--python", metavar="VERSION", help="The hosts' Python, such as 3.11. Default: this one's.")
@click.option("--arch", metavar="NAME", help="The hosts' architecture, x86_64 or aarch64. Default: this machine's.")
@click.option("--json/--no-json", default=None, help="JSON lines. Default: when stdout is not a terminal.")
@pass_context
def build(context: Context, *, python: str | None, arch: str | None, json: bool | None) -> int:
    """Build the bundle for hosts of one kind, unless the cache has it. Fetches pinned wheels with pip."""
    from skyplane_core.provision import bundle_build
    from skyplane_core.provision.bundle import Target, find, this_target

    here = this_target()
    target = Target(python or here.python, arch or here.arch)
    began = time.monotonic()
    cached = find(target) is not None
    built = bundle_build.build(target)
    seconds = round(time.monotonic() - began, 1)
    info = built.info
    how = "is in the cache already" if cached else f"built in {seconds} s"
    context.show(json=json).item(
        "bundle",
        {"path": str(built.path), "cached": cached, "seconds": seconds, "info": info},
        f"{target}: {how}; {human(info.size)} to send, {human(info.unpacked)} on the host, "
        f"glibc {'.'.join(map(str, info.glibc))} or newer. {built.path}, SHA-256 {info.sha256}",
    )
    return Exit.OK
