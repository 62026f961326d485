"""What a command says while it runs: JSON lines for programs, text for people.

JSON goes to stdout, one object a line, each with an ``event``. Text: the result to stdout, the way to it to stderr.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import click
import msgspec

from skyplane_core.cli.exits import exit_of
from skyplane_core.cli.values import clean, readable
from skyplane_core.diff import Action, Decision
from skyplane_core.dry_run import Totals
from skyplane_core.errors import SkyplaneError
from skyplane_core.planner.plan import Plan
from skyplane_core.progress_lines import ProgressLines
from skyplane_core.shrinkage import describe
from skyplane_core.spec import Progress, TransferSpec, TransferState
from skyplane_core.units import counted, human


class Show(Protocol):
    """Where a command's words go."""

    def plan(self, plan: Plan) -> None:
        """Say what will be done, before it is."""
        ...

    def decision(self, spec: TransferSpec, decision: Decision) -> None:
        """Say what would become of one object."""
        ...

    def counted(self, totals: Totals) -> None:
        """Sum a dry run up."""
        ...

    def watching(self) -> contextlib.AbstractContextManager[None]:
        """Surrounds the calls of :meth:`progress`."""
        ...

    def progress(self, progress: Progress) -> None:
        """Say how the transfer stands."""
        ...

    def result(self, progress: Progress) -> None:
        """Say how the transfer ended."""
        ...

    def note(self, text: str) -> None:
        """Say something on the way."""
        ...

    def item(self, event: str, values: dict[str, Any], text: str) -> None:
        """Say one line of a list."""
        ...

    def error(self, error: SkyplaneError) -> None:
        """Say why it did not work."""
        ...


JSON_PROGRESS_SECONDS = 10.0
"""Between two lines of progress in JSON: a log that is kept has 360 of them for an hour."""


