"""On a reader: what became of leases that another gateway, the head, handed over, on its way back there."""

from __future__ import annotations

import threading
from collections.abc import Callable

from gateway.link import LeasesDone
from gateway.links import Links
from gateway.outbox import Outbox
from skyplane_core.errors import Retry, SkyplaneError
from skyplane_core.model import LeaseResult


class Results:
    """Results by the head that they go to, tried again until they are there or the transfer is forgotten.

    Args:
        key_of: the key of a transfer, by its id.
    """

    def __init__(self, links: Links, key_of: Callable[[str], bytes]) -> None:
        self._links = links
        self._key_of = key_of
        self._lock = threading.Lock()
        self._heads: dict[str, str] = {}
        self._outboxes: dict[str, Outbox[LeaseResult]] = {}

    def expect(self, transfer_id: str, head: str) -> None:
        """A lease of this transfer came from ``head``."""
        with self._lock:
            self._heads[transfer_id] = head

    def put(self, result: LeaseResult) -> None:
        """Send a result to its head; one of a transfer that is forgotten goes nowhere."""
        with self._lock:
            head = self._heads.get(result.transfer_id)
            if head is None:
                return
            outbox = self._outboxes.get(head)
            if outbox is None:
                outbox = self._outboxes[head] = Outbox(
                    f"results-{head}", lambda results: self._send(head, results), self._not_sent
                )
        outbox.put(result)

    def forget(self, transfer_id: str) -> None:
        with self._lock:
            self._heads.pop(transfer_id, None)
            outboxes = list(self._outboxes.values())
        for outbox in outboxes:
            outbox.drop(lambda result: result.transfer_id == transfer_id)

    def close(self) -> None:
        with self._lock:
            outboxes = list(self._outboxes.values())
        for outbox in outboxes:
            outbox.close()

    def _send(self, head: str, results: tuple[LeaseResult, ...]) -> None:
        for transfer_id in dict.fromkeys(result.transfer_id for result in results):
            own = tuple(result for result in results if result.transfer_id == transfer_id)
            with self._lock:
                known = transfer_id in self._heads
            if known:
                self._links.call(head, LeasesDone(transfer_id, own), key=self._key_of(transfer_id))

    def _not_sent(self, results: tuple[LeaseResult, ...], error: SkyplaneError) -> bool:
        with self._lock:
            known = any(result.transfer_id in self._heads for result in results)
        return known and error.retry is Retry.RETRY
