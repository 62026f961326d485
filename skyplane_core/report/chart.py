"""The throughput of a transfer over time, as a drawing. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from skyplane_core.history import Sample, rates
from skyplane_core.report.markup import Html, element, joined
from skyplane_core.units import duration, human

WIDTH, HEIGHT = 860, 260
LEFT, RIGHT, TOP, BOTTOM = 84, 14, 14, 34
_TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)


def throughput(samples: Sequence[Sample]) -> Html:
    """Bytes a second, a step for each two samples, and the mean. Empty where nothing was moved for any time."""
    steps = list(rates(samples))
    if not steps or samples[-1].bytes <= 0:
        return Html("")
    end, highest = steps[-1][1], max(rate for _, _, rate in steps)
    top = _round_up(highest)
    mean = (samples[-1].bytes - samples[0].bytes) / (end - samples[0].seconds)

    def x(seconds: float) -> float:
        return LEFT + seconds / end * (WIDTH - LEFT - RIGHT)

    def y(rate: float) -> float:
        return HEIGHT - BOTTOM - rate / top * (HEIGHT - TOP - BOTTOM)

    bars = [
        element(
            "rect",
            element("title", f"{duration(began)} to {duration(until)}: {human(rate)}/s"),
            class_="bar",
            x=f"{x(began):.2f}",
            y=f"{y(rate):.2f}",
            width=f"{x(until) - x(began):.2f}",
            height=f"{y(0) - y(rate):.2f}",
        )
        for began, until, rate in steps
    ]
    across = [
        joined(
            _line("grid", LEFT, y(level), WIDTH - RIGHT, y(level)),
            _label(f"{human(level)}/s", LEFT - 8, y(level) + 4, "end"),
        )
        for level in (0, top / 4, top / 2, top * 3 / 4, top)
    ]
    along = [_label(duration(tick), x(tick), HEIGHT - 10, "middle") for tick in _times(end)]
    label = f"Throughput over {duration(end)}: {human(mean)}/s on average, {human(highest)}/s at most"
    return element(
        "svg",
        *across,
        *along,
        *bars,
        _line("mean", LEFT, y(mean), WIDTH - RIGHT, y(mean)),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=label,
    )


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Html:
    return element("line", class_=kind, x1=f"{x1:.2f}", y1=f"{y1:.2f}", x2=f"{x2:.2f}", y2=f"{y2:.2f}")


def _label(words: str, x: float, y: float, anchor: str) -> Html:
    return element("text", words, x=f"{x:.2f}", y=f"{y:.2f}", text_anchor=anchor)


def _times(end: float) -> Iterator[float]:
    """At most nine round moments up to ``end``."""
    apart = next((tick for tick in _TICKS if end / tick <= 8), 86_400 * math.ceil(end / 86_400 / 8))
    yield from (tick * apart for tick in range(int(end // apart) + 1))


def _round_up(rate: float) -> float:
    """To a number of which the quarters are easy to read: 1, 2 or 4 times a power of two."""
    return 2.0 ** math.ceil(math.log2(max(rate, 1.0)))
