"""``--report``: the page of HTML that tells how a transfer went."""

from __future__ import annotations

import os
from pathlib import Path

from skyplane_core.cli.show import Show
from skyplane_core.errors import UsageError
from skyplane_core.report.page import render
from skyplane_core.report.value import Report, brief
from skyplane_core.spec import Progress


def check_report(name: str) -> None:
    """Refuse a place that no file can be written to.

    Raises:
        UsageError: it names the place.
    """
    path = Path(name)
    taken = path if path.exists() else path.parent
    if path.is_dir() or not path.parent.is_dir() or not os.access(taken, os.W_OK):
        raise UsageError(
            "the report cannot be written there", where=name, next_step="Name a file in a writable directory."
        )


def save_report(name: str, progress: Progress, show: Show) -> None:
    """Write the page of an ended transfer, replacing what was there. How that ended matters more than its report."""
    try:
        Path(name).write_text(render(Report(brief(progress))), encoding="utf-8")
    except OSError as error:
        show.note(f"The report could not be written [{name}]: {error.strerror}. What was transferred is as said above.")
