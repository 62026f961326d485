"""Deleting what no source object maps to: the last thing that a sync does, and only if all else has succeeded."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from gateway.records import Records
from skyplane_core.coordinator.deletions import DeletionList, Doomed, read_deletions
from skyplane_core.coordinator.events import Event
from skyplane_core.coordinator.journal import DeletingRecord
from skyplane_core.coordinator.machine import TransferMachine
from skyplane_core.coordinator.store import AgentStore
from skyplane_core.diff import Action, Decision
from skyplane_core.errors import ObjectNotFound, PreconditionFailed, SkyplaneError
from skyplane_core.mirror import check_cap, source_key
from skyplane_core.model import ObjectInfo, Precondition
from skyplane_core.spec import TransferSpec

DELETERS = 32
"""Deletions in flight at once."""
BATCH = 8 * DELETERS
"""Deletions between two looks at whether the transfer goes on: a slow one holds up no others before its batch ends."""


class Deletion:
    """Takes the deletions out of a transfer's decisions, and carries them out in the end.

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
        self._spec = spec
        self._mapping = spec.destinations[0].mapping
        self._source = source
        self._destination = destination
        self._machine = machine
        self._records = records
        self._do = do
        self._stopping = stopping
        self._list: DeletionList = records.deletions
        self._held = 0

    def sifted(self, decisions: Iterable[Decision]) -> Iterator[Decision]:
        """The decisions that are not about deleting; those that are, are kept for :meth:`run`."""
        for decision in decisions:
            # What was there before the transfer began: neither this run nor an earlier one of it has copied it.
            began = self._records.began_before
            self._held += decision.written is not None and (began is None or decision.written <= began)
            if decision.action is Action.DELETE:
                self._list.add(decision.source)
            else:
                yield decision

    def run(self) -> None:
        """Delete everything that is on the list, each object only as it was seen.

        Raises:
            DeletionRefused: that would be too much, counting what earlier coordinators of this transfer deleted.
            SkyplaneError: the list could not be made durable, or those of earlier coordinators not be read.
        """
        self._list.flush()
        with ThreadPoolExecutor(DELETERS, thread_name_prefix="deleter") as pool:
            gone = sum(sum(pool.map(self._was_deleted, batch)) for batch in self._batches(self._begun_before()))
            if not self._list.objects:
                return
            self._check_cap(gone)
            self._records.journal.record(DeletingRecord(tuple(self._list.segments), self._held))
            for batch in self._batches(iter(self._list)):
                deque(pool.map(self._delete, batch), maxlen=0)

    def _batches(self, doomed: Iterator[Doomed]) -> Iterator[list[Doomed]]:
        """A few at a time, as long as the transfer goes on: a pool takes all that it is given into memory."""
        while not self._stopping() and (batch := list(itertools.islice(doomed, BATCH))):
            yield batch

    def _check_cap(self, gone: int) -> None:
        total = self._list.objects + gone
        held = max([total, self._held + gone, *(begun.held for begun in self._records.deleting)])
        destination = self._spec.destinations[0].store.object_uri(self._mapping.destination)
        check_cap(self._spec.options.max_delete, total, held, destination)

    def _begun_before(self) -> Iterator[Doomed]:
        segments = dict.fromkeys(key for begun in self._records.deleting for key in begun.segments)
        return read_deletions(self._destination.get_bytes, list(segments))

    def _was_deleted(self, doomed: Doomed) -> bool:
        """Whether an earlier coordinator has deleted it, whose receipt was never closed; then it goes into ours."""
        if self._head(self._destination, doomed.key):
            return False
        self._do(lambda: self._machine.deleted(0, doomed.key, doomed.size, doomed.version))
        return True

    def _delete(self, doomed: Doomed) -> None:
        info = ObjectInfo(doomed.key, doomed.size, doomed.version)
        try:
            origin = source_key(self._mapping, doomed.key)
            # Hours may have passed since the listing. A folder marker never is what somebody wrote since then.
            if not origin.endswith("/") and self._head(self._source, origin):
                again = ObjectInfo(origin, doomed.size, "")
                self._do(lambda: self._machine.skip(0, [(again, doomed.key, "reappeared")]))
                return
            self._delete_as_seen(doomed)
        except SkyplaneError as error:
            record = error.record()
            self._do(lambda: self._machine.reject(info, 0, doomed.key, record))
            return
        self._do(lambda: self._machine.deleted(0, doomed.key, doomed.size, doomed.version))

    def _delete_as_seen(self, doomed: Doomed) -> None:
        try:
            self._destination.delete(doomed.key, Precondition(version=doomed.version))
        except PreconditionFailed:
            # Gone is gone, and may be the work of a call of ours whose answer was lost.
            if self._head(self._destination, doomed.key):
                raise

    @staticmethod
    def _head(store: AgentStore, key: str) -> bool:
        try:
            store.head(key)
        except ObjectNotFound:
            return False
        return True
