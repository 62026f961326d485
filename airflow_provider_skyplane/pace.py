"""How often a sensor that is deferred looks, and until when. Pure."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Pace:
    """Depends on the clock and on nothing that a restarted triggerer would have forgotten.

    Args:
        interval: seconds between two looks.
        started: when the first look was; this and the other times are seconds since the epoch.
        deadline: the last look is then.
        doubling: wait ever longer: for as long as has been waited so far, which doubles from look to look.
        max_wait: at most so many seconds between two looks.
        not_before: no event before then; see :data:`triggers.skyplane.RESUME_NOT_BEFORE_SECONDS`.
    """

    interval: float
    started: float = 0.0
    deadline: float | None = None
    doubling: bool = False
    max_wait: float | None = None
    not_before: float = 0.0

    def pause(self, now: float) -> float:
        """Seconds until the next look."""
        pause = max(self.interval, now - self.started) if self.doubling else self.interval
        if self.max_wait is not None:
            pause = min(pause, self.max_wait)
        if self.deadline is not None:
            pause = min(pause, self.deadline - now)
        return max(0.0, pause)

    def over(self, now: float) -> bool:
        """Whether the last look has been."""
        return self.deadline is not None and now >= self.deadline
