"""From listings to parts: lists the source, decides about each object, opens uploads, and admits parts to the machine.

Runs on the head in a thread of its own, opens a few uploads at a time, and never runs far ahead of what has been
sent: memory does not grow with the number of objects.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import msgspec

from gateway.uploads import Uploads, mtime_ns, plain
from skyplane_core.coordinator.events import Event
from skyplane_core.coordinator.journal import Recovered
from skyplane_core.coordinator.machine import TransferMachine
from skyplane_core.coordinator.objects import CopyOrder
from skyplane_core.coordinator.store import AgentStore
from skyplane_core.diff import Action, Decision
from skyplane_core.errors import SkyplaneError, StoreRejected, UploadNotFound
from skyplane_core.model import ObjectAttributes, ObjectInfo, PartAck, PartTarget, StoredPart
from skyplane_core.planner.parts import cut, part_size
from skyplane_core.server_side import copies, takes_parts, wanted
from skyplane_core.spec import SOURCE_VERSION_KEY, TransferSpec, Verification

log = logging.getLogger(__name__)


class AdmissionHost(Protocol):
    """What admission asks of the transfer that it works for."""

    def wait_for_room(self) -> bool:
        """Block while enough is waiting to be sent; False when nothing more is to be admitted."""
        ...

    def selected(self, size: int) -> None:
        """Count an object that takes part."""
        ...

    def do(self, change: Callable[[], list[Event]]) -> None:
        """Change the machine under its lock and handle the events."""
        ...

    def broke(self, bug: Exception) -> None:
        """Fail the transfer because of a defect of ours."""
        ...


OPENING_AT_ONCE = 16
SKIPPED_AT_ONCE = 500
"""Objects that are left alone are counted so many at a time: a turn of the machine costs more than one of them."""


class Admission:
    """Admits objects of one transfer.

    Args:
        spec: the transfer.
        destinations: stores by destination index, as their agents serve them.
        machine: changed only through ``host.do``.
        recovered: uploads that an earlier coordinator recorded, by (key, destination).
        pool_bytes: the smallest buffer pool on the route, which bounds a part.
    """

    def __init__(
        self,
        spec: TransferSpec,
        destinations: dict[int, AgentStore],
        machine: TransferMachine,
        uploads: Uploads,
        recovered: dict[tuple[str, int], list[Recovered]],
        pool_bytes: int,
        host: AdmissionHost,
    ) -> None:
        self._spec = spec
        self._destinations = destinations
        self._machine = machine
        self._uploads = uploads
        self._recovered = recovered
        self._pool_bytes = pool_bytes
        self._host = host
        self._by_store = wanted(spec) and destinations[0].capabilities.max_copy > 0
        self._opening = threading.BoundedSemaphore(OPENING_AT_ONCE)
        self._openers = ThreadPoolExecutor(OPENING_AT_ONCE, thread_name_prefix="opener")

    def run(self, decisions: Iterable[Decision]) -> None:
        """Admit everything that ``decisions`` yields; returns when all of it is in the machine or the host stops."""
        try:
            skipped: list[Decision] = []
            for decision in decisions:
                if decision.action is Action.SKIP:
                    skipped.append(decision)
                    if len(skipped) < SKIPPED_AT_ONCE:
                        continue
                self._skip(skipped)
                if not self._host.wait_for_room():
                    break
                if decision.action is not Action.SKIP:
                    self._admit(decision)
            self._skip(skipped)
        finally:
            self._openers.shutdown(wait=True)

    def unused(self) -> Iterator[Recovered]:
        """Recorded uploads of earlier coordinators that nobody continued; they are to be aborted."""
        for uploads in self._recovered.values():
            yield from uploads

    def _admit(self, decision: Decision) -> None:
        info = decision.source
        number = self._uploads.number()
        self._host.selected(info.size)
        try:
            size = self._part_size(decision)
        except SkyplaneError as refusal:
            self._reject(decision, refusal)
            return
        pieces = [(piece.number, piece.offset, piece.length) for piece in cut(info.size, size)]
        if len(pieces) > 1 or self._spec.options.attributes.keep_tags or self._store_copies():
            self._opening.acquire()
            self._openers.submit(self._open, number, decision, pieces, size)
            return
        target = self._target(decision, info, upload_id="", attributes=None)
        self._host.do(lambda: self._machine.admit(number, info, decision.reason, [target], pieces))

    def _skip(self, skipped: list[Decision]) -> None:
        """Settle objects that are left alone, many in one turn of the machine; ``skipped`` is empty then."""
        if skipped:
            left = [(skip.source, skip.destination_key, skip.reason) for skip in skipped]
            self._host.do(lambda: self._machine.skip(0, left))
            skipped.clear()

    def _part_size(self, decision: Decision) -> int:
        if decision.action is Action.REFUSE:
            raise StoreRejected(
                "the object cannot be copied",
                where=self._spec.destinations[0].store.object_uri(decision.destination_key),
                why=decision.reason,
                next_step="Rename the source object or leave it out of the transfer.",
            )
        options, whole = self._spec.options, decision.source.size
        size = part_size(
            whole,
            options.part_size,
            [store.capabilities for store in self._destinations.values()],
            self._pool_bytes,
            threshold=options.multipart_threshold,
        )
        if 0 < options.part_size < size < whole:
            log.info(
                "parts are larger than asked for, as the destination takes only so many",
                extra={"key": decision.source.key, "part_size": options.part_size, "grown_to": size},
            )
        return size

    def _reject(self, decision: Decision, refusal: SkyplaneError) -> None:
        record = refusal.record()
        self._host.do(lambda: self._machine.reject(decision.source, 0, decision.destination_key, record))

    def _target(
        self,
        decision: Decision,
        info: ObjectInfo,
        upload_id: str,
        attributes: ObjectAttributes | None,
        tags: dict[str, str] | None = None,
    ) -> PartTarget:
        options = self._spec.options
        return PartTarget(
            destination=0,
            key=decision.destination_key,
            upload_id=upload_id,
            precondition=decision.precondition,
            attributes=attributes if options.keep_attributes else plain(tags or {}),
            extra_metadata={SOURCE_VERSION_KEY: info.version} if options.record_source else {},
            tags=tags or {},
            mtime_ns=mtime_ns(info) if options.keep_attributes and options.attributes.keep_mtime else None,
        )

    def _open(self, number: int, decision: Decision, pieces: Sequence[tuple[int, int, int]], size: int) -> None:
        try:
            order = self._order(decision) if self._store_copies() else None
            if order is not None and not order.in_parts:
                info = order.info
                tags = info.attributes.tags if info.attributes is not None else {}
                target = self._target(decision, info, "", None, tags)
                self._host.do(lambda: self._machine.admit(number, info, decision.reason, [target], pieces, order=order))
                return
            if len(pieces) == 1:
                info = decision.source
                target = self._target(decision, info, "", None, self._uploads.tags(info))
                self._host.do(lambda: self._machine.admit(number, info, decision.reason, [target], pieces))
                return
            info = self._uploads.described(decision.source) if order is None else order.info
            fitted = self._uploads.fitted(info, 0, decision.destination_key) if order is None else order.fitted
            decision = msgspec.structs.replace(decision, source=info)
            upload_id, already = self._continue(number, decision, pieces, size) or (
                self._uploads.open(info, 0, decision.destination_key, size),
                [],
            )
            target = self._target(decision, info, upload_id, None)
            reason = fitted.explain(decision.reason)
            self._host.do(lambda: self._machine.admit(number, info, reason, [target], pieces, already, order=order))
        except SkyplaneError as refusal:
            self._reject(decision, refusal)
        except Exception as bug:  # noqa: BLE001 - a defect of ours ends the transfer, by name
            self._host.broke(bug)
        finally:
            self._opening.release()

    def _store_copies(self) -> bool:
        """Whether the destination's store is asked to copy by itself, and has not refused it yet."""
        return self._by_store and not self._machine.tally.server_side_refused

    def _order(self, decision: Decision) -> CopyOrder | None:
        """What the store is to copy; None for an object whose copy could not be compared with it."""
        limits = self._destinations[0].capabilities
        in_parts = takes_parts(decision.source.size, limits)
        # An upload is opened with its tags.
        keeps_tags = self._uploads.leaves_tags and not in_parts
        info = self._uploads.described(decision.source, with_tags=not keeps_tags)
        if not copies(info, limits, self._spec.options.verify):
            return None
        fitted = self._uploads.fitted(info, 0, decision.destination_key)
        return CopyOrder(info, fitted, in_parts, keeps_tags)

    def _continue(
        self, number: int, decision: Decision, pieces: Sequence[tuple[int, int, int]], size: int
    ) -> tuple[str, list[PartAck]] | None:
        """An upload of an earlier coordinator for these very bytes, with the parts that the store still lists."""
        for recovered in self._recovered.get((decision.source.key, 0), []):
            upload = recovered.upload
            if (upload.source_version, upload.destination_key, upload.part_size) != (
                decision.source.version,
                decision.destination_key,
                size,
            ):
                continue
            try:
                listed = {
                    part.number: part
                    for part in self._destinations[0].list_parts(upload.destination_key, upload.upload_id)
                }
            except UploadNotFound:
                continue
            self._recovered[(decision.source.key, 0)].remove(recovered)
            acks = _stored_before(number, pieces, listed, recovered.acks, summed=self._summed(decision.source))
            log.info("upload continued", extra={"parts": len(acks)})
            return upload.upload_id, acks
        return None

    def _summed(self, info: ObjectInfo) -> bool:
        """Whether what was read is compared by CRC64NVME in the end."""
        return info.crc64nvme is not None and self._spec.options.verify is not Verification.NONE


def _stored_before(
    number: int,
    pieces: Sequence[tuple[int, int, int]],
    listed: Mapping[int, StoredPart],
    noted: Mapping[int, PartAck],
    *,
    summed: bool,
) -> list[PartAck]:
    """Acks for the parts that need not be sent again: noted when they were stored, or listed with their checksum.

    Nothing but parts of these very bytes was ever put into a recorded upload, so the store's own checksum of a part
    stands in for an ack that was not noted any more: the last seconds of a coordinator's life. With ``summed`` only
    those count whose CRC64NVME we know: without it the object cannot be compared with what the source vouches for.
    """
    acks = []
    for part_number, _offset, size in pieces:
        part, ack = listed.get(part_number), noted.get(part_number)
        if part is None or part.size != size:
            continue
        if ack is not None and (
            ack.stored_part is None or ack.stored_part.part_id != part.part_id or (summed and ack.crc64nvme is None)
        ):
            ack = None
        if ack is not None:
            acks.append(PartAck(number, part_number, 0, size, ack.crc32c, ack.stored_part, crc64nvme=ack.crc64nvme))
        elif part.crc32c is not None and not summed:
            acks.append(PartAck(number, part_number, 0, size, part.crc32c, part))
    return acks
