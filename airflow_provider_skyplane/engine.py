"""Every call into the engine's Python API, in one place.

The operators speak of a *request* (what to move) and a *run* (one that was started). Nothing here knows Airflow, and
nothing else in the provider knows :mod:`skyplane_core.client`.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable, Iterator

import msgspec

from airflow_provider_skyplane.finished import Finished
from skyplane_core.client import ClientConfig, Dataplane, Location, Prepared, SkyplaneClient, Tracker
from skyplane_core.diff import Decision
from skyplane_core.difference import first_difference
from skyplane_core.dry_run import DryRun
from skyplane_core.filters import Filters
from skyplane_core.locations import resolve
from skyplane_core.model import StoreConfig
from skyplane_core.planner.cost import CostMeter
from skyplane_core.prepare import check
from skyplane_core.provision.base import DataplaneReference
from skyplane_core.spec import KeyMapping, Progress, ReceiptLine, Selection, TransferOptions

__all__ = ["Engine", "Location", "Request", "Run", "resolve"]

LOG_EVERY_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be moved. Each call of ``source`` or ``destination`` resolves credentials afresh."""

    source: Callable[[], Location | str]
    destination: Callable[[], Location | str]
    recursive: bool = True
    options: TransferOptions = TransferOptions()
    selection: Selection | None = None
    mapping: KeyMapping | None = None
    receipt: Callable[[], Location | str] | None = None
    filters: Filters | None = None
    mode: str = "copy"

    def prepare(self, client: SkyplaneClient, transfer_id: str) -> Prepared:
        """The request as a transfer of this id; the same request and id give the same places for state and receipt."""
        # The destination first: a missing Google connection is what the stock operator trips over first, too.
        destination, receipt = self.destination(), self.receipt
        return client.prepare(
            self.source(),
            destination,
            recursive=self.recursive,
            # A task's next try is another transfer, which would not know of them.
            options=msgspec.structs.replace(self.options, keep_uploads=False),
            selection=self.selection,
            mapping=self.mapping,
            filters=self.filters,
            mode=self.mode,
            transfer_id=transfer_id,
            refresh=self._fresh_stores,
            receipt=receipt() if receipt is not None else None,
            refresh_receipt=None if receipt is None else lambda: _store(receipt(), directory=False),
        )

    def _fresh_stores(self) -> tuple[StoreConfig, StoreConfig]:
        return _store(self.source(), directory=self.recursive), _store(self.destination(), directory=self.recursive)


def _store(place: Location | str, *, directory: bool) -> StoreConfig:
    return place.store if isinstance(place, Location) else resolve(place, directory=directory).store


class Engine:
    """A client with one control secret. Without one, its dataplanes are its own: nobody else can attach to them."""

    def __init__(self, *, gateways: int, control_secret: bytes | None) -> None:
        secret = secrets.token_bytes(32) if control_secret is None else control_secret
        self.client = SkyplaneClient(ClientConfig(gateways=gateways, control_secret=secret))

    def start(self, request: Request) -> Run:
        """Check both ends, provision gateways and start the transfer.

        Raises:
            SkyplaneError: refused; whatever was provisioned is gone again.
        """
        prepared = request.prepare(self.client, secrets.token_hex(16))
        check(prepared, create_directory=True)
        dataplane = self.client.dataplane()
        dataplane.provision()
        try:
            return Run(dataplane, dataplane.submit(prepared))
        except BaseException:
            dataplane.deprovision()
            raise

    def dry_run(self, request: Request) -> tuple[DryRun, CostMeter]:
        """What would become of each object, as a stream, and a meter of its cost. Starts nothing and writes nothing.

        Raises:
            SkyplaneError: refused.
        """
        prepared = request.prepare(self.client, secrets.token_hex(16))
        return self.client.dry_run(prepared)[1], self.client.cost_meter(prepared)

    def first_difference(
        self, request: Request, *, gently: bool = False, stopped: Callable[[], bool] = lambda: False
    ) -> Decision | None:
        """The first thing that the request would do, None if there is nothing; see :mod:`skyplane_core.difference`."""
        prepared = request.prepare(self.client, secrets.token_hex(16))
        return first_difference(prepared, gently=gently, stopped=stopped)

    def attach(self, reference: str, transfer_id: str) -> Run:
        """A run that somebody with the same control secret started; ``reference`` is its :attr:`Run.reference`."""
        dataplane = self.client.attach(msgspec.json.decode(reference, type=DataplaneReference))
        return Run(dataplane, dataplane.tracker(transfer_id))

    def receipt(self, request: Request, transfer_id: str) -> Iterator[ReceiptLine]:
        """The durable receipt of a transfer of this request, read from the destination: no gateway is needed."""
        return self.client.dataplane().receipt_lines(self._at_destination(request, transfer_id))

    def discard_receipt(self, request: Request, transfer_id: str) -> None:
        """Delete an ended transfer's receipt and journal from the destination. May be repeated."""
        self.client.dataplane().discard_state(self._at_destination(request, transfer_id))

    def _at_destination(self, request: Request, transfer_id: str) -> Prepared:
        """The transfer as far as its state at the destination goes; the source's credentials stay unresolved."""
        nowhere = Location(StoreConfig("local", "/"), "")
        elsewhere = dataclasses.replace(request, source=lambda: nowhere, receipt=None)
        return elsewhere.prepare(self.client, transfer_id)


class Run:
    """One started transfer and the dataplane that exists for it alone."""

    def __init__(self, dataplane: Dataplane, tracker: Tracker) -> None:
        self._dataplane = dataplane
        self._tracker = tracker
        self.transfer_id = tracker.transfer_id
        self.dataplane_id = dataplane.reference.dataplane_id
        self.ca_fingerprint = dataplane.reference.ca_fingerprint
        self.reference = msgspec.json.encode(dataplane.reference).decode()
        """By which a holder of the control secret finds the dataplane again: JSON without a secret."""

    def progress(self) -> Progress:
        """How the transfer stands.

        Raises:
            TransferNotFound: the gateways know no such transfer.
            GatewayUnreachable, GatewayRefused: they do not answer, or not to this client.
        """
        return self._tracker.progress()

    def wait(self, on_progress: Callable[[Progress], None]) -> Finished:
        """Block until the transfer has ended, well or not, renewing credentials on the way.

        Args:
            on_progress: called every :data:`LOG_EVERY_SECONDS`.
        """
        told = time.monotonic()

        def report(progress: Progress) -> None:
            nonlocal told
            if time.monotonic() - told >= LOG_EVERY_SECONDS:
                told = time.monotonic()
                on_progress(progress)

        return Finished.of(self._tracker.wait(report).progress)

    def renew(self, engine: Engine, request: Request) -> float | None:
        """Give the gateways fresh credentials; returns when those expire (seconds since the epoch), None for never."""
        fresh = request.prepare(engine.client, self.transfer_id)
        prepared = dataclasses.replace(fresh, refresh=None, refresh_receipt=None)
        return self._dataplane.renew(prepared).credentials_expire_at

    def cancel(self) -> None:
        """Stop the transfer and abort its uploads. May be repeated."""
        self._tracker.cancel()

    def leave(self) -> None:
        """Close the connections to the gateways; they and the transfer go on."""
        self._dataplane.close()

    def stop(self) -> None:
        """End the gateways. May be repeated."""
        self._dataplane.deprovision()
