"""Every call into the engine's Python API, in one place.

The operators speak of a *request* (what to move) and a *run* (one that was started). Nothing here knows Airflow, and
nothing else in the provider knows :mod:`skyplane_core.client`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import msgspec

from airflow_provider_skyplane.finished import Finished
from airflow_provider_skyplane.outline import Outline, check_budget, outline
from airflow_provider_skyplane.several import as_one, joined, separate
from skyplane_core.client import ClientConfig, Dataplane, Location, Prepared, SkyplaneClient, Tracker
from skyplane_core.coordinator.receipt import read_receipt
from skyplane_core.diff import Decision
from skyplane_core.difference import first_difference
from skyplane_core.errors import ObjectNotFound
from skyplane_core.filters import Filters
from skyplane_core.keys import listing_prefix
from skyplane_core.locations import check_distinct, resolve
from skyplane_core.model import Compression, ObjectInfo, StoreConfig
from skyplane_core.object_file import ObjectFile
from skyplane_core.prepare import check
from skyplane_core.provision import local
from skyplane_core.provision.base import DataplaneReference
from skyplane_core.provision.bootstrap import DEFAULT_POOL_BYTES
from skyplane_core.provision.choose import check_shape
from skyplane_core.provision.hosts import SshHost
from skyplane_core.spec import (
    STATE_SEGMENT,
    KeyMapping,
    MappingKind,
    Pick,
    Progress,
    ReceiptLine,
    Selection,
    TransferOptions,
    TransferSpec,
)
from skyplane_core.stores.base import ObjectStore
from skyplane_core.stores.registry import open_store
from skyplane_core.stores.whole import get_bytes
from skyplane_core.tracker import watch
from skyplane_core.units import counted

__all__ = ["Engine", "FanOut", "Location", "Request", "Run", "listing", "resolve"]

_CANCEL_POLL_SECONDS = 0.1


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be moved. Each call of ``source`` or ``destination`` resolves credentials afresh.

    ``also``: what is taken along besides ``selection``. ``state``: the prefix at the destination below which
    ``.skyplane/`` is; None leaves it to the mapping. ``settle`` looks at the stores for what depends on them, once,
    before the transfer starts, and returns the request that is run; ``state`` must not depend on it.
    ``create_container`` gives the credentials to make a destination in Azure that is not there and gets something.
    """

    source: Callable[[], Location | str]
    destination: Callable[[], Location | str]
    recursive: bool = True
    options: TransferOptions = TransferOptions()
    selection: Selection | None = None
    mapping: KeyMapping | None = None
    also: tuple[Pick, ...] = ()
    state: str | None = None
    settle: Callable[[Request], Request] | None = None
    receipt: Callable[[], Location | str] | None = None
    filters: Filters | None = None
    mode: str = "copy"
    create_container: Callable[[], StoreConfig] | None = None

    def settled(self) -> Request:
        """The request that is run. Raises NothingToTransfer, or what else the stores say against it."""
        return self if self.settle is None else self.settle(self)

    @property
    def each(self) -> tuple[Request, ...]:
        """The requests, one for each destination: this one alone."""
        return (self,)

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
            also=self.also,
            state=None if self.state is None else f"{self.state}{STATE_SEGMENT}/{transfer_id}/",
            filters=self.filters,
            mode=self.mode,
            transfer_id=transfer_id,
            refresh=self._fresh_stores,
            receipt=receipt() if receipt is not None else None,
            refresh_receipt=None if receipt is None else lambda: _store(receipt(), directory=False),
        )

    def _fresh_stores(self) -> tuple[StoreConfig, StoreConfig]:
        return _store(self.source(), directory=self.recursive), _store(self.destination(), directory=self.recursive)


@dataclasses.dataclass(frozen=True)
class FanOut:
    """What is to be moved to several destinations: ``each`` is a request for one of them, all of the same source."""

    each: tuple[Request, ...]

    def settled(self) -> FanOut:
        """The requests that are run."""
        return FanOut(tuple(one.settled() for one in self.each))


def listing(store: StoreConfig, prefix: str) -> Iterator[ObjectInfo]:
    """The objects under ``prefix``, in key order.

    Raises:
        StoreError: the store says no.
    """
    with closing(open_store(store)) as opened:
        yield from opened.list(prefix)


def _store(place: Location | str, *, directory: bool) -> StoreConfig:
    return place.store if isinstance(place, Location) else resolve(place, directory=directory).store


