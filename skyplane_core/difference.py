"""Whether a transfer would do anything, and what first: as cheap as the answer allows, since it is asked often."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from skyplane_core.compare import Action
from skyplane_core.coordinator.decide import decisions
from skyplane_core.coordinator.preview import PreviewStore
from skyplane_core.diff import Decision
from skyplane_core.errors import TransferCancelled
from skyplane_core.model import ObjectInfo
from skyplane_core.prepare import Prepared, check
from skyplane_core.stores.base import ObjectStore
from skyplane_core.stores.registry import open_store


def first_difference(
    prepared: Prepared, *, gently: bool = False, stopped: Callable[[], bool] = lambda: False
) -> Decision | None:
    """The first thing in key order that the transfer would do, or could not do; None if source and destination agree.

    Listings are streams that end with the first difference, so that only agreement takes all of both.

    Args:
        gently: one request and one page at a time of each listing, for a process that has other work.
        stopped: asked all along; once it says so, nobody waits for the answer any more.

    Raises:
        NothingToTransfer: the source is empty.
        StoreError, UsageError: as :func:`skyplane_core.prepare.check`, or a listing failed.
        TransferCancelled: it was stopped.
    """
    check(prepared)
    with (
        contextlib.closing(open_store(prepared.source)) as source,
        contextlib.closing(open_store(prepared.destinations[0])) as destination,
        contextlib.closing(
            decisions(
                prepared.spec,
                lambda listing: listing,
                _Interruptible(source, stopped, read_ahead=not gently),
                _Interruptible(destination, stopped, read_ahead=not gently),
            )
        ) as stream,
    ):
        return next((decision for decision in stream if decision.action is not Action.SKIP), None)


class _Interruptible(PreviewStore):
    """Ends a listing when it has been stopped."""

    def __init__(self, store: ObjectStore, stopped: Callable[[], bool], *, read_ahead: bool) -> None:
        super().__init__(store, read_ahead=read_ahead)
        self._stopped = stopped

    def list(self, prefix: str = "", *, start_after: str = "", delimiter: str = "") -> Iterator[ObjectInfo]:
        """As it is, but for the end."""
        for info in super().list(prefix, start_after=start_after, delimiter=delimiter):
            if self._stopped():
                raise TransferCancelled("nobody waits for the comparison any more", where=self.uri)
            yield info
