"""Deleting at the source what has arrived: the last thing that a move does, and only if everything did."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from gateway.deletion import BATCH, DELETERS
from gateway.records import Records
from skyplane_core.coordinator.events import Event
from skyplane_core.coordinator.machine import TransferMachine
from skyplane_core.coordinator.receipt import segment_lines
from skyplane_core.coordinator.store import AgentStore
from skyplane_core.errors import ObjectNotFound, PreconditionFailed, SkyplaneError
from skyplane_core.locations import same_store
from skyplane_core.model import ObjectInfo, Precondition
from skyplane_core.spec import Outcome, ReceiptLine, TransferSpec

log = logging.getLogger(__name__)


class Removal:
    """Deletes the source objects of a transfer's copies, each at the version that was copied.

    Which ones, the receipt says as it is stored, so that memory does not grow with their number.

    Args:
        machine: changed only through ``do``.
        stopping: whether the transfer has failed or was cancelled, so that nothing more is to go.
    """

    def __init__(
        self,
        spec: TransferSpec,
        source: AgentStore,
        destination: AgentStore,
        machine: TransferMachine,
        records: Records,
        do: Callable[[Callable[[], list[Event]]], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._in_place = same_store(spec.source, spec.destinations[0].store)
        self._source = source
        self._destination = destination
        self._machine = machine
        self._receipt = records.receipt
        self._do = do
        self._stopping = stopping

    def run(self) -> None:
        """Delete them all. One that cannot be deleted, or is another one by now, stays and fails by name.

        Raises:
            SkyplaneError: the receipt could not be stored, or not be read back.
        """
        copied = self._copied()
        with ThreadPoolExecutor(DELETERS, thread_name_prefix="remover") as pool:
            while not self._stopping() and (batch := list(itertools.islice(copied, BATCH))):
                deque(pool.map(self._remove, batch), maxlen=0)

    def _copied(self) -> Iterator[ReceiptLine]:
        def segment(key: str) -> bytes:
            return self._receipt.check(key, self._destination.get_bytes(key))

        lines = segment_lines(segment, self._receipt.flush())
        return (line for line in lines if line.outcome is Outcome.COPIED)

    def _remove(self, line: ReceiptLine) -> None:
        try:
            self._remove_as_copied(line)
        except SkyplaneError as error:
            record = error.record()
            info = ObjectInfo(line.key, line.size, line.source_version)
            self._do(lambda: self._machine.reject(info, 0, line.destination_key, record))

    def _remove_as_copied(self, line: ReceiptLine) -> None:
        if self._in_place and line.key == line.destination_key:
            raise PreconditionFailed("an object that was copied onto itself is not deleted", where=line.key)
        try:
            self._source.delete(line.key, Precondition(version=line.source_version))
        except PreconditionFailed as error:
            try:
                self._source.head(line.key)
            except ObjectNotFound:
                # Gone is gone, and may be the work of a call of ours whose answer was lost.
                log.info("what was to be deleted at the source is gone", extra={"key": line.key})
                return
            raise PreconditionFailed(
                "the source object was copied, has changed since, and stays",
                where=error.where,
                why=error.why,
                next_step="Run the move again: it copies what is there now.",
            ) from error
