"""Deleting at the source what has arrived: the last thing that a move does, and only if everything did."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from gateway.deletion import BATCH, DELETERS
from gateway.records import Records
from skyplane_core.coordinator.events import Event
from skyplane_core.coordinator.machine import TransferMachine
from skyplane_core.coordinator.receipt import segment_lines
from skyplane_core.coordinator.store import AgentStore
from skyplane_core.errors import PreconditionFailed, SkyplaneError
from skyplane_core.locations import same_store
from skyplane_core.model import ObjectInfo
from skyplane_core.moving import arrived, concerned, remove
from skyplane_core.spec import ReceiptLine, TransferSpec


class Removal:
    """Deletes the source objects of a transfer's copies, each at the version that was copied; see :mod:`.moving`.

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
        self._same = spec.options.move_same
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
        lines = self._lines()
        with ThreadPoolExecutor(DELETERS, thread_name_prefix="remover") as pool:
            while not self._stopping() and (batch := list(itertools.islice(lines, BATCH))):
                deque(pool.map(self._remove, batch), maxlen=0)

    def _lines(self) -> Iterator[ReceiptLine]:
        def segment(key: str) -> bytes:
            return self._receipt.check(key, self._destination.get_bytes(key))

        lines = segment_lines(segment, self._receipt.flush())
        return (line for line in lines if concerned(line, same=self._same))

    def _remove(self, line: ReceiptLine) -> None:
        try:
            self._remove_arrived(line)
        except SkyplaneError as error:
            record = error.record()
            info = ObjectInfo(line.key, line.size, line.source_version)
            self._do(lambda: self._machine.reject(info, 0, line.destination_key, record))

    def _remove_arrived(self, line: ReceiptLine) -> None:
        if arrived(self._source, self._destination, line) is None:
            return
        if self._in_place and line.key == line.destination_key:
            raise PreconditionFailed("an object that was copied onto itself is not deleted", where=line.key)
        remove(self._source, line)
