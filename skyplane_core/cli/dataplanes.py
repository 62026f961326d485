"""``skyplane status`` and ``skyplane deprovision``: dataplanes that were left behind."""

from __future__ import annotations

from pathlib import Path

import click

from skyplane_core.cli.context import Context, pass_context
from skyplane_core.cli.exits import Exit
from skyplane_core.cli.hosts import chosen, hosts_options
from skyplane_core.errors import GatewayError, UsageError

json_option = click.option("--json/--no-json", default=None, help="JSON lines. Default: when stdout is not a terminal.")


@click.command()
@hosts_options
@json_option
@pass_context
def status(context: Context, *, hosts_file: Path | None, host_names: tuple[str, ...], json: bool | None) -> int:
    """List the dataplanes that this user's command line has provisioned and not yet stopped."""
    from skyplane_core.cli.records import recorded

    show = context.show(json=json)
    client = context.client(hosts=chosen(hosts_file, host_names))
    found = False
    for record in recorded():
        found = True
        reference = record.reference
        alive = client.attach(reference).alive()
        state = ("in use" if record.in_use else "left behind") if alive else "gone"
        gateways = ", ".join(f"{gateway.gateway_id} at {gateway.host}" for gateway in reference.gateways)
        show.item(
            "dataplane",
            {"dataplane_id": reference.dataplane_id, "state": state, "gateways": reference.gateways},
            f"{reference.dataplane_id}: {state} ({gateways})",
        )
    if not found:
        show.item("dataplanes", {"count": 0}, "No dataplanes.")
    return Exit.OK


@click.command()
@click.argument("dataplane_ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Also those that a running command is using.")
@click.option("--forget", "give_up", is_flag=True, help="Take them off the list even if they cannot be reached.")
@hosts_options
@json_option
@pass_context
def deprovision(
    context: Context,
    *,
    dataplane_ids: tuple[str, ...],
    everything: bool,
    give_up: bool,
    hosts_file: Path | None,
    host_names: tuple[str, ...],
    json: bool | None,
) -> int:
    """Stop dataplanes: those named, else all whose command is no longer running.

    Transfers that still run on them end; what has arrived stays. One that cannot be reached does not keep the
    others from being stopped, and stays on the list.
    """
    from skyplane_core.cli.records import forget, recorded

    show = context.show(json=json)
    client = context.client(hosts=chosen(hosts_file, host_names))
    records = {record.reference.dataplane_id: record for record in recorded()}
    unknown = [name for name in dataplane_ids if name not in records]
    if unknown:
        raise UsageError(f"no dataplane {', '.join(unknown)} on record", next_step="List them with: skyplane status")
    names = dataplane_ids or tuple(name for name, record in records.items() if everything or not record.in_use)
    failures: list[GatewayError] = []
    for name in names:
        try:
            client.attach(records[name].reference).deprovision()
        except GatewayError as error:
            show.note(f"{name}: {error}")
            if give_up:
                forget(name)
            else:
                failures.append(error)
            continue
        forget(name)
        show.item("deprovisioned", {"dataplane_id": name}, f"{name}: stopped")
    if failures:
        raise failures[0]
    if not names:
        show.item("deprovisioned", {"count": 0}, "Nothing to stop.")
    return Exit.OK
