"""What is known of one object while it is in flight. Memory is held for objects in flight only, never for all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from skyplane_core.checksum import combined_crc32c, combined_crc64nvme
from skyplane_core.compare import same_other
from skyplane_core.coordinator.events import Copy, CopyPart
from skyplane_core.fidelity import Fitted
from skyplane_core.model import Copied, ObjectInfo, PartAck, PartLease, PartTarget, StoredPart


@dataclasses.dataclass(slots=True)
class TargetState:
    """One object at one destination: which parts are acknowledged, and whether it is settled."""

    target: PartTarget
    acks: dict[int, PartAck] = dataclasses.field(default_factory=dict)
    settled: bool = False


class CopyOrder(NamedTuple):
    """That the store is to copy an object by itself.

    ``info`` has all checksums of the source; ``fitted`` is what the copy gets. ``in_parts``: part by part, into the
    upload of its target. ``keeps_tags``: the store copies the tags as well, which nobody has read.
    """

    info: ObjectInfo
    fitted: Fitted
    in_parts: bool = False
    keeps_tags: bool = False


@dataclasses.dataclass(slots=True)
class ObjectState:
    """One object in flight. ``parts`` maps the part number to its lease description.

    ``resent``: it was sent before, and what had been read then was not what the source vouches for. ``order``: the
    store is to copy it by itself; None once gateways do.
    """

    number: int
    info: ObjectInfo
    reason: str
    parts: dict[int, PartLease]
    targets: dict[int, TargetState]
    resent: bool = False
    order: CopyOrder | None = None

    @property
    def settled(self) -> bool:
        """Whether it is done or given up at every destination."""
        return all(target.settled for target in self.targets.values())

    def wants(self, part: PartLease) -> bool:
        """Whether some destination of ``part`` still needs it."""
        states = (self.targets[target.destination] for target in part.targets)
        return any(not state.settled and part.part not in state.acks for state in states)

    def remaining(self, part: PartLease) -> PartLease | None:
        """``part`` with only the targets that still need it; None when none does."""
        wanting = tuple(
            target
            for target in part.targets
            if not self.targets[target.destination].settled and part.part not in self.targets[target.destination].acks
        )
        if not wanting:
            return None
        return msgspec.structs.replace(part, targets=wanting)

    def complete(self, destination: int) -> bool:
        """Whether all parts are acknowledged there."""
        return len(self.targets[destination].acks) == len(self.parts)

    def crc32c(self, destination: int) -> int:
        """The whole object's CRC32C, combined from those of its acknowledged parts."""
        acks = self.targets[destination].acks
        return combined_crc32c((acks[number].crc32c, self.parts[number].size) for number in sorted(self.parts))

    def crc64nvme(self, destination: int) -> int | None:
        """The same in CRC64NVME; None if some part was not summed so."""
        acks = self.targets[destination].acks
        sums = []
        for number in sorted(self.parts):
            crc = acks[number].crc64nvme
            if crc is None:
                return None
            sums.append((crc, self.parts[number].size))
        return combined_crc64nvme(sums)

    def difference(self, destination: int) -> str:
        """How the acknowledged parts together differ from what the source vouches for; empty if they do not."""
        info = self.info
        if info.crc32c is not None and (crc := self.crc32c(destination)) != info.crc32c:
            return f"the source vouches for CRC32C {info.crc32c:08x}, what was read has {crc:08x}"
        if info.crc64nvme is not None and (wide := self.crc64nvme(destination)) != info.crc64nvme:
            ours = "none" if wide is None else f"{wide:016x}"
            return f"the source vouches for CRC64NVME {info.crc64nvme:016x}, what was read has {ours}"
        return ""

    def stored_parts(self, destination: int) -> tuple[StoredPart, ...]:
        """The store's words about the parts, by part number, to complete the upload with."""
        acks = self.targets[destination].acks
        parts = []
        for number in sorted(self.parts):
            stored = acks[number].stored_part
            if stored is not None:
                parts.append(stored)
        return tuple(parts)

    def retarget(self, destination: int, **changes: Any) -> None:
        """Change where the object goes, in its parts as well."""
        held = self.targets[destination]
        held.target = msgspec.structs.replace(held.target, **changes)
        for number, part in self.parts.items():
            others = tuple(target for target in part.targets if target.destination != destination)
            self.parts[number] = msgspec.structs.replace(part, targets=(*others, held.target))

    def calls(self, order: CopyOrder) -> Iterator[Copy | CopyPart]:
        """What the store is asked for, to copy what is wanted of the object by itself."""
        for target in (state.target for state in self.targets.values()):
            at, key, info = target.destination, target.key, order.info
            if not order.in_parts:
                yield Copy(self.number, at, key, info, order.fitted.attributes, target.precondition, order.keeps_tags)
                continue
            for part in self.parts.values():
                if self.wants(part):
                    yield CopyPart(self.number, at, key, target.upload_id, info, part)


def compared(info: ObjectInfo, copied: Copied) -> str | None:
    """How a copy differs from what the source vouches for; empty if it does not, None if no sum is in common."""
    if copied.stored.size != info.size:
        return f"{copied.stored.size} bytes instead of {info.size}"
    sums = (
        (_hexadecimal(info.crc32c), _hexadecimal(copied.stored.crc32c)),
        (_hexadecimal(info.crc64nvme), _hexadecimal(copied.crc64nvme)),
    )
    common = [(theirs, ours) for theirs, ours in sums if theirs and ours]
    if same_other(info.other_checksum, copied.other_checksum) is not None:
        common.append((info.other_checksum, copied.other_checksum))
    wrong = [f"{ours} instead of {theirs}" for theirs, ours in common if theirs != ours]
    return "; ".join(wrong) if common else None


def _hexadecimal(checksum: int | None) -> str:
    return "" if checksum is None else f"{checksum:08x}"
