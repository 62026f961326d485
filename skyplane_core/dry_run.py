"""A transfer that is not run: what would become of each object, why, and what it all comes to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from skyplane_core.diff import Action, Decision
from skyplane_core.errors import DeletionRefused
from skyplane_core.mirror import check_cap
from skyplane_core.spec import TransferSpec


class Totals(msgspec.Struct, frozen=True):
    """Numbers of objects and bytes.

    ``stopped_at``: the limit that ended the selection, or empty. ``refused``: why nothing would be deleted, or empty.
    """

    copy: int = 0
    skip: int = 0
    refuse: int = 0
    delete: int = 0
    bytes: int = 0
    bytes_deleted: int = 0
    stopped_at: str = ""
    refused: str = ""

    @property
    def ok(self) -> bool:
        """Whether the transfer would succeed, as far as can be told."""
        return not (self.refuse or self.refused)


class DryRun(Iterator[Decision]):
    """The decisions as a stream, to be taken once; memory does not grow with their number.

    Args:
        decisions: as the transfer itself would make them.
        stopped: gets the name of a limit while they are made.
    """

    def __init__(self, spec: TransferSpec, decisions: Iterator[Decision], stopped: Sequence[str] = ()) -> None:
        self.spec = spec
        self._decisions = decisions
        self._stopped = stopped
        self._objects = dict.fromkeys(Action, 0)
        self._bytes = dict.fromkeys(Action, 0)
        self._held = 0

    def __next__(self) -> Decision:
        decision = next(self._decisions)
        self._objects[decision.action] += 1
        self._bytes[decision.action] += decision.source.size
        self._held += decision.written is not None
        return decision

    @property
    def totals(self) -> Totals:
        """What the decisions that were taken come to: of all of them, once the stream has ended."""
        return Totals(
            **{action.value: number for action, number in self._objects.items()},
            bytes=self._bytes[Action.COPY],
            bytes_deleted=self._bytes[Action.DELETE],
            stopped_at="".join(self._stopped),
            refused=self._refused(),
        )

    def _refused(self) -> str:
        to = self.spec.destinations[0]
        if self._objects[Action.REFUSE] and self._objects[Action.DELETE]:
            return "nothing is deleted where an object cannot be copied"
        try:
            check_cap(
                self.spec.options.max_delete,
                self._objects[Action.DELETE],
                self._held,
                to.store.object_uri(to.mapping.destination),
            )
        except DeletionRefused as error:
            return str(error)
        return ""
