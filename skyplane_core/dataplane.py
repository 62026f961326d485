"""A dataplane: the provisioned gateways, several transfers on them, and finding them again."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from skyplane_core.control import ControlChannel, PeerAddress
from skyplane_core.coordinator.receipt import read_receipt
from skyplane_core.errors import GatewayError, GatewayRefused, GatewayUnreachable, SkyplaneError, UsageError
from skyplane_core.hand_out import parcels
from skyplane_core.identity import DataplaneIdentity, new_dataplane_id
from skyplane_core.locations import Location
from skyplane_core.model import TransferKeys
from skyplane_core.planner.plan import Plan, plan
from skyplane_core.prepare import Prepared, check
from skyplane_core.provision.base import DataplaneReference, Provisioner
from skyplane_core.provision.choose import check_shape, kind_of, provisioner_for, sites
from skyplane_core.spec import Progress, ReceiptLine, Route
from skyplane_core.stores.registry import open_store
from skyplane_core.stores.whole import get_bytes
from skyplane_core.tracker import Result, Tracker, watch

if TYPE_CHECKING:
    from skyplane_core.client import ClientConfig

log = logging.getLogger(__name__)


class Dataplane:
    """Gateways that carry transfers, several at once and one after the other.

    Made by :meth:`SkyplaneClient.dataplane` (then :meth:`provision` it) or :meth:`SkyplaneClient.attach`.
    """

    def __init__(self, config: ClientConfig, reference: DataplaneReference | None = None) -> None:
        self._config = config
        self._reference = reference
        self._provisioner: Provisioner | None = None
        self._channels: dict[str, ControlChannel] = {}
        self._keys: dict[str, TransferKeys] = {}
        self._queue: list[Prepared] = []
        if reference is not None:
            identity = DataplaneIdentity(config.secret(), reference.dataplane_id)
            self._adopt(provisioner_for(config, identity, reference.provisioner), reference)

    # --- gateways ----------------------------------------------------------------------------------------------------

    @property
    def reference(self) -> DataplaneReference:
        """How to find this dataplane again: addresses and a fingerprint, no secret.

        Raises:
            UsageError: it is not provisioned.
        """
        if self._reference is None:
            raise UsageError("the dataplane is not provisioned", next_step="Call provision() first.")
        return self._reference

    @property
    def head(self) -> ControlChannel:
        """The channel to the gateway that coordinates."""
        return self._channels[self.reference.gateways[0].gateway_id]

    @property
    def gateways(self) -> tuple[ControlChannel, ...]:
        """The channels to all gateways, the head's first."""
        return tuple(self._channels.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user may want to know about how the gateways were started."""
        return () if self._provisioner is None else tuple(self._provisioner.notes)

    def provision(self) -> None:
        """Start the gateways; repeated calls change nothing.

        Raises:
            UsageError: there is no way between them; none was started.
            ProvisionFailed: they could not be started; nothing is left behind.
        """
        if self._reference is not None:
            return
        check_shape(self._config)
        identity = DataplaneIdentity(self._config.secret(), new_dataplane_id())
        wanted = sites(self._config, None)
        provisioner = provisioner_for(self._config, identity, kind_of(self._config))
        addresses = [
            msgspec.structs.replace(address, role=site.role)
            for address, site in zip(provisioner.start(len(wanted)), wanted, strict=True)
        ]
        self._adopt(provisioner, provisioner.reference(addresses))
        try:
            peers = tuple(
                PeerAddress(address.gateway_id, address.dialled, address.wire_port, dials_out=address.dials_out)
                for address in self.reference.gateways
            )
            if len(peers) > 1:
                for channel in self._channels.values():
                    channel.set_peers(peers)
        except SkyplaneError:
            self.deprovision()
            raise

    def deprovision(self) -> None:
        """End the gateways, and with them whatever still runs there. May be repeated.

        Raises:
            GatewayError: one could not be ended; the others were.
        """
        if self._reference is None or self._provisioner is None:
            return
        self.close()
        self._provisioner.stop(self._reference.gateways)
        self._reference = None

    def logs(self) -> dict[str, str]:
        """The end of each gateway's log, by gateway id.

        Raises:
            GatewayError: one cannot be fetched any more.
        """
        return {} if self._provisioner is None else self._provisioner.logs(self.reference.gateways)

    def close(self) -> None:
        """Drop this client's connections; the gateways, and what runs on them, go on. May be repeated."""
        for channel in self._channels.values():
            channel.close()

    @contextlib.contextmanager
    def auto_deprovision(self) -> Iterator[Dataplane]:
        """Deprovision at the end of the ``with`` block, whatever happens in it."""
        try:
            yield self
        finally:
            self.deprovision()

    def alive(self) -> bool:
        """Whether the head answers."""
        try:
            self.head.status()
        except (GatewayUnreachable, GatewayRefused):
            return False
        return True

    # --- transfers ---------------------------------------------------------------------------------------------------

    def plan(self, prepared: Prepared) -> Plan:
        """The plan that :meth:`submit` executes."""
        return plan(prepared.spec, sites(self._config, self._reference), via=self._config.via)

    def submit(self, prepared: Prepared, *, keep: bool = False) -> Tracker:
        """Start a transfer and return at once. Submitting the same one again changes nothing.

        Args:
            keep: as for :class:`Tracker`.

        Raises:
            GatewayUnreachable, GatewayRefused: a gateway did not take it.
        """
        planned = self.plan(prepared)
        spec = msgspec.structs.replace(prepared.spec, routes=planned.routes, gateways=planned.gateways)
        self._keys.setdefault(spec.transfer_id, TransferKeys(secrets.token_bytes(32)))
        self._hand_out(prepared, spec.routes)
        self.head.start(spec)
        return Tracker(self, spec.transfer_id, dataclasses.replace(prepared, spec=spec), keep=keep)

    def renew(self, prepared: Prepared) -> Prepared:
        """Give the gateways fresh credentials for a running transfer; returns it with them."""
        prepared = prepared.renewed()
        self._hand_out(prepared, prepared.spec.routes or self.plan(prepared).routes, renewal=True)
        return prepared

    def forget(self, transfer_id: str) -> None:
        """Have the gateways drop a transfer, its keys and its credentials; one that still runs is cancelled first."""
        for channel in self._channels.values():
            try:
                channel.delete(transfer_id)
            except GatewayError as error:
                # It goes with the gateway at the latest; how the transfer ended stays what matters.
                log.warning("a gateway could not be told to forget a transfer: %s", error)

    def tracker(self, transfer_id: str, prepared: Prepared | None = None, *, keep: bool = False) -> Tracker:
        """A tracker for a transfer that was started earlier, by this or another client."""
        return Tracker(self, transfer_id, prepared, keep=keep)

    def queue_copy(self, src: str | Location, dst: str | Location, recursive: bool = False, **how: Any) -> str:  # noqa: FBT001, FBT002 - the signature that users know
        """Remember a copy for the next :meth:`run`; returns its transfer id. Arguments: see ``SkyplaneClient.prepare``.

        Raises:
            UsageError, StoreError: it could not succeed; nothing was queued.
        """
        return self._enqueue(src, dst, recursive=recursive, **how)

    def queue_sync(self, src: str | Location, dst: str | Location, **how: Any) -> str:
        """As :meth:`queue_copy` for a sync."""
        return self._enqueue(src, dst, mode="sync", **how)

    def run_async(self) -> Trackers:
        """Start everything that is queued, all at once, and return at once.

        Raises:
            UsageError: nothing is queued, or the dataplane is not provisioned; what is queued stays so.
        """
        if self._queue:
            _ = self.reference
        queued, self._queue = self._queue, []
        if not queued:
            raise UsageError("nothing is queued", next_step="Call queue_copy() or queue_sync() first.")
        return Trackers([self.submit(prepared) for prepared in queued])

    def run(self, on_progress: Callable[[Progress], None] | None = None) -> list[Result]:
        """Run everything that is queued to its end.

        Raises:
            TransferFailed, TransferCancelled: the first that did not end well, after all have ended.
        """
        return self.run_async().wait(on_progress)

    # --- receipts ----------------------------------------------------------------------------------------------------

    def receipt_lines(self, prepared: Prepared) -> Iterator[ReceiptLine]:
        """The durable receipt of an ended transfer, read from the destination and not from a gateway."""
        store = open_store(prepared.destinations[0])
        try:
            yield from read_receipt(lambda key: get_bytes(store, key), prepared.spec.state)[1]
        finally:
            store.close()

    def discard_state(self, prepared: Prepared) -> None:
        """Delete an ended transfer's journal and receipt at the destination. May be repeated."""
        store = open_store(prepared.destinations[0])
        try:
            for key in [info.key for info in store.list(prepared.spec.state)]:
                store.delete(key)
        finally:
            store.close()

    def _enqueue(self, src: str | Location, dst: str | Location, **how: Any) -> str:
        from skyplane_core.client import SkyplaneClient

        prepared = SkyplaneClient(self._config).prepare(src, dst, **how)
        check(prepared, create_directory=True)
        self._queue.append(prepared)
        return prepared.spec.transfer_id

    def _adopt(self, provisioner: Provisioner, reference: DataplaneReference) -> None:
        self._provisioner = provisioner
        self._reference = reference
        self._channels = {address.gateway_id: provisioner.channel(address) for address in reference.gateways}

    def _hand_out(self, prepared: Prepared, routes: tuple[Route, ...], *, renewal: bool = False) -> None:
        """Give each gateway what its roles need and no more (:func:`skyplane_core.hand_out.parcels`).

        A renewal of credentials is none of a relay's business.
        """
        keys = self._keys.get(prepared.spec.transfer_id)
        for gateway_id, parcel in parcels(prepared, routes, keys).items():
            if renewal and parcel.onward:
                continue
            try:
                self._channels[gateway_id].put_transfer(parcel)
            except GatewayUnreachable as error:
                if not renewal:
                    raise
                # The transfer goes on without it, or fails by its name; the others need theirs all the same.
                log.warning("a gateway could not be given fresh credentials: %s", error)


class Trackers:
    """The trackers of one :meth:`Dataplane.run_async`, watched together."""

    def __init__(self, trackers: list[Tracker]) -> None:
        self.trackers = trackers

    def query_bytes_remaining(self) -> int:
        """Bytes selected and not yet acknowledged, over all transfers."""
        return sum(tracker.query_bytes_remaining() for tracker in self.trackers)

    @property
    def is_complete(self) -> bool:
        """Whether all have ended, well or not."""
        return all(tracker.is_complete for tracker in self.trackers)

    def cancel(self) -> None:
        """Cancel all."""
        for tracker in self.trackers:
            tracker.cancel()

    def wait(self, on_progress: Callable[[Progress], None] | None = None) -> list[Result]:
        """Wait for all to end, then raise for the first that did not end well.

        Raises:
            TransferFailed, TransferCancelled: see :meth:`Result.raise_for_state`.
        """
        results = watch(self.trackers, on_progress)
        for result in results:
            result.raise_for_state()
        return results

    join = wait