class JsonShow:
    """One JSON object a line.

    Args:
        clock: seconds that do not go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = -math.inf
        self._said: Progress | None = None
        self._seen: Progress | None = None

    def plan(self, plan: Plan) -> None:
        """``{"event": "plan", "plan": ...}``."""
        self._say("plan", plan=plan)

    def decision(self, spec: TransferSpec, decision: Decision) -> None:
        """``{"event": "decision", "action": ..., "reason": ..., ...}``."""
        deletes = decision.action is Action.DELETE
        self._say(
            "decision",
            action=decision.action,
            reason=decision.reason,
            source="" if deletes else spec.source.object_uri(decision.source.key),
            destination=spec.destinations[0].store.object_uri(decision.destination_key),
            size=decision.source.size,
            **{"destination_version" if deletes else "source_version": decision.source.version},
        )

    def counted(self, totals: Totals) -> None:
        """``{"event": "dry-run", "copy": ..., "skip": ..., "refuse": ..., "delete": ..., "bytes": ..., ...}``."""
        self._say("dry-run", **msgspec.to_builtins(totals))

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """How it stood last is said in the end, however it ended."""
        try:
            yield
        finally:
            self._say_progress()

    def progress(self, progress: Progress) -> None:
        """``{"event": "progress", "progress": ...}``, when something has changed and a line is due."""
        self._seen = progress
        now = self._clock()
        if now >= self._due:
            self._due = now + JSON_PROGRESS_SECONDS
            self._say_progress()

    def result(self, progress: Progress) -> None:
        """``{"event": "result", "progress": ...}``."""
        self._say("result", progress=progress)

    def note(self, text: str) -> None:
        """``{"event": "note", "text": ...}``, and the text to whoever watches stderr."""
        self._say("note", text=text)
        click.echo(text, err=True)

    def item(self, event: str, values: dict[str, Any], text: str) -> None:
        """``{"event": event, **values}``."""
        del text
        self._say(event, **values)

    def error(self, error: SkyplaneError) -> None:
        """``{"event": "error", ...}``, and the text to stderr."""
        self._say("error", exit_code=int(exit_of(error)), **msgspec.to_builtins(error.record()))
        click.echo(f"Error: {readable(str(error))}", err=True)

    def _say_progress(self) -> None:
        if self._seen != self._said:
            self._said = self._seen
            self._say("progress", progress=self._seen)

    def _say(self, event: str, **values: Any) -> None:
        click.echo(msgspec.json.encode({"event": event, **values}))


class TextShow:
    """Lines for people; :class:`skyplane_core.cli.bar.BarShow` has a bar where there is a terminal.

    Args:
        clock: seconds that do not go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lines = ProgressLines()

    def plan(self, plan: Plan) -> None:
        """The plan's own lines."""
        for line in plan.render():
            click.echo(clean(line), err=True)

    def decision(self, spec: TransferSpec, decision: Decision) -> None:
        """One line an object."""
        which = spec.destinations[0].store.object_uri(decision.destination_key)
        if decision.action is not Action.DELETE:
            which = f"{spec.source.object_uri(decision.source.key)} -> {which}"
        what = f"{decision.reason}, {human(decision.source.size)}"
        click.echo(clean(f"{decision.action.value:<6} {which} ({what})"))

    def counted(self, totals: Totals) -> None:
        """One line, and what would be left undone."""
        said = ", ".join(f"{getattr(totals, action.value)} to {action.value}" for action in Action)
        sizes = f"{human(totals.bytes)} to copy"
        if totals.delete:
            sizes += f", {human(totals.bytes_deleted)} to delete"
        click.echo(f"Dry run: {said}; {sizes}. Nothing was provisioned or written.")
        if totals.stopped_at:
            click.echo(_stopped(totals.stopped_at))
        if totals.refused:
            click.echo(clean(f"It would fail: {totals.refused}"), err=True)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Nothing surrounds them."""
        yield

    def progress(self, progress: Progress) -> None:
        """A line now and then, so that a log tells that it goes on."""
        if line := self._lines.line(progress, self._clock()):
            click.echo(line, err=True)

    def result(self, progress: Progress) -> None:
        """The totals, and the first failures by name."""
        for key, reason in progress.failures:
            click.echo(clean(f"failed {key}: {reason}"), err=True)
        unnamed = progress.objects_failed - len(progress.failures)
        if progress.failures and unnamed > 0:
            click.echo(f"... and {unnamed} more", err=True)
        word = {TransferState.DONE: "Done", TransferState.CANCELLED: "Cancelled"}.get(progress.state, "Failed")
        counts = (
            f"{progress.objects_copied} copied, {progress.objects_skipped} skipped, {progress.objects_failed} failed"
        )
        if progress.objects_deleted:
            counts += f", {progress.objects_deleted} deleted"
        click.echo(f"{word}: {counts}; {human(progress.bytes_copied)} {_pace(progress)}".rstrip())
        if progress.stopped_at:
            click.echo(_stopped(progress.stopped_at))
        if progress.objects_server_side:
            moved = human(progress.bytes_server_side)
            click.echo(f"Copied by the store itself: {counted(progress.objects_server_side, 'object')}, {moved}")
        if progress.server_side_refused:
            click.echo(clean(f"The store does not copy by itself: {progress.server_side_refused}"))
        if progress.shrinkage is not None:
            click.echo(f"Compression: {describe(progress.shrinkage)}")
        if progress.receipt:
            click.echo(clean(f"Receipt: {progress.receipt}"))

    def note(self, text: str) -> None:
        """On stderr."""
        click.echo(clean(text), err=True)

    def item(self, event: str, values: dict[str, Any], text: str) -> None:
        """The text."""
        del event, values
        click.echo(clean(text))

    def error(self, error: SkyplaneError) -> None:
        """On stderr."""
        click.echo(f"Error: {readable(str(error))}", err=True)


def _stopped(limit: str) -> str:
    option = "--" + limit.replace("_", "-")
    return f"The selection ended at {option}: what comes after it in the order of keys was not selected."


def _pace(progress: Progress) -> str:
    seconds = (progress.ended_at or 0.0) - progress.started_at
    if not progress.started_at or seconds <= 0:
        return ""
    return f"in {seconds:.1f} s ({human(progress.bytes_copied / seconds)}/s)"
