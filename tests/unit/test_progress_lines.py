"""Lines of a task's log about a running transfer: readable, and not many."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.progress_lines import EVERY_SECONDS, ProgressLines
from skyplane_core.spec import Progress, TransferState

GIB = 2**30


def running(**more: object) -> Progress:
    return Progress("t1", TransferState.RUNNING, **more)  # type: ignore[arg-type]


LINES = [
    (
        {"bytes_acked": 6 * GIB, "bytes_selected": 24 * GIB, "listing_done": True, "objects_selected": 4000,
         "objects_copied": 1234},
        "25%: 6.0 GiB of 24.0 GiB, 204.8 MiB/s, ETA 1:30 min, 1,234 of 4,000 objects",
    ),
    (
        {"bytes_acked": 6 * GIB, "bytes_selected": 24 * GIB, "objects_selected": 4000, "objects_failed": 2,
         "objects_skipped": 1500, "objects_deleted": 1},
        "6.0 GiB of 24.0 GiB found so far, 204.8 MiB/s, 0 of 4,000+ objects (1,500 skipped, 2 failed, 1 deleted)",
    ),
    ({"listing_done": True}, "100%: 0 B of 0 B, 0 B/s, ETA unknown, 0 of 0 objects"),
    ({"listing_done": True, "bytes_selected": 10}, "0%: 0 B of 10 B, 0 B/s, ETA unknown, 0 of 0 objects"),
    (
        {"listing_done": True, "bytes_acked": 2, "bytes_selected": 4, "objects_selected": 1},
        "50%: 2 B of 4 B, 0 B/s, ETA 30 s, 0 of 1 object",
    ),
    ({"bytes_selected": 4, "objects_selected": 1}, "0 B of 4 B found so far, 0 B/s, 0 of 1+ objects"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "line"), LINES)
def test_a_line_can_be_read(given: dict[str, object], line: str) -> None:
    lines = ProgressLines()
    assert lines.line(running(), 100.0) is None
    assert lines.line(running(**given), 129.9) is None
    assert lines.line(running(**given), 130.0) == line


def test_speed_is_that_since_the_last_line() -> None:
    lines = ProgressLines()
    lines.line(running(bytes_acked=GIB), 0.0)
    assert "1.0 GiB/s" in (lines.line(running(bytes_acked=31 * GIB), 30.0) or "")
    # A part that is sent again may have been counted before.
    assert " 0 B/s" in (lines.line(running(bytes_acked=30 * GIB), 60.0) or "")


@given(st.lists(st.tuples(st.floats(0, 50), st.integers(0, 2**60)), max_size=100))
def test_there_are_never_two_in_thirty_seconds(looks: list[tuple[float, int]]) -> None:
    lines, now, said = ProgressLines(), 0.0, []
    for passed, size in looks:
        now += passed
        if lines.line(running(bytes_acked=size, bytes_selected=2**60, listing_done=True), now):
            said.append(now)
    assert all(after - before >= EVERY_SECONDS for before, after in itertools.pairwise(said))
