"""What a transfer keeps at its destination: the journal while it runs, the receipt when it has ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from skyplane_core.coordinator.deletions import DeletionList, deletions_prefix
from skyplane_core.coordinator.journal import (
    BeganRecord,
    ClosedRecord,
    DeletingRecord,
    Journal,
    RecallRecord,
    Record,
    Recovered,
    decode,
    journal_keys,
    recall_key,
    replay,
)
from skyplane_core.coordinator.receipt import ReceiptWriter, segment_lines, segment_prefix
from skyplane_core.coordinator.store import AgentStore
from skyplane_core.errors import ObjectNotFound, SkyplaneError, UsageError
from skyplane_core.object_file import ObjectFile
from skyplane_core.receipt_file import write_receipt
from skyplane_core.receipt_place import format_of
from skyplane_core.spec import Progress, ReceiptPlace, TransferSpec, TransferState

log = logging.getLogger(__name__)

READS = 16
"""Journal objects read at once: a day of acks leaves tens of thousands."""


class Records:
    """Journal and receipt of one transfer below its state prefix. Thread-safe.

    Args:
        store: where the state lives.
        state: key prefix of this transfer's state, ending in ``/``.
    """

    def __init__(self, store: AgentStore, state: str) -> None:
        self._store = store
        self._state = state
        self._what = ""
        incarnation = f"{time.time_ns():x}"
        self.receipt = ReceiptWriter(store.put_bytes, state, incarnation)
        self.journal = Journal(store, state, incarnation)
        self.deletions = DeletionList(store.put_bytes, store.get_bytes, state, incarnation)
        self.began_before: float | None = None
        """When the first coordinator of this transfer began, if it was another one; seconds since the epoch."""
        self._recalled: set[str] = set()
        self._earlier: frozenset[str] = frozenset()
        self.deleting: list[DeletingRecord] = []
        """Deletions that earlier coordinators had begun."""

    def begin(self, spec: TransferSpec) -> None:
        """Note what this transfer is, for whoever continues it."""
        self._what = what_of(spec)
        self.journal.note(BeganRecord(self._what, spec.created_at))

    def recover(self) -> dict[tuple[str, int], list[Recovered]]:
        """The open uploads of earlier coordinators of this transfer, whose journals and receipts are ours from now on.

        Raises:
            UsageError: they are of a transfer between other places.
            SkyplaneError: the journals cannot be read.
        """
        keys = [key for key in journal_keys(self._store, self._state) if not self.journal.holds(key)]
        receipts = [info.key for info in self._store.list(f"{self._state}receipt")]
        if self.receipt.key in receipts:
            self._retract()
        # Their receipts go with the journals: once ours is durable, no summary names those segments any more.
        segments = [key for key in receipts if key.startswith(segment_prefix(self._state))]
        segments += [info.key for info in self._store.list(deletions_prefix(self._state))]
        # A coordinator that was cut off, and comes back when all is over, is to find that it was recalled.
        self.journal.supersede([key for key in (*keys, *segments) if key != recall_key(self._state)])
        found = replay(self._records(keys))
        self._earlier = frozenset((*keys, recall_key(self._state)))
        return found

    def recall(self) -> RecallRecord | None:
        """Somebody's wish that this coordinator lets go of the transfer, if there is a new one.

        One that was there when the journals were read was an earlier coordinator's to heed.

        Raises:
            SkyplaneError: the store does not tell.
        """
        wish = self._new_wish(self._store.peek(recall_key(self._state)) or b"")
        if wish is not None and not wish.hand_over:
            self.journal.supersede([recall_key(self._state)])
        return wish

    def close(self, totals: Progress) -> None:
        """Write the receipt's summary; not of a transfer that failed while somebody else has gone on with it.

        Raises:
            SkyplaneError: it could not be stored.
        """
        if not self.overtaken(totals.state):
            self.receipt.close(totals)

    def overtaken(self, state: TransferState) -> bool:
        """Whether the transfer has failed and was handed over, and another coordinator has begun since ours did.

        Raises:
            SkyplaneError: the store does not tell.
        """
        if state is not TransferState.FAILED or not self._earlier:
            return False
        try:
            wish = self._new_wish(self._store.get_bytes(recall_key(self._state)))
        except ObjectNotFound:
            return False
        if wish is None or not wish.hand_over:
            return False
        theirs = [info.key for info in self._store.list(f"{self._state}receipt.json")]
        theirs += [key for key in journal_keys(self._store, self._state) if not self.journal.holds(key)]
        return not self._earlier.issuperset(theirs)

    def _new_wish(self, content: bytes) -> RecallRecord | None:
        wishes = [record for record in decode(content) if isinstance(record, RecallRecord)]
        return next((wish for wish in wishes if wish.nonce not in self._recalled), None)

    def _retract(self) -> None:
        """While a transfer runs no receipt is to say that it has ended, as that of an earlier coordinator would."""
        try:
            self._store.delete(self.receipt.key)
        except SkyplaneError as error:
            log.warning("an earlier receipt could not be deleted", extra={"why": str(error)})

    def hand_over(self, file: ObjectFile, place: ReceiptPlace, totals: Progress, alive: Callable[[], None]) -> None:
        """Write the receipt to ``place`` as well. Once this returns it is there, whole and durable.

        Args:
            alive: called while it is written, which takes its time for a receipt of millions of lines.

        Raises:
            SkyplaneError: it could not be written; nothing of it is to be seen.
        """

        def segment(key: str) -> bytes:
            alive()
            return self.receipt.check(key, self._store.get_bytes(key))

        try:
            lines = segment_lines(segment, self.receipt.finish())
            write_receipt(file, format_of(place.key), totals, lines)
            file.commit()
        except BaseException:
            _discard(file)
            raise

    def closed(self, upload_id: str) -> None:
        """Note that an upload was completed or aborted."""
        self.journal.note(ClosedRecord(upload_id))

    def end_journal(self, *, discard: bool) -> None:
        """Stop the journal. One that cannot be deleted is litter: the receipt, which tells everything, is durable."""
        self.journal.supersede(self.deletions.segments)
        try:
            self.journal.close(discard=discard)
        except Exception as error:  # noqa: BLE001 - see above; it is logged
            log.warning("a journal could not be deleted", extra={"why": repr(error)})

    def _records(self, keys: list[str]) -> Iterator[Record]:
        with ThreadPoolExecutor(READS, thread_name_prefix="journal") as pool:
            for first in range(0, len(keys), READS):
                for data in pool.map(self._read, keys[first : first + READS]):
                    for record in decode(data):
                        self._check(record)
                        if isinstance(record, DeletingRecord):
                            self._continue(record)
                        elif isinstance(record, RecallRecord):
                            self._recalled.add(record.nonce)
                        elif isinstance(record, BeganRecord) and record.at:
                            self.began_before = min(record.at, self.began_before or record.at)
                        yield record

    def _read(self, key: str) -> bytes:
        try:
            return self._store.get_bytes(key)
        except ObjectNotFound:
            # A coordinator that had ended well was deleting its journal when it died: nothing in it is open.
            return b""

    def _continue(self, record: DeletingRecord) -> None:
        # Whoever can write to the destination could otherwise have any of its objects read.
        if all(key.startswith(deletions_prefix(self._state)) for key in record.segments):
            self.deleting.append(record)

    def _check(self, record: Record) -> None:
        if isinstance(record, BeganRecord) and self._what and record.what != self._what:
            raise UsageError(
                "this transfer id belongs to another transfer",
                where=self._state,
                why=f"that one is {record.what}, this one {self._what}",
                next_step="Continue with the same source and destination, or start without an id.",
            )


def _discard(file: ObjectFile) -> None:
    try:
        file.discard()
    except SkyplaneError as error:
        # Why it could not be written is what matters; expiry rules of that store remove what is left.
        log.warning("the upload of a receipt could not be aborted", extra={"why": str(error)})


def what_of(spec: TransferSpec) -> str:
    """What a transfer moves where, as text that stays the same when it is continued."""
    target = spec.destinations[0]
    return f"{spec.source.object_uri(spec.selection.prefix)} -> {target.store.object_uri(target.mapping.destination)}"
