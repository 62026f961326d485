"""The journal: what must be known to continue after every process of ours is gone.

Object stores cannot append, so the journal is a series of small immutable objects below the transfer's state prefix,
``journal-<incarnation>-<n>.jsonl``, each with one record a line. A record is durable when the object that holds it is
stored. Records that wait at the same time share one object (group commit).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from skyplane_core.coordinator.store import AgentStore
from skyplane_core.errors import SkyplaneError, StoreRejected
from skyplane_core.model import PartAck

GROUP_SECONDS = 0.01
ACK_SECONDS = 2.0
ACK_BYTES = 128 * 1024 * 1024
"""Acks of so many bytes are not kept waiting for their time: whoever continues would have to send them all again."""
DELETIONS = 16


class BeganRecord(msgspec.Struct, frozen=True, tag="began"):
    """What this transfer moves where, in words: its id is not to be used for another one. ``at``: since when."""

    what: str
    at: float = 0.0


class UploadRecord(msgspec.Struct, frozen=True, tag="upload"):
    """A multipart upload of this transfer, recorded before its first part is sent."""

    key: str
    source_version: str
    size: int
    destination: int
    destination_key: str
    upload_id: str
    part_size: int


class AckRecord(msgspec.Struct, frozen=True, tag="ack"):
    """A part that is stored. Losing one costs sending that part again."""

    upload_id: str
    ack: PartAck


class ClosedRecord(msgspec.Struct, frozen=True, tag="closed"):
    """An upload that was completed or aborted. Losing this costs one vain attempt to abort it."""

    upload_id: str


class DeletingRecord(msgspec.Struct, frozen=True, tag="deleting"):
    """All has arrived, and what ``segments`` list is being deleted; the destination had ``held`` objects before."""

    segments: tuple[str, ...]
    held: int


class RecallRecord(msgspec.Struct, frozen=True, tag="recall"):
    """Whoever runs this transfer is to let go of it: asked by a client that cannot reach the gateways.

    ``nonce`` tells one such wish from another. With ``hand_over`` somebody goes on with the transfer, and what is open
    is left to them; else its uploads are aborted.
    """

    nonce: str
    hand_over: bool


Record = BeganRecord | UploadRecord | AckRecord | ClosedRecord | DeletingRecord | RecallRecord
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(
    BeganRecord | UploadRecord | AckRecord | ClosedRecord | DeletingRecord | RecallRecord
)


class Journal:
    """Writes records in groups from one thread of its own.

    Args:
        store: where the state lives.
        state: key prefix of this transfer's state, ending in ``/``.
        incarnation: distinguishes the coordinators that have worked on this transfer.
    """

    def __init__(self, store: AgentStore, state: str, incarnation: str) -> None:
        self._store = store
        self._prefix = f"{state}journal-{incarnation}-"
        self._lock = threading.Condition()
        self._urgent: list[tuple[Record, Future[None]]] = []
        self._lazy: list[Record] = []
        self._lazy_bytes = 0
        self._due = False
        self._closed = self._discarding = False
        self._written: list[str] = []
        self._earlier: list[str] = []
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def holds(self, key: str) -> bool:
        """Whether ``key`` is that of an object which this journal, and not an earlier one, may have written."""
        return key.startswith(self._prefix)

    def supersede(self, keys: Sequence[str]) -> None:
        """Take over more state objects: they are discarded together with our journal."""
        self._earlier += keys

    def record(self, record: UploadRecord | DeletingRecord) -> None:
        """Return when the record is durable.

        Raises:
            SkyplaneError: it could not be stored, or the journal is closed; the caller must do nothing of it.
        """
        done: Future[None] = Future()
        with self._lock:
            if self._closed:
                raise SkyplaneError("the transfer has ended", where=self._prefix)
            self._urgent.append((record, done))
            self._lock.notify()
        done.result()

    def note(self, record: BeganRecord | AckRecord | ClosedRecord) -> None:
        """Store the record some time soon, since it only saves work.

        What a transfer is, is stored at once: nobody can continue one that has left nothing.
        """
        with self._lock:
            self._lazy.append(record)
            if isinstance(record, AckRecord):
                self._lazy_bytes += record.ack.size
            self._due = self._due or isinstance(record, BeganRecord) or self._lazy_bytes >= ACK_BYTES
            if self._due:
                self._lock.notify()

    def close(self, *, discard: bool) -> None:
        """Stop writing; with ``discard`` delete the journal, because the receipt now tells everything."""
        with self._lock:
            self._closed = True
            self._discarding = discard
            self._lock.notify()
        self._thread.join()
        if discard:
            # A day of acks makes tens of thousands of objects; one after the other they would outlast the gateway.
            with ThreadPoolExecutor(DELETIONS, thread_name_prefix="journal") as pool:
                list(pool.map(self._store.delete, [*self._earlier, *self._written]))

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._urgent and not self._closed and not self._due:
                    self._lock.wait(ACK_SECONDS)
                if self._urgent and not self._closed:
                    self._lock.wait(GROUP_SECONDS)
                urgent, self._urgent = self._urgent, []
                lazy, self._lazy, self._lazy_bytes, self._due = self._lazy, [], 0, False
                closed = self._closed
            if urgent or (lazy and not self._discarding):
                self._write(urgent, lazy)
            if closed and not urgent:
                return

    def _write(self, urgent: list[tuple[Record, Future[None]]], lazy: list[Record]) -> None:
        records = [record for record, _ in urgent] + lazy
        key = f"{self._prefix}{len(self._written):06d}.jsonl"
        try:
            self._store.put_bytes(key, b"".join(_encoder.encode(record) + b"\n" for record in records))
        except Exception as error:  # noqa: BLE001 - whoever waits gets it, and must not wait for a dead thread
            for _, done in urgent:
                done.set_exception(error)
            return
        self._written.append(key)
        for _, done in urgent:
            done.set_result(None)


def recall_key(state: str) -> str:
    """The one object of a journal that no coordinator writes: it holds a :class:`RecallRecord`."""
    return f"{state}journal-recall.jsonl"


def recall(put: Callable[[str, bytes], None], state: str, nonce: str, *, hand_over: bool) -> None:
    """Have the coordinator that works on this transfer, if one does, let go of it; its receipt says when it has.

    Args:
        put: stores bytes under a key; raises StoreError.
        state: key prefix of the transfer's state, ending in ``/``.
        nonce, hand_over: see :class:`RecallRecord`.
    """
    put(recall_key(state), _encoder.encode(RecallRecord(nonce, hand_over)) + b"\n")


def journal_keys(store: AgentStore, state: str) -> list[str]:
    """The journal objects that earlier coordinators of this transfer left, oldest first."""
    return [info.key for info in store.list(f"{state}journal-")]


def decode(data: bytes) -> Iterator[Record]:
    """The records of one journal object.

    Raises:
        StoreRejected: a line is no record.
    """
    for line in data.splitlines():
        if not line:
            continue
        try:
            record = _decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise StoreRejected(
                "a journal cannot be read",
                why=f"one of its lines is no record ({type(error).__name__})",
                next_step="Start the transfer anew, without its id.",
            ) from error
        yield record


class Recovered(msgspec.Struct):
    """One recorded upload of an earlier coordinator, and the acks that were noted for it."""

    upload: UploadRecord
    acks: dict[int, PartAck] = {}


def replay(records: Iterable[Record]) -> dict[tuple[str, int], list[Recovered]]:
    """Recorded uploads by ``(source key, destination)``; an upload may have been begun more than once.

    Memory holds what is still open, not all that ever was: an upload's acks come after it and go when it is closed.
    """
    uploads: dict[str, Recovered] = {}
    late: list[AckRecord] = []
    closed: set[str] = set()
    for record in records:
        if isinstance(record, UploadRecord):
            if record.upload_id not in closed:
                uploads[record.upload_id] = Recovered(record, {})
        elif isinstance(record, BeganRecord | DeletingRecord | RecallRecord):
            continue
        elif isinstance(record, ClosedRecord):
            closed.add(record.upload_id)
            uploads.pop(record.upload_id, None)
        elif record.upload_id in uploads:
            uploads[record.upload_id].acks[record.ack.part] = record.ack
        elif record.upload_id not in closed:
            late.append(record)
    for record in late:
        if record.upload_id in uploads:
            uploads[record.upload_id].acks[record.ack.part] = record.ack
    found: dict[tuple[str, int], list[Recovered]] = {}
    for recovered in uploads.values():
        found.setdefault((recovered.upload.key, recovered.upload.destination), []).append(recovered)
    return found