class Engine:
    """A client with one control secret. Without one, its dataplanes are its own: nobody else can attach to them.

    Args:
        gateways, hosts, pool_bytes, expiry_seconds: see :class:`~skyplane_core.client.ClientConfig`.
        budget_usd: see :func:`~airflow_provider_skyplane.outline.check_budget`; None is no limit.
        compression: instead of what a request's options say.
    """

    def __init__(
        self,
        *,
        gateways: int,
        control_secret: bytes | None,
        hosts: tuple[SshHost, ...] = (),
        pool_bytes: int = DEFAULT_POOL_BYTES,
        expiry_seconds: float = 900.0,
        budget_usd: float | None = None,
        compression: Compression | None = None,
    ) -> None:
        self._budget_usd = budget_usd
        self._compression = compression
        secret = secrets.token_bytes(32) if control_secret is None else control_secret
        self.client = SkyplaneClient(
            ClientConfig(
                gateways=gateways,
                hosts=hosts,
                pool_bytes=pool_bytes,
                expiry_seconds=expiry_seconds,
                control_secret=secret,
            )
        )

    def start(
        self,
        request: Request | FanOut,
        *,
        transfer_id: str | None = None,
        announce: Callable[[Run], None] = lambda _run: None,
    ) -> Run:
        """Check all ends, provision gateways and start the transfer, or one for each destination at once.

        Args:
            transfer_id: that of an earlier run of this request whose gateways are gone: what it left is continued.
            announce: called with the run before anything is moved; what it raises ends the gateways again.

        Raises:
            SkyplaneError: refused; whatever was provisioned is gone again.
        """
        prepared = self._prepared(request, transfer_id)
        fingerprint = _fingerprint(prepared)
        prepared = self._settled(request, prepared)
        self._check(request, prepared)
        dataplane = self.client.dataplane()
        dataplane.provision()
        try:
            trackers = [dataplane.tracker(one.spec.transfer_id) for one in prepared]
            announce(Run(dataplane, trackers, fingerprint))
            # A retry that comes back while others still run has to be told how one has ended.
            several = len(prepared) > 1
            return Run(dataplane, [dataplane.submit(one, keep=several) for one in prepared], fingerprint)
        except BaseException:
            dataplane.deprovision()
            raise

    def _prepared(self, request: Request | FanOut, transfer_id: str | None = None) -> list[Prepared]:
        ids = separate(transfer_id) if transfer_id else [secrets.token_hex(16) for _ in request.each]
        return [self._own(one).prepare(self.client, own) for one, own in zip(request.each, ids, strict=True)]

    def _settled(self, request: Request | FanOut, prepared: list[Prepared]) -> list[Prepared]:
        """What is run, once the stores have said what depends on them. Its fingerprint is that of ``prepared``."""
        return [
            ready if one.settle is None else self._own(one.settled()).prepare(self.client, ready.spec.transfer_id)
            for one, ready in zip(request.each, prepared, strict=True)
        ]

    def _own(self, request: Request) -> Request:
        """The request with this engine's compression."""
        if self._compression is None:
            return request
        options = msgspec.structs.replace(request.options, compression=self._compression)
        return dataclasses.replace(request, options=options)

    def _check(self, request: Request | FanOut, prepared: Sequence[Prepared]) -> None:
        _check_distinct(prepared)
        # The price first: it is known without anything being written, and the check makes directories.
        if self._budget_usd is not None:
            check_budget(self.client, prepared, self._budget_usd)
        for asked, one in zip(request.each, prepared, strict=True):
            check(one, create_directory=True, create_container=asked.create_container)

    def look(self) -> list[str]:
        """What gateways there would be, a sentence each. SSH hosts are reached, and nothing is started.

        Raises:
            SkyplaneError: one of them could not be a gateway, or there is no way between them.
        """
        config = self.client.config
        check_shape(config)
        if config.hosts:
            from skyplane_core.provision.ssh import check_hosts

            return check_hosts(config.hosts)
        count = config.gateways
        return [
            f"Gateways would be {counted(count, 'process')} of a task's worker; what it has installed is not checked."
        ]

    def provision(self) -> str:
        """Start gateways that transfers can share; returns a reference as :attr:`Run.reference` is one.

        Raises:
            SkyplaneError: they did not start; nothing is left behind.
        """
        dataplane = self.client.dataplane()
        dataplane.provision()
        dataplane.close()
        return msgspec.json.encode(dataplane.reference).decode()

    def submit(self, request: Request | FanOut, reference: str) -> Run:
        """Check all ends and start the transfer on gateways that are there already; they stay when it ends.

        Raises:
            SkyplaneError: refused.
        """
        prepared = self._prepared(request)
        fingerprint = _fingerprint(prepared)
        prepared = self._settled(request, prepared)
        self._check(request, prepared)
        dataplane = self._dataplane(reference)
        return Run(dataplane, [dataplane.submit(one) for one in prepared], fingerprint)

    def deprovision(self, reference: str) -> None:
        """End these gateways, and with them whatever still runs there. May be repeated.

        Raises:
            GatewayError: one could not be ended; the others were.
        """
        self._dataplane(reference).deprovision()

    def outlines(
        self, request: Request | FanOut, on_decision: Callable[[Decision], None] = lambda _decision: None
    ) -> list[Outline]:
        """Routes, counts and price of a request, for each destination. Starts nothing and writes nothing.

        Args:
            on_decision: called with what would become of each object.

        Raises:
            SkyplaneError: refused.
        """
        prepared = self._settled(request, self._prepared(request))
        _check_distinct(prepared)
        return [outline(self.client, one, on_decision) for one in prepared]

    def first_difference(
        self, request: Request, *, gently: bool = False, stopped: Callable[[], bool] = lambda: False
    ) -> Decision | None:
        """The first thing that the request would do, None if there is nothing; see :mod:`skyplane_core.difference`."""
        prepared = request.prepare(self.client, secrets.token_hex(16))
        return first_difference(prepared, gently=gently, stopped=stopped)

    def attach(self, reference: str, transfer_id: str) -> Run:
        """A run that somebody with the same control secret started; ``reference`` is its :attr:`Run.reference`."""
        dataplane = self._dataplane(reference)
        return Run(dataplane, [dataplane.tracker(one) for one in separate(transfer_id)])

    def fingerprint(self, request: Request | FanOut) -> str:
        """Of what the request moves, from where to where and how; the same for equal requests."""
        return _fingerprint(self._prepared(request))

    def _dataplane(self, reference: str) -> Dataplane:
        return self.client.attach(msgspec.json.decode(reference, type=DataplaneReference))

    def receipt(self, request: Request, transfer_id: str) -> Iterator[ReceiptLine]:
        """The durable receipt of a transfer of this request, read from the destination: no gateway is needed."""
        return self.client.dataplane().receipt_lines(self._at_destination(request, transfer_id))

    def discard_receipt(self, request: Request | FanOut, transfer_id: str) -> None:
        """Delete an ended transfer's receipt and journal from the (first) destination. May be repeated."""
        self.client.dataplane().discard_state(self._at_destination(request.each[0], transfer_id))

    def ended(self, request: Request | FanOut, transfer_id: str) -> Progress | None:
        """How a run of this request ended, as its receipts tell; None if one is not there. Asks no gateway."""
        own = separate(transfer_id)
        found = [self._ended(one, transfer_id) for one, transfer_id in zip(request.each, own, strict=True)]
        known = [progress for progress in found if progress is not None]
        return as_one(known) if len(known) == len(found) else None

    def _ended(self, request: Request, transfer_id: str) -> Progress | None:
        prepared = self._at_destination(request, transfer_id)
        with closing(open_store(prepared.destinations[0])) as store:
            try:
                return read_receipt(lambda key: get_bytes(store, key), prepared.spec.state)[0]
            except ObjectNotFound:
                return None

    def state(self, request: Request | FanOut, name: str) -> tuple[ObjectStore, str]:
        """An open store and the key prefix in it for something of this name, at the (first) destination."""
        prepared = self._at_destination(request.each[0], name)
        return open_store(prepared.destinations[0]), prepared.spec.state

    def write(self, place: Location, content: bytes, content_type: str) -> None:
        """Write a small object; once this returns it is there.

        Raises:
            SkyplaneError: it could not be written.
        """
        with closing(open_store(place.store)) as store:
            file = ObjectFile(lambda: store, place.key, content_type)
            file.write(content)
            file.commit()

    def mac(self, content: bytes) -> str:
        """By which this client knows again what it has written: 64 hexadecimal digits."""
        return hmac.new(self.client.config.secret(), content, hashlib.sha256).hexdigest()

    def _at_destination(self, request: Request, transfer_id: str) -> Prepared:
        """The transfer as far as its state at the destination goes; the source's credentials stay unresolved."""
        # No bucket's name, so that no destination lies inside it.
        nowhere = Location(StoreConfig("s3", "-"), "")
        elsewhere = dataclasses.replace(request, source=lambda: nowhere, receipt=None, options=TransferOptions())
        return elsewhere.prepare(self.client, transfer_id)


