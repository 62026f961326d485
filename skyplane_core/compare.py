"""When an object that exists at the destination is replaced, and when it is left alone. Pure. See docs/sync.md."""

from __future__ import annotations

import enum
from typing import NamedTuple

from skyplane_core.model import ObjectInfo, Precondition
from skyplane_core.spec import SOURCE_VERSION_KEY, Compare, Overwrite, TransferOptions

ABSENT = Precondition(absent=True)


class Action(enum.Enum):
    """What to do with one object. REFUSE: it cannot be copied and has failed, by name; the others go on.

    DELETE is about a destination object that no source object maps to.
    """

    COPY = "copy"
    SKIP = "skip"
    REFUSE = "refuse"
    DELETE = "delete"


class Verdict(NamedTuple):
    """``precondition`` is what must still hold at the destination when the object is written."""

    action: Action
    reason: str
    precondition: Precondition


class Rule(NamedTuple):
    """What counts as unchanged, and whether only what is newer than the destination may replace it."""

    compare: Compare
    only_newer: bool = False


def rule_of(options: TransferOptions) -> Rule:
    """The rule that a comparison and an overwrite policy make together."""
    compare, overwrite = options.compare, options.overwrite
    if overwrite is Overwrite.ALWAYS:
        compare = Compare.ALWAYS
    elif overwrite is Overwrite.NEVER:
        compare = Compare.NAME
    return Rule(compare, only_newer=overwrite is Overwrite.IF_NEWER)


def needs_lookup(rule: Rule, source: ObjectInfo, there: ObjectInfo | None) -> bool:
    """Whether a HEAD of the destination object could change the verdict. Only ever true for a pair of equal size."""
    if not _undecided(rule, source, there) or there is None:
        return False
    if rule.compare is Compare.CHECKSUM:
        return not _summed(there)
    if rule.compare is not Compare.EXACT or same_sum(source, there) is not None:
        return False
    if there.attributes is None:
        return True
    return _summed(source) and _recorded(there) != source.version


def needs_source_lookup(rule: Rule, source: ObjectInfo, there: ObjectInfo | None) -> bool:
    """Whether a HEAD of the source object, for its checksum, could change the verdict."""
    return rule.compare is Compare.CHECKSUM and _undecided(rule, source, there) and not _summed(source)


def judge(rule: Rule, source: ObjectInfo, there: ObjectInfo | None) -> Verdict:
    """Copy or leave alone, with a stable reason.

    Args:
        there: the destination object as it was seen, None if it was not there. What is unknown of it counts as
            different, so that a doubt costs a copy and never a missing change.
    """
    if there is None:
        return Verdict(Action.COPY, "new", ABSENT)
    action, reason = _differs(rule, source, there)
    return Verdict(action, reason, Precondition(version=there.version))


def _undecided(rule: Rule, source: ObjectInfo, there: ObjectInfo | None) -> bool:
    """Whether size, time and name of a pair leave the verdict open."""
    return (
        there is not None
        and there.size == source.size
        and not _are_markers(source, there)
        and not (rule.only_newer and _written_since(source, there))
    )


def _differs(rule: Rule, source: ObjectInfo, there: ObjectInfo) -> tuple[Action, str]:
    if rule.only_newer and _written_since(source, there):
        return Action.SKIP, "not-newer"
    if rule.compare is Compare.ALWAYS:
        return Action.COPY, "always"
    if rule.compare is Compare.NAME:
        return Action.SKIP, "exists"
    if there.size != source.size:
        return Action.COPY, "changed-size"
    if rule.compare is Compare.SIZE:
        return Action.SKIP, "same-size"
    if _are_markers(source, there):
        return Action.SKIP, "same"
    if rule.compare is Compare.MTIME:
        return _by_time(source, there)
    same = same_sum(source, there)
    if same is not None:
        return (Action.SKIP, "same") if same else (Action.COPY, "changed-checksum")
    if rule.compare is Compare.CHECKSUM:
        return Action.COPY, _without_sum(source, there)
    recorded = _recorded(there)
    if recorded:
        return (Action.SKIP, "same") if recorded == source.version else (Action.COPY, "changed-version")
    return Action.COPY, "unknown"


def _by_time(source: ObjectInfo, there: ObjectInfo) -> tuple[Action, str]:
    """Stores tell whole seconds, so a change in the second of the copy would look like none: that one is copied."""
    if not (source.modified and there.modified):
        return Action.COPY, "unknown"
    if _written_since(source, there):
        return Action.SKIP, "not-newer"
    return Action.COPY, "same-second" if int(source.modified) == int(there.modified) else "newer"


def _written_since(source: ObjectInfo, there: ObjectInfo) -> bool:
    """Whether the destination was written in a later second than the source; False if either time is unknown."""
    return 0 < int(source.modified) < int(there.modified)


def same_other(one: str, another: str) -> bool | None:
    """Whether two checksums of other kinds (``ALGORITHM:text``) are equal; None unless they are of one algorithm."""
    if not one or one.partition(":")[0] != another.partition(":")[0]:
        return None
    return one == another


def same_sum(source: ObjectInfo, there: ObjectInfo) -> bool | None:
    """Whether the stores' checksums of one kind are equal; None where they have none in common."""
    if source.crc32c is not None and there.crc32c is not None:
        return source.crc32c == there.crc32c
    if source.crc64nvme is not None and there.crc64nvme is not None:
        return source.crc64nvme == there.crc64nvme
    return None


def _summed(info: ObjectInfo) -> bool:
    return info.crc32c is not None or info.crc64nvme is not None


def _without_sum(source: ObjectInfo, there: ObjectInfo) -> str:
    if not _summed(source):
        return "no-source-checksum"
    return "no-common-checksum" if _summed(there) else "no-destination-checksum"


def _are_markers(source: ObjectInfo, there: ObjectInfo) -> bool:
    """Whether both are folder markers: empty, so that they cannot differ, whatever is known of their versions."""
    return source.size == there.size == 0 and source.key.endswith("/") and there.key.endswith("/")


def made_from(there: ObjectInfo) -> str | None:
    """The source version that an object says it is a copy of; None if it says nothing."""
    return there.attributes.metadata.get(SOURCE_VERSION_KEY) if there.attributes is not None else None


def _recorded(there: ObjectInfo) -> str:
    return made_from(there) or ""
