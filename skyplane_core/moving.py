"""What a move deletes at its source: exactly what has arrived, as it was when it was copied."""

from __future__ import annotations

import logging
from typing import Protocol

import msgspec

from skyplane_core.compare import same_sum
from skyplane_core.errors import ObjectNotFound, PreconditionFailed
from skyplane_core.model import ObjectAttributes, ObjectInfo, Precondition
from skyplane_core.spec import SOURCE_VERSION_KEY, Outcome, ReceiptLine

log = logging.getLogger(__name__)


class Removable(Protocol):
    """What deleting needs of a store. The calls mean what they mean in :class:`ObjectStore`."""

    def head(self, key: str) -> ObjectInfo:
        """One object, with its attributes."""
        ...

    def delete(self, key: str, precondition: Precondition = Precondition()) -> None:
        """Delete one object, as far as ``precondition`` is met."""
        ...


def concerned(line: ReceiptLine, *, same: bool) -> bool:
    """Whether the source object of a line is to go: it was copied; or, with ``same``, its copy may have been there."""
    return line.outcome is Outcome.COPIED or (same and line.outcome is Outcome.SKIPPED and bool(line.destination_key))


def arrived(source: Removable, destination: Removable, line: ReceiptLine) -> ReceiptLine | None:
    """The line of an object whose copy is at the destination, with that copy's version; None for one that is not there.

    What was left alone counts if it is what a copy would be, as both stores tell now: the same size and checksum, the
    same headers and metadata.
    """
    if line.outcome is Outcome.COPIED:
        return line
    try:
        here, there = source.head(line.key), destination.head(line.destination_key)
    except ObjectNotFound:
        return None
    # A bucket can have two names: what may be one and the same object is no copy of itself.
    itself = line.key == line.destination_key and here.version == there.version
    if itself or here.version != line.source_version or not is_copy(here, there):
        return None
    return msgspec.structs.replace(line, destination_version=there.version)


def is_copy(source: ObjectInfo, there: ObjectInfo) -> bool:
    """Whether nothing of the source object would be lost with it. What is unknown of either counts as different."""
    if source.size != there.size or not same_sum(source, there):
        return False
    return source.attributes is not None and there.attributes is not None and _told(source) == _told(there)


def _told(info: ObjectInfo) -> ObjectAttributes | None:
    """Headers and metadata without what is each store's own: class, times and permissions."""
    if info.attributes is None:
        return None
    metadata = {name: value for name, value in info.attributes.metadata.items() if name != SOURCE_VERSION_KEY}
    return msgspec.structs.replace(info.attributes, metadata=metadata, storage_class="", mtime_ns=None, mode=None)


def remove(source: Removable, line: ReceiptLine) -> None:
    """Delete the source object of a line, at the version that was copied. May be repeated.

    Raises:
        PreconditionFailed: it was written since, and stays.
    """
    try:
        source.delete(line.key, Precondition(version=line.source_version))
    except PreconditionFailed as error:
        try:
            source.head(line.key)
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
