"""The running counts of a transfer."""

from __future__ import annotations

import dataclasses

from skyplane_core.model import LeaseResult, Shrinkage
from skyplane_core.shrinkage import both
from skyplane_core.spec import Progress, TransferState

SHOWN_FAILURES = 20
"""How many failures a progress report names; the receipt names all."""


@dataclasses.dataclass(slots=True)
class Tally:
    """Counts of objects and bytes. ``listed``/``selected`` grow while the listing runs."""

    listed: int = 0
    selected: int = 0
    bytes_selected: int = 0
    copied: int = 0
    skipped: int = 0
    failed: int = 0
    deleted: int = 0
    stopped_at: str = ""
    bytes_copied: int = 0
    server_side: int = 0
    bytes_server_side: int = 0
    server_side_refused: str = ""
    bytes_acked: int = 0
    wire_bytes: int = 0
    shrinkage: Shrinkage | None = None
    retries: int = 0
    listing_done: bool = False
    failures: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    way_bytes: dict[int, int] = dataclasses.field(default_factory=dict)

    @property
    def settled(self) -> int:
        """Objects of the source that are done with, well or not."""
        return self.copied + self.skipped + self.failed

    def carried(self, way: int, size: int) -> None:
        """Count bytes that a way brought to their destination."""
        self.way_bytes[way] = self.way_bytes.get(way, 0) + size

    def sent(self, result: LeaseResult) -> None:
        """Count what a lease has cost between gateways, whatever came of it."""
        self.wire_bytes += result.wire_bytes
        self.shrinkage = both(self.shrinkage, result.shrinkage)

    def fail(self, key: str, reason: str) -> None:
        """Count a failure; the first few are named."""
        self.failed += 1
        if len(self.failures) < SHOWN_FAILURES:
            self.failures.append((key, reason))

    def movement(self) -> tuple[int, ...]:
        """A value that changes whenever anything happened; a transfer whose movement stays equal stands still."""
        return (self.listed, self.copied, self.skipped, self.failed, self.deleted, self.bytes_acked, self.retries)

    def progress(self, transfer_id: str, state: TransferState, **more: object) -> Progress:
        """A report of how the transfer stands; ``more`` are further fields of :class:`Progress`."""
        return Progress(
            transfer_id=transfer_id,
            state=state,
            objects_listed=self.listed,
            objects_selected=self.selected,
            objects_copied=self.copied,
            objects_skipped=self.skipped,
            objects_failed=self.failed,
            objects_deleted=self.deleted,
            stopped_at=self.stopped_at,
            bytes_selected=self.bytes_selected,
            bytes_copied=self.bytes_copied,
            objects_server_side=self.server_side,
            bytes_server_side=self.bytes_server_side,
            server_side_refused=self.server_side_refused,
            bytes_acked=self.bytes_acked,
            wire_bytes=self.wire_bytes,
            shrinkage=self.shrinkage,
            listing_done=self.listing_done,
            failures=tuple(self.failures),
            **more,  # type: ignore[arg-type]  # the fields are checked by msgspec's caller, the head
        )
