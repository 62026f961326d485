"""Has a destination's store copy objects by itself, and hands what it refuses back to the gateways."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from skyplane_core.compare import made_from
from skyplane_core.coordinator.events import Copy, CopyPart, Event
from skyplane_core.coordinator.machine import TransferMachine
from skyplane_core.coordinator.objects import compared
from skyplane_core.coordinator.store import AgentStore
from skyplane_core.errors import (
    BucketNotFound,
    ObjectNotFound,
    PermissionDenied,
    PreconditionFailed,
    SkyplaneError,
    StoreRejected,
)
from skyplane_core.model import Attestation, Copied, CopySource, ObjectInfo, Precondition, Stored
from skyplane_core.spec import TransferSpec

log = logging.getLogger(__name__)

REFUSALS = (PermissionDenied, StoreRejected, BucketNotFound)
"""What says that this store does not copy from that source. Gateways read with other credentials, and may be let."""


class Copying:
    """Performs the copies of one transfer on committer threads; every call may block on a store.

    Args:
        machine: changed only through ``do``.
        destinations: stores by destination index; they try again by themselves where that may help.
        tags: reads an object's tags at the source.
    """

    def __init__(
        self,
        spec: TransferSpec,
        machine: TransferMachine,
        destinations: dict[int, AgentStore],
        do: Callable[[Callable[[], list[Event]]], None],
        tags: Callable[[ObjectInfo], dict[str, str]],
    ) -> None:
        self._source = spec.source
        self._machine = machine
        self._destinations = destinations
        self._do = do
        self._tags = tags
        self._tags_denied = False

    def copy(self, event: Copy) -> None:
        """Copy a whole object and tell the machine what came of it."""

        def act() -> Callable[[], list[Event]]:
            store = self._destinations[event.destination]
            try:
                copied = self._copied(store, event)
            except SkyplaneError:
                # The answer of an earlier attempt may have been lost.
                _withdraw(store, event)
                raise
            return lambda: self._machine.copy_left(event) if copied is None else self._machine.copied(event, copied)

        self._settle(event, act)

    def _copied(self, store: AgentStore, event: Copy) -> Copied | None:
        try:
            return self._copy(store, event)
        except PreconditionFailed as refused:
            return _found(store, event, refused)

    def _copy(self, store: AgentStore, event: Copy) -> Copied:
        source, attributes = self._from(event.info), event.attributes
        if event.keeps_tags and not self._tags_denied:
            try:
                with_tags = msgspec.structs.replace(source, keeps_tags=True)
                return store.copy(with_tags, event.key, attributes, event.precondition)
            except PermissionDenied as denied:
                # Whoever may read the source's bytes there need not be who may read its tags.
                log.info("tags are read at the source, as the store may not copy them", extra={"why": str(denied)})
                self._tags_denied = True
        if event.keeps_tags:
            attributes = msgspec.structs.replace(attributes, tags=self._tags(event.info))
        return store.copy(source, event.key, attributes, event.precondition)

    def copy_part(self, event: CopyPart) -> None:
        """Copy a part into its upload and tell the machine what came of it."""

        def act() -> Callable[[], list[Event]]:
            part = event.part
            stored = self._destinations[event.destination].copy_part(
                self._from(event.info), event.key, event.upload_id, part.part, part.offset, part.size
            )
            return lambda: self._machine.part_copied(event, stored)

        self._settle(event, act)

    def _settle(self, event: Copy | CopyPart, act: Callable[[], Callable[[], list[Event]]]) -> None:
        # Of what was given up or refused meanwhile thousands may be waiting here.
        known = self._machine.tally.server_side_refused
        if known or not self._machine.awaits(event):
            self._do(lambda: self._machine.copy_refused(event, known))
            return
        try:
            change = act()
        except REFUSALS as refusal:
            why = str(refusal)
            if not self._machine.tally.server_side_refused:
                log.warning("the store refuses to copy, so that gateways do", extra={"key": event.key, "why": why})
            self._do(lambda: self._machine.copy_refused(event, why))
        except SkyplaneError as failure:
            error = failure.record()
            self._do(lambda: self._machine.copy_failed(event, error))
        else:
            self._do(change)

    def _from(self, info: ObjectInfo) -> CopySource:
        plain = msgspec.structs.replace(info, attributes=None)
        return CopySource(self._source.bucket, plain, self._source.requester_pays)


def _withdraw(store: AgentStore, event: Copy) -> None:
    """A copy that failed may have been made all the same. If it is damaged it goes: a later sync would believe it."""
    try:
        there = store.head(event.key)
        if made_from(there) == event.info.version and compared(event.info, _as_copied(there)):
            store.delete(event.key, Precondition(version=there.version))
    except ObjectNotFound:
        return
    except SkyplaneError as error:
        # Why it could not be copied is what matters; the next transfer of this object replaces it.
        log.warning("what a failed copy has left is not known", extra={"key": event.key, "why": str(error)})


def _as_copied(there: ObjectInfo, attestation: Attestation | None = None) -> Copied:
    """What stands at the destination, as the answer to a copy would tell it."""
    stored = Stored(there.version, there.size, there.crc32c, attestation)
    return Copied(stored, there.crc64nvme, there.other_checksum)


def _found(store: AgentStore, event: Copy, refused: PreconditionFailed) -> Copied | None:
    """What stands there instead, if it has the source's bytes: a copy of ours whose answer was lost, or as good as it.

    None if neither a sum nor a record tells.

    Raises:
        PreconditionFailed: ``refused``, as it is something else.
    """
    try:
        there = store.head(event.key)
    except ObjectNotFound:
        raise refused from None
    source, read = event.info, there
    if there.size != source.size:
        raise refused
    if source.crc32c is not None and there.crc32c is None:
        read = msgspec.structs.replace(there, crc32c=store.read_back(event.key, there.version, there.size))
    differs, recorded = compared(source, _as_copied(read)), made_from(there)
    if differs is None and recorded is None:
        return None
    if differs or (differs is None and recorded != source.version):
        raise refused
    summed = there.crc32c is not None or there.crc64nvme is not None or bool(there.other_checksum)
    attestation: Attestation | None = store.capabilities.attestation if summed else None
    return _as_copied(there, attestation)
