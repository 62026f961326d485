"""How a transfer stands, as a line of a log. Pure; time is an argument."""

from __future__ import annotations

from skyplane_core.spec import Progress
from skyplane_core.units import counted, duration, human

EVERY_SECONDS = 30.0


class ProgressLines:
    """Says how one transfer stands, at most every :data:`EVERY_SECONDS`; its speed is that since the last line."""

    def __init__(self) -> None:
        self._said: tuple[float, int] | None = None

    def line(self, progress: Progress, now: float) -> str | None:
        """A line, if one is due; the first look only begins to count.

        Args:
            now: seconds on a clock that does not go back.
        """
        if self._said is None:
            self._said = now, progress.bytes_acked
            return None
        since, before = self._said
        if now - since < EVERY_SECONDS:
            return None
        self._said = now, progress.bytes_acked
        return _line(progress, max(0.0, (progress.bytes_acked - before) / (now - since)))


def _line(progress: Progress, speed: float) -> str:
    moved, wanted = progress.bytes_acked, progress.bytes_selected
    if progress.listing_done:
        share = f"{moved / wanted:.0%}" if wanted else "100%"
        words = [f"{share}: {human(moved)} of {human(wanted)}"]
    else:
        words = [f"{human(moved)} of {human(wanted)} found so far"]
    words.append(f"{human(speed)}/s")
    if progress.listing_done:
        words.append(f"ETA {duration((wanted - moved) / speed)}" if speed and moved <= wanted else "ETA unknown")
    return ", ".join((*words, _objects(progress)))


def _objects(progress: Progress) -> str:
    if progress.listing_done:
        selected = counted(progress.objects_selected, "object")
    else:
        selected = f"{progress.objects_selected:,}+ objects"
    words = f"{progress.objects_copied:,} of {selected}"
    aside = [
        f"{count:,} {name}"
        for name, count in (
            ("skipped", progress.objects_skipped),
            ("failed", progress.objects_failed),
            ("deleted", progress.objects_deleted),
        )
        if count
    ]
    return f"{words} ({', '.join(aside)})" if aside else words
