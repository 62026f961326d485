"""The other gateways of the transfers that this head runs: leases to their readers, and who of them is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.batch import refused
from gateway.link import ExecuteLeases, Pulse
from gateway.links import Links
from gateway.outbox import Outbox
from gateway.store_calls import decode_result
from gateway.watching import ANSWER_SECONDS, Watch
from skyplane_core.errors import SkyplaneError
from skyplane_core.model import Lease, LeaseResult


class Run(Protocol):
    """A transfer that wants to know."""

    def deliver(self, result: LeaseResult) -> None:
        """What became of a lease."""

    def gateway_lost(self, gateway: str, why: str) -> None:
        """A gateway of its routes cannot be reached."""

    def gateway_found(self, gateway: str) -> None:
        """It is back."""


class Fleet:
    """Watches each gateway as long as a transfer uses it. Thread-safe.

    Args:
        key_of: the key of a transfer, by its id.
    """

    def __init__(self, links: Links, key_of: Callable[[str], bytes]) -> None:
        self._links = links
        self._key_of = key_of
        self._lock = threading.Lock()
        self._runs: dict[str, tuple[Run, frozenset[str]]] = {}
        self._watches: dict[str, Watch] = {}
        self._away: dict[str, str] = {}
        self._leases: dict[str, Outbox[Lease]] = {}

    def join(self, transfer_id: str, run: Run, gateways: Iterable[str]) -> None:
        """Watch ``gateways`` for a transfer until :meth:`leave`."""
        with self._lock:
            needed = frozenset(gateways)
            self._runs[transfer_id] = (run, needed)
            for gateway in needed - self._watches.keys():
                self._watches[gateway] = Watch(gateway, self._asking(gateway), self._lost, self._found)
            away = {gateway: why for gateway, why in self._away.items() if gateway in needed}
        for gateway, why in away.items():
            run.gateway_lost(gateway, why)

    def leave(self, transfer_id: str) -> None:
        """The transfer has ended. May be repeated."""
        with self._lock:
            self._runs.pop(transfer_id, None)
            needed = frozenset[str]().union(*(gateways for _run, gateways in self._runs.values()))
            idle = [self._watches.pop(gateway) for gateway in self._watches.keys() - needed]
            for watch in idle:
                self._away.pop(watch.gateway, None)
        for watch in idle:
            watch.close()

    def execute(self, reader: str, lease: Lease) -> None:
        """Hand a lease to another gateway; does not block. If it does not get there, the lease's result says so."""
        with self._lock:
            outbox = self._leases.get(reader)
            if outbox is None:
                outbox = self._leases[reader] = Outbox(
                    f"leases-{reader}",
                    lambda leases: self._hand_over(reader, leases),
                    lambda _leases, _error: False,
                )
        outbox.put(lease)

    def broken(self, gateway: str) -> None:
        """The link to a gateway broke."""
        with self._lock:
            watch = self._watches.get(gateway)
        if watch is not None:
            watch.broken()

    def pulse(self) -> int:
        """A number that changes when bytes move on any watched gateway, as far as it has been heard."""
        with self._lock:
            return sum(watch.pulse for watch in self._watches.values())

    def close(self) -> None:
        with self._lock:
            watches, outboxes = list(self._watches.values()), list(self._leases.values())
        for watch in watches:
            watch.close()
        for outbox in outboxes:
            outbox.close()

    def _asking(self, gateway: str) -> Callable[[], int]:
        def ask() -> int:
            answer = self._links.call(gateway, Pulse(), attempts=1, timeout=ANSWER_SECONDS)
            return int(decode_result(answer, int))

        return ask

    def _hand_over(self, reader: str, leases: tuple[Lease, ...]) -> None:
        for transfer_id in dict.fromkeys(lease.transfer_id for lease in leases):
            own = tuple(lease for lease in leases if lease.transfer_id == transfer_id)
            try:
                self._links.call(reader, ExecuteLeases(transfer_id, own), key=self._key_of(transfer_id))
            except SkyplaneError as error:
                self._not_handed_over(transfer_id, own, error)

    def _not_handed_over(self, transfer_id: str, leases: tuple[Lease, ...], error: SkyplaneError) -> None:
        with self._lock:
            known = self._runs.get(transfer_id)
        if known is not None:
            for lease in leases:
                known[0].deliver(refused(lease, error.record()))

    def _lost(self, gateway: str, why: str) -> None:
        # Calls that wait for its answer are to go elsewhere now.
        self._links.drop(gateway)
        with self._lock:
            self._away[gateway] = why
        for run in self._using(gateway):
            run.gateway_lost(gateway, why)

    def _found(self, gateway: str) -> None:
        with self._lock:
            self._away.pop(gateway, None)
        for run in self._using(gateway):
            run.gateway_found(gateway)

    def _using(self, gateway: str) -> list[Run]:
        with self._lock:
            return [run for run, gateways in self._runs.values() if gateway in gateways]
