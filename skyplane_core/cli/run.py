"""One cp or sync, from parsed options to an exit code."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

import msgspec

from skyplane_core.cli.exits import Exit
from skyplane_core.cli.receipt import ReceiptRequest
from skyplane_core.cli.records import provisioned
from skyplane_core.cli.report import check_report, save_report
from skyplane_core.cli.show import Show
from skyplane_core.cli.show_cost import show_cost
from skyplane_core.errors import GatewayError, SkyplaneError, TransferCancelled, TransferFailed, from_record
from skyplane_core.filters import Filters
from skyplane_core.locations import Location, resolve
from skyplane_core.prepare import check
from skyplane_core.spec import Compare, TransferOptions, TransferSpec
from skyplane_core.store_options import StoreOptions

if TYPE_CHECKING:
    from skyplane_core.client import Prepared, Result, SkyplaneClient, Tracker

CANCEL_SECONDS = 60.0
"""How long a cancelled transfer may take to abort its uploads before the gateways are stopped anyway."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What the user asked for."""

    source: str
    destination: str
    mode: str
    recursive: bool
    options: TransferOptions
    filters: Filters = Filters()
    source_options: StoreOptions = StoreOptions()
    destination_options: StoreOptions = StoreOptions()
    dry_run: bool = False
    receipt: str | None = None
    receipt_endpoint_url: str = ""
    report: str | None = None
    resume: str | None = None


def run(client: SkyplaneClient, request: Request, show: Show) -> Exit:
    """Run ``request``. Everything that can be refused is refused before anything is provisioned or written.

    Raises:
        SkyplaneError: it did not work; see :func:`skyplane_core.cli.exits.exit_of`.
        KeyboardInterrupt: interrupted before the transfer was running, or a second time.
    """
    receipt = ReceiptRequest(request.receipt, request.receipt_endpoint_url)
    if request.report is not None:
        check_report(request.report)
    prepared = _prepare(client, request, receipt)
    receipt.check(prepared.spec)
    if request.dry_run:
        return _preview(client, prepared, show)
    check(prepared, create_directory=True)
    dataplane = client.dataplane()
    show.plan(dataplane.plan(prepared))
    with interrupted_by_sigterm(), provisioned(dataplane):
        for note in dataplane.notes:
            show.note(note)
        tracker = dataplane.submit(prepared)
        with _next_steps(prepared.spec):
            result = _watch(tracker, show)
    show.result(result.progress)
    receipt.save(result, show)
    if request.report is not None:
        save_report(request.report, result.progress, show)
    with _next_steps(prepared.spec):
        result.raise_for_state()
    return Exit.OK


def _prepare(client: SkyplaneClient, request: Request, receipt: ReceiptRequest) -> Prepared:
    tree = request.recursive or request.mode == "sync"

    def source() -> Location:
        return resolve(request.source, options=request.source_options)

    def destination() -> Location:
        return resolve(request.destination, options=request.destination_options, directory=tree, written=True)

    here, there = source(), destination()
    place = receipt.location(there, here)
    elsewhere = place is not None and place.store not in {here.store, there.store}
    return client.prepare(
        here,
        there,
        mode=request.mode,
        recursive=request.recursive,
        options=request.options,
        filters=request.filters,
        transfer_id=request.resume,
        resume=request.resume is not None,
        refresh=lambda: (source().store, destination().store),
        receipt=place,
        refresh_receipt=(lambda: receipt.resolved().store) if elsewhere else None,
    )


def _preview(client: SkyplaneClient, prepared: Prepared, show: Show) -> Exit:
    plan, decisions = client.dry_run(prepared)
    show.plan(plan)
    meter = client.cost_meter(prepared)
    for decision in decisions:
        show.decision(prepared.spec, decision)
        meter.add(decision)
    show_cost(show, meter.cost())
    show.counted(decisions.totals)
    return Exit.OK if decisions.totals.ok else Exit.FAILED


def _watch(tracker: Tracker, show: Show) -> Result:
    """Wait for the end. Ctrl-C cancels the transfer and waits until its uploads are aborted."""
    with show.watching():
        try:
            return tracker.wait(show.progress)
        except KeyboardInterrupt:
            show.note("Cancelling: open uploads are aborted, then the gateways are stopped. What has arrived stays.")
        tracker.cancel()
        try:
            return tracker.wait(show.progress, timeout=CANCEL_SECONDS)
        except (TimeoutError, KeyboardInterrupt):
            raise TransferCancelled(
                "cancelled, but not all open uploads could be aborted in time",
                where=tracker.transfer_id,
                next_step="Expiry rules of the destination remove what is left of them.",
            ) from None


@contextlib.contextmanager
def _next_steps(spec: TransferSpec) -> Iterator[None]:
    """A transfer that was broken off says how to go on with it."""
    try:
        yield
    except TransferCancelled as error:
        exact = " with --compare exact (or a tree with skyplane sync)"
        how = exact if spec.options.compare is Compare.ALWAYS else ""
        raise _with_step(error, f"Run the same command again{how}: it copies only what is missing.") from error
    except (GatewayError, TransferFailed) as error:
        step = f"To continue once the cause is gone, run the same command with --resume {spec.transfer_id}"
        raise _with_step(error, step) from error


def _with_step(error: SkyplaneError, step: str) -> SkyplaneError:
    before = f"{error.next_step.rstrip('.')}. " if error.next_step else ""
    return from_record(msgspec.structs.replace(error.record(), next_step=before + step))


@contextlib.contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM does what Ctrl-C does, so that a supervisor's stop tears the gateways down as well."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before: Callable[[int, FrameType | None], object] | int | None = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
