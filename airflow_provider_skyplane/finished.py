"""What came of a transfer, as a small value that fits into a trigger's event."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from airflow_provider_skyplane.several import Several
from skyplane_core.report.value import brief
from skyplane_core.shrinkage import describe
from skyplane_core.spec import Progress, TransferState
from skyplane_core.units import counted, duration, human

_NAMED_FAILURES = 5
_REASON_CHARS = 1000
"""Of each; the receipt has all of it."""


@dataclasses.dataclass(frozen=True)
class Finished:
    """Counts and where the receipt is; ``failures`` holds the first few as ``(key, reason)``.

    ``compression`` says what was compressed between gateways and what not, and why; empty where nothing could be.
    ``stopped_at``: the limit that ended the selection, or empty. Where a task has several destinations ``destinations``
    holds a Finished of each as plain values, in their order, and the numbers are sums; ``destination`` is then its URI.
    ``course``: the progress with its history, as JSON, of which a report is made; empty where there are several.
    ``usd``: the cost by list prices; None if one of them is not known.
    """

    transfer_id: str
    objects_copied: int
    objects_skipped: int
    objects_failed: int
    bytes_copied: int
    seconds: float
    receipt: str
    failures: tuple[tuple[str, str], ...] = ()
    error: str = ""
    compression: str = ""
    objects_deleted: int = 0
    stopped_at: str = ""
    destination: str = ""
    destinations: tuple[dict[str, Any], ...] = ()
    course: str = ""
    usd: float | None = None

    @classmethod
    def of(cls, progress: Progress) -> Finished:
        """The end of a transfer, as its last progress tells it."""
        ended = progress.ended_at if progress.ended_at is not None else time.time()
        error = progress.error
        if progress.state is not TransferState.DONE and not error and not progress.objects_failed:
            error = f"Transfer {progress.transfer_id} was {progress.state.value}"
        each = [cls.of(one) for one in progress.each] if isinstance(progress, Several) else []
        shrunk = [describe(progress.shrinkage)] if progress.shrinkage is not None else []
        return cls(
            transfer_id=progress.transfer_id,
            objects_copied=progress.objects_copied,
            objects_skipped=progress.objects_skipped,
            objects_failed=progress.objects_failed,
            bytes_copied=progress.bytes_copied,
            seconds=round(max(0.0, ended - progress.started_at), 3),
            receipt=progress.receipt,
            failures=tuple((key, reason[:_REASON_CHARS]) for key, reason in progress.failures[:_NAMED_FAILURES]),
            error=error,
            compression="; ".join(shrunk or [one.compression for one in each if one.compression]),
            objects_deleted=progress.objects_deleted,
            stopped_at=progress.stopped_at,
            destinations=tuple(dataclasses.asdict(one) for one in each),
            usd=_cost(progress) if not each else _sum([one.usd for one in each]),
            course="" if each else msgspec.json.encode(brief(progress)).decode(),
        )

    def named(self, uris: Sequence[str]) -> Finished:
        """The same with ``destinations``, of which ``uris`` are the names in order; one alone is all of it."""
        each = self.destinations or (dataclasses.asdict(self),)
        pairs = zip(each, uris, strict=True)
        return dataclasses.replace(self, destinations=tuple({**one, "destination": uri} for one, uri in pairs))

    @property
    def each(self) -> list[Finished]:
        """Of each destination, where there are several."""
        return [Finished(**one) for one in self.destinations]

    def summary(self) -> dict[str, Any]:
        """What a task leaves for others: plain JSON, small whatever was moved. Failures only where there are some."""
        told = {
            **dataclasses.asdict(self),
            "failures": [list(pair) for pair in self.failures],
            "destinations": [one.summary() for one in self.each],
        }
        left_out = {"compression", "course", "usd"}
        if not self.failed:
            left_out |= {"objects_failed", "failures", "error"}
        left_out |= {name for name in ("destination", "destinations") if not told[name]}
        return {name: value for name, value in told.items() if name not in left_out}

    @property
    def failed(self) -> bool:
        """Whether anything that was selected did not arrive."""
        return bool(self.error or self.objects_failed)

    def success_lines(self) -> list[str]:
        """What was done: a line, or one for each destination where there are several."""
        if self.destinations:
            return [f"{one.destination}: {line}" for one in self.each for line in one.success_lines()]
        speed = f", {human(self.bytes_copied / self.seconds)}/s" if self.bytes_copied and self.seconds else ""
        words = [f"{self.objects_copied:,} copied ({human(self.bytes_copied)} in {duration(self.seconds)}{speed})"]
        words.append(f"{self.objects_skipped:,} skipped")
        if self.objects_deleted:
            words.append(f"{self.objects_deleted:,} deleted")
        if self.stopped_at:
            words.append(f"the selection ended at {self.stopped_at}")
        return [f"{', '.join(words)}. The receipt is {self.receipt}"]

    def failure_text(self) -> str:
        """What went wrong, with the first causes by name and where all of them are listed."""
        if self.destinations:
            failed = [one for one in self.each if one.failed]
            texts = [f"{one.destination or one.transfer_id}: {one.failure_text()}" for one in failed]
            return f"{len(failed)} of {counted(len(self.destinations), 'destination')} failed. {'. '.join(texts)}"
        total = self.objects_copied + self.objects_skipped + self.objects_failed
        text = self.error or f"{self.objects_failed:,} of {counted(total, 'object')} did not arrive"
        causes = [f"{key}: {reason}" for key, reason in self.failures[:_NAMED_FAILURES]]
        if causes:
            text = f"{text.rstrip('.')}. First causes: {'; '.join(causes)}"
        if self.receipt:
            text = f"{text.rstrip('.')}. All of them are in {self.receipt}"
        return text


def _cost(progress: Progress) -> float | None:
    cost = progress.history.cost if progress.history is not None else None
    return None if cost is None else cost.usd


def _sum(parts: Sequence[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def outcome(progress: Progress) -> dict[str, Any]:
    """An ended transfer as the details of a trigger's event: plain JSON, some KB."""
    finished = Finished.of(progress)
    return {
        "status": "error" if finished.failed else "success",
        "message": finished.failure_text() if finished.failed else f"Transfer {finished.transfer_id} is done.",
        "finished": {**dataclasses.asdict(finished), "failures": [list(pair) for pair in finished.failures]},
    }
