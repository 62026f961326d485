"""The progress bar of a terminal, on stderr."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from skyplane_core.cli.show import TextShow
from skyplane_core.spec import Progress
from skyplane_core.units import human


class SpeedColumn(ProgressColumn):
    """The speed in the units of the column beside it; rich's own counts in thousands."""

    def render(self, task: Task) -> Text:
        """Nothing as long as it is not known."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{human(speed)}/s", style="progress.data.speed")


class BarShow(TextShow):
    """Text, and a bar while the transfer runs."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            SpeedColumn(),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """The bar is on the screen inside."""
        with self._bar:
            self._task = self._bar.add_task("starting", total=None)
            yield

    def progress(self, progress: Progress) -> None:
        """Move the bar."""
        if self._task is not None:
            self._bar.update(
                self._task,
                description=describe(progress),
                total=progress.bytes_selected if progress.listing_done else None,
                completed=progress.bytes_acked,
            )


def describe(progress: Progress) -> str:
    """The words before the bar."""
    settled = progress.objects_copied + progress.objects_skipped + progress.objects_failed
    more = "" if progress.listing_done else "+, listing"
    failed = f", {progress.objects_failed} failed" if progress.objects_failed else ""
    failed += f", {progress.objects_deleted} deleted" if progress.objects_deleted else ""
    return f"{settled}/{max(settled, progress.objects_selected + progress.objects_skipped)}{more} objects{failed}"