def _check_distinct(prepared: Sequence[Prepared]) -> None:
    """The destinations of one task are apart from each other: same services and file systems are known by now."""
    roots = [
        Location(store, to.mapping.destination if to.mapping.kind is MappingKind.PREFIX else listing_prefix(to.mapping))
        for one in prepared
        for store, to in zip(one.destinations, one.spec.destinations, strict=True)
    ]
    check_distinct(roots, recursive=not prepared[0].spec.selection.single)


def is_reference(text: str) -> bool:
    """Whether this is a :attr:`Run.reference`."""
    try:
        msgspec.json.decode(text, type=DataplaneReference)
    except msgspec.MsgspecError:
        return False
    return True


def _fingerprint(prepared: Sequence[Prepared]) -> str:
    changing = {"transfer_id": "", "state": "", "created_at": 0.0, "routes": (), "receipt": None}
    specs: list[TransferSpec] = [msgspec.structs.replace(one.spec, **changing) for one in prepared]
    return hashlib.sha256(msgspec.json.encode(specs)).hexdigest()


class Run:
    """What was started, and the dataplane that exists for it alone.

    One transfer, or several side by side; then ``transfer_id`` stands for all of them, and they end together.

    Args:
        fingerprint: :meth:`Engine.fingerprint` of its request; empty for a run that was attached to.
    """

    def __init__(self, dataplane: Dataplane, trackers: Sequence[Tracker], fingerprint: str = "") -> None:
        self._dataplane = dataplane
        self._trackers = trackers
        self.transfer_id = joined([tracker.transfer_id for tracker in trackers])
        self.dataplane_id = dataplane.reference.dataplane_id
        self.ca_fingerprint = dataplane.reference.ca_fingerprint
        self.reference = msgspec.json.encode(dataplane.reference).decode()
        """By which a holder of the control secret finds the dataplane again: JSON without a secret."""
        self.fingerprint = fingerprint
        self.outlives_task = dataplane.reference.provisioner != local.NAME
        """Whether its gateways are sure to live on when the process that started them ends, for others to reach."""

    def progress(self) -> Progress:
        """How the transfer stands.

        Raises:
            TransferNotFound: the gateways know no such transfer.
            GatewayUnreachable, GatewayRefused: they do not answer, or not to this client.
        """
        return as_one([tracker.progress() for tracker in self._trackers])

    def wait(self, on_progress: Callable[[Progress], None]) -> Finished:
        """Block until all transfers have ended, well or not, renewing credentials on the way.

        Args:
            on_progress: called at least every second.
        """
        known: dict[str, Progress] = {}

        def report(progress: Progress) -> None:
            known[progress.transfer_id] = progress
            if len(known) == len(self._trackers):
                on_progress(as_one([known[tracker.transfer_id] for tracker in self._trackers]))

        return Finished.of(as_one([result.progress for result in watch(self._trackers, report)]))

    def renew(self, engine: Engine, request: Request | FanOut) -> float | None:
        """Give the gateways fresh credentials; returns when those expire (seconds since the epoch), None for never.

        A transfer that has ended gets none.
        """
        expiries = []
        for tracker, one in zip(self._trackers, request.each, strict=True):
            if tracker.is_complete:
                continue
            fresh = one.prepare(engine.client, tracker.transfer_id)
            prepared = dataclasses.replace(fresh, refresh=None, refresh_receipt=None)
            expiries.append(self._dataplane.renew(prepared).credentials_expire_at)
        return min((expiry for expiry in expiries if expiry is not None), default=None)

    def take_over(self, engine: Engine, request: Request | FanOut) -> None:
        """As :meth:`renew`, and :meth:`wait` goes on renewing, as it does for whoever started the transfer."""
        trackers = list(self._trackers)
        for number, (tracker, one) in enumerate(zip(self._trackers, request.each, strict=True)):
            if tracker.is_complete:
                continue
            prepared = one.prepare(engine.client, tracker.transfer_id)
            self._dataplane.renew(dataclasses.replace(prepared, refresh=None, refresh_receipt=None))
            trackers[number] = self._dataplane.tracker(tracker.transfer_id, prepared, keep=len(trackers) > 1)
        self._trackers = trackers

    def cancel(self, seconds: float) -> Progress:
        """Stop the transfers, and give them so long to abort their uploads. May be repeated.

        Returns how they stand then: as long as they have not ended, uploads may be open.

        Raises:
            TransferNotFound, GatewayUnreachable, GatewayRefused: see :meth:`progress`.
        """
        for tracker in self._trackers:
            tracker.cancel()
        deadline = time.monotonic() + seconds
        while not (progress := self.progress()).state.ended and time.monotonic() < deadline:
            time.sleep(_CANCEL_POLL_SECONDS)
        return progress

    def leave(self) -> None:
        """Close the connections to the gateways; they and the transfer go on."""
        self._dataplane.close()

    def stop(self) -> None:
        """End the gateways. May be repeated."""
        self._dataplane.deprovision()
