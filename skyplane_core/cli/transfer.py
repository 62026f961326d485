"""``skyplane cp`` and ``skyplane sync``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from skyplane_core.cli.attributes import attribute_options, rules_of
from skyplane_core.cli.context import Context, pass_context
from skyplane_core.cli.filters import OrderedCommand, chosen_filters, filter_options
from skyplane_core.cli.hosts import chosen, hosts_options
from skyplane_core.cli.stores import store_options, stores_of
from skyplane_core.cli.values import cap, endpoint_url, layout, size, transfer_id
from skyplane_core.errors import UsageError
from skyplane_core.model import Compression
from skyplane_core.spec import (
    DEFAULT_DELETE_CAP,
    Compare,
    DeleteCap,
    Overwrite,
    ServerSideCopy,
    TransferOptions,
    Verification,
)
from skyplane_core.units import counted

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = [
    click.argument("source"),
    click.argument("destination"),
    filter_options,
    click.option("--dry-run", is_flag=True, help="Say what would be done to each object, and do nothing."),
    click.option("--json/--no-json", default=None, help="JSON lines on stdout. Default: when it is not a terminal."),
    click.option(
        "--gateways",
        type=click.IntRange(1, 3),
        help="Processes here: 1 reads and writes; 2 are reader and writer; 3 have a relay between.  [default: 1]",
    ),
    click.option(
        "--layout",
        type=layout,
        metavar="R:L:W",
        default="",
        help="So many readers, relays and writers, such as 2:1:2, as processes of this machine; instead of --gateways.",
    ),
    click.option(
        "--via",
        type=click.Choice(["relayed", "both"]),
        default="relayed",
        show_default=True,
        help="With relays: send everything over them, or half of it straight to the writers.",
    ),
    hosts_options,
    click.option("--part-size", type=size, metavar="SIZE", help="Bytes a part, such as 16MiB. Default: chosen."),
    click.option(
        "--concurrency", type=click.IntRange(1, 1024), default=32, show_default=True, help="Requests at once."
    ),
    click.option(
        "--compression",
        type=click.Choice([kind.value for kind in Compression]),
        default=Compression.AUTO.value,
        show_default=True,
        help="Between two gateways.",
    ),
    click.option(
        "--compare",
        type=click.Choice([*(how.value for how in Compare), "size-only"]),
        help="When an object is unchanged. Default: always (copy all) for cp, exact for sync and with --resume.",
    ),
    click.option(
        "--overwrite",
        type=click.Choice([policy.value for policy in Overwrite]),
        default=Overwrite.IF_CHANGED.value,
        show_default=True,
        help="What may happen to an object that exists at DESTINATION.",
    ),
    click.option(
        "--verify",
        type=click.Choice([how.value for how in Verification]),
        default=Verification.TRANSFERRED.value,
        show_default=True,
        help="What is compared: with the source's checksum and the destination's; with full also by reading back.",
    ),
    click.option(
        "--server-side-copy",
        type=click.Choice([when.value for when in ServerSideCopy]),
        default=ServerSideCopy.AUTO.value,
        show_default=True,
        help="Between buckets of one service: the store copies what it can by itself, or gateways move everything.",
    ),
    click.option(
        "--receipt",
        metavar="URL",
        help="Write the receipt there as well: a file, an object, or a prefix that ends in /. The name's ending says "
        "how: .jsonl, .jsonl.gz or .parquet.",
    ),
    click.option(
        "--endpoint-url-receipt", type=endpoint_url, metavar="URL", default="", help="As for source and destination."
    ),
    click.option(
        "--report", metavar="FILE", help="Write a page of HTML there that tells how it went: throughput, routes, cost."
    ),
    store_options,
    attribute_options,
    click.option(
        "--resume",
        type=transfer_id,
        metavar="TRANSFER_ID",
        help="Continue a transfer that was broken off: what has arrived is left alone (--compare exact, if not given).",
    ),
]


def _options(function: F) -> F:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command(cls=OrderedCommand)
@click.option("-r", "--recursive", is_flag=True, help="All objects under SOURCE, not the one of that name.")
@_options
@pass_context
def cp(context: Context, /, *, recursive: bool, **options: Any) -> int:
    """Copy SOURCE to DESTINATION: an object, or with -r all objects under a prefix.

    Both are s3://bucket/key, gs://bucket/key, az://account/container/key, r2://bucket/key, cos://bucket/key,
    hdfs://namenode/path, file:///path or a local path. What is at the destination is replaced, unless --compare or
    --resume says what counts as unchanged.
    """
    return _transfer(context, "copy", Compare.ALWAYS, recursive=recursive, delete=False, max_delete=None, **options)


@click.command(cls=OrderedCommand)
@_options
@click.option("--delete", is_flag=True, help="In the end, delete what SOURCE does not have, if all else succeeded.")
@click.option(
    "--max-delete",
    type=cap,
    metavar="N|N%",
    help="Delete nothing if it were more objects than this.  [default: 1000, and 50% of what is there]",
)
@pass_context
def sync(context: Context, /, **options: Any) -> int:
    """Copy what is new or changed under SOURCE to DESTINATION. With --delete, make it a mirror.

    Unchanged is, by default, what was copied from the same version of the source, or has the same size and checksum.
    """
    return _transfer(context, "sync", Compare.EXACT, recursive=True, **options)


def _transfer(
    context: Context,
    mode: str,
    default_compare: Compare,
    *,
    source: str,
    destination: str,
    recursive: bool,
    dry_run: bool,
    json: bool | None,
    gateways: int | None,
    layout: str,
    via: str,
    hosts_file: Path | None,
    host_names: tuple[str, ...],
    part_size: int | None,
    concurrency: int,
    compression: str,
    compare: str | None,
    overwrite: str,
    delete: bool,
    max_delete: DeleteCap | None,
    verify: str,
    server_side_copy: str,
    receipt: str | None,
    endpoint_url_receipt: str,
    report: str | None,
    resume: str | None,
    **more: Any,
) -> int:
    from skyplane_core.cli.run import Request, run

    if resume:
        default_compare = Compare.EXACT
    source_options, destination_options = stores_of(more)
    request = Request(
        source=source,
        destination=destination,
        mode=mode,
        recursive=recursive,
        options=TransferOptions(
            compare=Compare(compare) if compare else default_compare,
            compression=Compression(compression),
            part_size=part_size or 0,
            concurrency=concurrency,
            verify=Verification(verify),
            overwrite=Overwrite(overwrite),
            server_side_copy=ServerSideCopy(server_side_copy),
            delete=delete,
            max_delete=max_delete or DEFAULT_DELETE_CAP,
            attributes=rules_of(more),
        ),
        filters=chosen_filters(more),
        source_options=source_options,
        destination_options=destination_options,
        dry_run=dry_run,
        receipt=receipt,
        receipt_endpoint_url=endpoint_url_receipt,
        report=report,
        resume=resume,
    )
    show = context.show(json=json)
    hosts = chosen(hosts_file, host_names)
    if hosts and gateways is not None and gateways != len(hosts):
        raise UsageError(
            f"--gateways {gateways} and {counted(len(hosts), 'host')} contradict each other",
            next_step="Leave --gateways out.",
        )
    if hosts and layout:
        raise UsageError(
            "--layout is for processes of this machine, and hosts are given",
            next_step="Leave it out, and give the hosts a role each in a hosts file.",
        )
    count = len(hosts) or gateways or 1
    if count == 1 and not layout and request.options.compression is not Compression.AUTO:
        show.note(f"--compression {compression} has no effect: only two gateways compress (--gateways 2).")
    return run(context.client(gateways=count, hosts=hosts, layout=layout, via=via), request, show)
