"""Acts on what the transfer machine asks for at a destination: complete, verify, recognise, abort."""

from __future__ import annotations

import logging
from collections.abc import Callable

from skyplane_core.coordinator.events import Abort, Commit, Event, Recognise, Verify
from skyplane_core.coordinator.machine import TransferMachine
from skyplane_core.coordinator.store import AgentStore
from skyplane_core.errors import PreconditionFailed, SkyplaneError
from skyplane_core.model import Stored

log = logging.getLogger(__name__)

Do = Callable[[Callable[[], list[Event]]], None]


class Committer:
    """Performs events on committer threads; every call may block on a store.

    Args:
        machine: changed only through ``do``.
        destinations: stores by destination index; they try again by themselves where that may help.
        closed: told the id of each upload that is open no more.
    """

    def __init__(
        self, machine: TransferMachine, destinations: dict[int, AgentStore], do: Do, closed: Callable[[str], None]
    ) -> None:
        self._machine = machine
        self._destinations = destinations
        self._do = do
        self._closed = closed
        self.left_open = False
        """Whether some upload could not be aborted."""

    def perform(self, event: Event) -> None:
        """Do what ``event`` asks for and tell the machine what came of it."""
        match event:
            case Commit():
                self._settle(event, lambda: self._commit(event))
            case Verify():
                self._settle(event, lambda: self._verify(event))
            case Recognise():
                self._settle(event, lambda: self._recognise(event))
            case Abort():
                self._abort(event)
            case _:
                raise TypeError(f"not an event for a committer: {event!r}")

    def _settle(self, event: Commit | Verify | Recognise, act: Callable[[], None]) -> None:
        try:
            act()
        except SkyplaneError as refusal:
            error = refusal.record()
            self._do(lambda: self._machine.failed(event.object, event.destination, error))

    def _commit(self, event: Commit) -> None:
        store = self._destinations[event.destination]
        stored = store.complete_upload(
            event.key,
            event.upload_id,
            event.parts,
            size=event.size,
            crc32c=event.crc32c,
            precondition=event.precondition,
        )
        self._closed(event.upload_id)
        self._do(lambda: self._machine.committed(event.object, event.destination, stored, event.crc32c))

    def _verify(self, event: Verify) -> None:
        store = self._destinations[event.destination]
        read = store.read_back(event.key, event.stored.version, event.stored.size)
        self._do(lambda: self._machine.verified(event.object, event.destination, event.stored, event.crc32c, read))

    def _recognise(self, event: Recognise) -> None:
        """An object whose checksum is ours was written by our earlier attempt; any other is somebody else's."""
        store = self._destinations[event.destination]
        info = store.head(event.key)
        crc = info.crc32c
        attestation = store.capabilities.attestation if crc is not None else None
        if crc is None and info.size == event.part.size:
            crc = store.read_back(event.key, info.version, info.size)
        if info.size != event.part.size or crc != event.crc32c:
            raise PreconditionFailed(
                event.reason, where=event.key, next_step="Somebody else writes to the destination."
            )
        stored = Stored(info.version, info.size, crc, attestation)
        self._do(lambda: self._machine.committed(event.object, event.destination, stored, event.crc32c))

    def _abort(self, event: Abort) -> None:
        store = self._destinations[event.destination]
        try:
            store.abort_upload(event.key, event.upload_id)
            self._closed(event.upload_id)
        except SkyplaneError as error:
            self.left_open = True
            # The journal still names it, so the next run of this transfer aborts it.
            log.warning("an upload could not be aborted", extra={"fields": {"why": str(error)}})
