"""The progress bar of a terminal, on stderr."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from skyplane_core.cli.show import TextShow
from skyplane_core.spec import Progress


class BarShow(TextShow):
    """Text, and a bar while the transfer runs."""

    def __init__(self, console: Console | None = None) -> None:
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
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
