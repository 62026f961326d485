"""Acts on what the transfer machine asks for at a destination: complete, verify, recognise, abort, discard."""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.copying import Copying
from gateway.uploads import Uploads, tagged
from skyplane_core.compare import made_from
from skyplane_core.coordinator.events import (
    Abort,
    Commit,
    Copy,
    CopyPart,
    Discard,
    Event,
    Open,
    Recognise,
    Resend,
    Verify,
)
from skyplane_core.coordinator.machine import TransferMachine
from skyplane_core.coordinator.store import AgentStore
from skyplane_core.errors import ObjectNotFound, PreconditionFailed, SkyplaneError, SourceChanged, StoreRejected
from skyplane_core.model import Attestation, ObjectInfo, Precondition, Stored, StoredPart

log = logging.getLogger(__name__)

LOOKS = 4
"""How often what changes under a commit or a reading back is looked at: late sendings of ours are few."""

Do = Callable[[Callable[[], list[Event]]], None]


class Committer:
    """Performs events on committer threads; every call may block on a store.

    Args:
        machine: changed only through ``do``.
        destinations: stores by destination index; they try again by themselves where that may help.
        closed: told the id of each upload that is open no more.
        uploads: opens another upload for an object that was read wrong.
        copying: has stores copy objects by themselves.
    """

    def __init__(
        self,
        machine: TransferMachine,
        destinations: dict[int, AgentStore],
        do: Do,
        closed: Callable[[str], None],
        uploads: Uploads,
        copying: Copying,
    ) -> None:
        self._copying = copying
        self._machine = machine
        self._destinations = destinations
        self._do = do
        self._closed = closed
        self._uploads = uploads
        self.left_open = False
        """Whether some upload could not be aborted."""

    def perform(self, event: Event) -> None:
        """Do what ``event`` asks for and tell the machine what came of it."""
        match event:
            case Commit():
                self._settle(event, lambda: self._commit(event))
            case Copy():
                self._copying.copy(event)
            case CopyPart():
                self._copying.copy_part(event)
            case Open():
                self._settle(event, lambda: self._open(event))
            case Verify():
                self._settle(event, lambda: self._verify(event))
            case Recognise():
                self._settle(event, lambda: self._recognise(event))
            case Resend():
                self._settle(event, lambda: self._resend(event))
            case Abort():
                self._abort(event)
            case Discard():
                self._discard(event)
            case _:
                raise TypeError(f"not an event for a committer: {event!r}")

    def _settle(self, event: Commit | Open | Verify | Recognise | Resend, act: Callable[[], None]) -> None:
        try:
            act()
        except SkyplaneError as refusal:
            error = refusal.record()
            self._do(lambda: self._machine.failed(event.object, event.destination, error))

    def _commit(self, event: Commit) -> None:
        parts, looks = event.parts, 1
        while True:
            try:
                stored = self._complete(event, parts)
                self._closed(event.upload_id)
                break
            except PreconditionFailed as refused:
                stored = self._as_good(event, refused)
                break
            except StoreRejected:
                found = self._put_again(event, parts) if looks < LOOKS else None
                if found is None:
                    raise
                parts, looks = found, looks + 1
        self._do(lambda: self._machine.committed(event.object, event.destination, stored, event.crc32c))

    def _complete(self, event: Commit, parts: tuple[StoredPart, ...]) -> Stored:
        return self._destinations[event.destination].complete_upload(
            event.key,
            event.upload_id,
            parts,
            size=event.info.size,
            crc32c=event.crc32c,
            precondition=event.precondition,
        )

    def _as_good(self, event: Commit, refused: PreconditionFailed) -> Stored:
        """What stands there instead, if it has the same bytes: a run of the same sync was quicker. Our upload goes.

        Raises:
            PreconditionFailed: ``refused``, as they are others.
        """
        store = self._destinations[event.destination]
        try:
            info = store.head(event.key)
        except ObjectNotFound:
            raise refused from None
        crc, _ = _sum_of(store, info, event.info.size)
        if info.size != event.info.size or crc != event.crc32c:
            if made_from(info) == event.info.version:
                # Ours, and damaged on its way: a copy by the store, say, whose answer was lost.
                self._discard(Discard(event.destination, event.key, info.version))
            raise refused
        self._abort(Abort(event.destination, event.key, event.upload_id))
        return _vouched(store, info)

    def _put_again(self, event: Commit, parts: tuple[StoredPart, ...]) -> tuple[StoredPart, ...] | None:
        """The parts as the store lists them, where a late sending replaced some by the same bytes; None otherwise.

        Stores that encrypt with a key of their own give each put another id.
        """
        store = self._destinations[event.destination]
        listed = {part.number: part for part in store.list_parts(event.key, event.upload_id)}
        # Some stores list parts without their sums (GCS), and tell the whole object's once it is complete.
        summed = store.capabilities.attestation is Attestation.WHOLE
        again = tuple(listed.get(part.number, part) for part in parts)
        same = all(
            new.part_id == old.part_id or _alike(new, old, summed=summed) for new, old in zip(again, parts, strict=True)
        )
        return again if same and again != parts else None

    def _verify(self, event: Verify) -> None:
        """Read it back. What replaced it meanwhile may be a late sending of ours: the same bytes are as good."""
        store = self._destinations[event.destination]
        stored = event.stored
        for _ in range(LOOKS):
            try:
                read = store.read_back(event.key, stored.version, stored.size)
                break
            except SourceChanged as changed:
                info = store.head(event.key)
                if info.size != stored.size:
                    raise _replaced(event.key) from changed
                stored = Stored(info.version, info.size)
        else:
            raise _replaced(event.key)
        if stored is not event.stored and read != event.crc32c:
            raise _replaced(event.key)
        self._do(
            lambda: self._machine.verified(event.object, event.destination, stored, event.crc32c, read, key=event.key)
        )

    def _recognise(self, event: Recognise) -> None:
        """An object whose checksum is ours was written by our earlier attempt; any other is somebody else's."""
        store = self._destinations[event.destination]
        info = store.head(event.key)
        crc, read = _sum_of(store, info, event.part.size)
        if read and crc != event.crc32c and made_from(info) == event.part.version:
            # Ours, and damaged on its way.
            damaged, found = Stored(info.version, info.size), crc or 0
            self._do(
                lambda: self._machine.verified(
                    event.object, event.destination, damaged, event.crc32c, found, key=event.key
                )
            )
            return
        if info.size != event.part.size or crc != event.crc32c:
            raise PreconditionFailed(
                event.reason, where=event.key, next_step="Somebody else writes to the destination."
            )
        stored = _vouched(store, info)
        self._do(lambda: self._machine.committed(event.object, event.destination, stored, event.crc32c))

    def _open(self, event: Open) -> None:
        info, changes = event.info, {}
        if event.reads_tags:
            tags = self._uploads.tags(info)
            info, changes = tagged(info, tags), self._uploads.retagged(tags)
        upload_id = ""
        if event.part_size:
            upload_id = self._uploads.open(info, event.destination, event.key, event.part_size)
        self._do(lambda: self._machine.opened(event, upload_id, info, **changes))

    def _resend(self, event: Resend) -> None:
        again = self._uploads.number()
        upload_id = self._uploads.open(event.info, event.destination, event.key, event.part_size)
        log.warning("an object was read wrong and is read again", extra={"key": event.info.key})
        self._do(lambda: self._machine.resend(event, again, upload_id))

    def _abort(self, event: Abort) -> None:
        store = self._destinations[event.destination]
        try:
            store.abort_upload(event.key, event.upload_id)
            self._closed(event.upload_id)
        except SkyplaneError as error:
            self.left_open = True
            # The journal still names it, so the next run of this transfer aborts it.
            log.warning("an upload could not be aborted", extra={"why": str(error)})

    def _discard(self, event: Discard) -> None:
        try:
            self._destinations[event.destination].delete(event.key, Precondition(version=event.version))
        except SkyplaneError as error:
            # Its failure is in the receipt already, and says what is to be done.
            log.warning("a damaged object could not be deleted", extra={"why": str(error)})


def _alike(new: StoredPart, old: StoredPart, *, summed: bool) -> bool:
    return new.size == old.size and (summed if new.crc32c is None else new.crc32c == old.crc32c)


def _sum_of(store: AgentStore, info: ObjectInfo, size: int) -> tuple[int | None, bool]:
    """The CRC32C of an object, and whether it had to be read for it; None if it has none, and another size anyway."""
    if info.crc32c is None and info.size == size:
        return store.read_back(info.key, info.version, info.size), True
    return info.crc32c, False


def _vouched(store: AgentStore, info: ObjectInfo) -> Stored:
    """An object that was found, as its store vouches for it."""
    attestation = store.capabilities.attestation if info.crc32c is not None else None
    return Stored(info.version, info.size, info.crc32c, attestation)


def _replaced(key: str) -> PreconditionFailed:
    return PreconditionFailed(
        "the object was replaced before it could be read back",
        where=key,
        next_step="Somebody else writes to the destination.",
    )
