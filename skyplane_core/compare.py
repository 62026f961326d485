"""When an object that exists at the destination counts as unchanged. Pure."""

from __future__ import annotations

import enum
from typing import NamedTuple

from skyplane_core.model import ObjectInfo, Precondition
from skyplane_core.spec import SOURCE_VERSION_KEY, Compare

ABSENT = Precondition(absent=True)


class Action(enum.Enum):
    """What to do with one source object. REFUSE: it cannot be copied and has failed, by name; the others go on."""

    COPY = "copy"
    SKIP = "skip"
    REFUSE = "refuse"


class Verdict(NamedTuple):
    """``precondition`` is what must still hold at the destination when the object is written."""

    action: Action
    reason: str
    precondition: Precondition


def needs_lookup(compare: Compare, source: ObjectInfo, there: ObjectInfo | None) -> bool:
    """Whether a HEAD of the destination object could change the verdict. Only ever true for a pair of equal size."""
    if compare is not Compare.EXACT or there is None or there.size != source.size:
        return False
    if (source.crc32c is not None and there.crc32c is not None) or _are_markers(source, there):
        return False
    if there.attributes is None:
        return True
    return source.crc32c is not None and _recorded(there) != source.version


def judge(compare: Compare, source: ObjectInfo, there: ObjectInfo | None) -> Verdict:
    """Copy or leave alone, with a stable reason.

    Args:
        there: the destination object as it was seen, None if it was not there. What is unknown of it counts as
            different, so that a doubt costs a copy and never a missing change.
    """
    if there is None:
        return Verdict(Action.COPY, "new", ABSENT)
    action, reason = _differs(compare, source, there)
    return Verdict(action, reason, Precondition(version=there.version))


def _differs(compare: Compare, source: ObjectInfo, there: ObjectInfo) -> tuple[Action, str]:
    if compare is Compare.ALWAYS:
        return Action.COPY, "always"
    if compare is Compare.NAME:
        return Action.SKIP, "exists"
    if there.size != source.size:
        return Action.COPY, "changed-size"
    if compare is Compare.SIZE:
        return Action.SKIP, "same-size"
    if _are_markers(source, there):
        return Action.SKIP, "same"
    if source.crc32c is not None and there.crc32c is not None:
        return (Action.SKIP, "same") if source.crc32c == there.crc32c else (Action.COPY, "changed-checksum")
    recorded = _recorded(there)
    if recorded:
        return (Action.SKIP, "same") if recorded == source.version else (Action.COPY, "changed-version")
    return Action.COPY, "unknown"


def _are_markers(source: ObjectInfo, there: ObjectInfo) -> bool:
    """Whether both are folder markers: empty, so that they cannot differ, whatever is known of their versions."""
    return source.size == there.size == 0 and source.key.endswith("/") and there.key.endswith("/")


def _recorded(there: ObjectInfo) -> str:
    return there.attributes.metadata.get(SOURCE_VERSION_KEY, "") if there.attributes is not None else ""
