"""The page of a report: one HTML document without scripts, which loads nothing, and so can be read anywhere."""

from __future__ import annotations

import datetime
import functools
import importlib.resources
from collections.abc import Iterable

from skyplane_core import __version__
from skyplane_core.cost import Cost, CostLine
from skyplane_core.history import History, Reason
from skyplane_core.report.chart import throughput
from skyplane_core.report.markup import Html, element, joined
from skyplane_core.report.value import Report
from skyplane_core.shrinkage import describe
from skyplane_core.spec import Progress, TransferState
from skyplane_core.units import dollars, duration, human

CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""In the page itself; who serves it says the same as a header."""

_NOTHING = Html("")
_HEAD = Html(
    '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_SECURITY_POLICY}">'
    '<meta name="referrer" content="no-referrer">'
)


def render(*reports: Report) -> str:
    """The document: one report after the other. Whatever keys, reasons and URIs hold, it is text in there."""
    title = ", ".join(report.progress.transfer_id for report in reports)
    head = element("head", _HEAD, element("title", f"Transfer {title}"), element("style", _style()))
    footer = element("footer", element("p", f"Times are in UTC. Skyplane {__version__}"))
    body = element("body", *map(_main, reports), footer)
    return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"


def notice(words: str) -> str:
    """A page that says why there is no report."""
    head = element("head", _HEAD, element("title", "Transfer report"), element("style", _style()))
    main = element("main", element("header", element("h1", "Transfer report")), element("p", words))
    return "<!doctype html>\n" + element("html", head, element("body", main), lang="en") + "\n"


def _main(report: Report) -> Html:
    progress = report.progress
    history = progress.history or History()
    return element(
        "main",
        _header(report, history),
        _tiles(progress, history),
        element("section", element("h2", "Why it failed"), element("p", progress.error), class_="error")
        if progress.error
        else _NOTHING,
        _throughput(progress, history),
        _failures(progress),
        _reasons(history.reasons),
        _ways(progress, history),
        _cost(history.cost),
        _receipt(progress),
    )


def _header(report: Report, history: History) -> Html:
    progress = report.progress
    state = progress.state.value
    ways = [element("p", _code(history.source), " → ", _code(there)) for there in history.destinations]
    began = _moment(progress.started_at)
    ended = f" to {_moment(progress.ended_at)}" if progress.ended_at is not None else ""
    return element(
        "header",
        element("h1", "Transfer report ", element("span", state, class_=f"state {state}")),
        *ways,
        element("p", "Transfer ", _code(progress.transfer_id), f", {began}{ended}"),
        element("p", "Run by ", _code(report.run)) if report.run else _NOTHING,
    )


def _tiles(progress: Progress, history: History) -> Html:
    tiles = [
        ("Objects copied", _of(progress, f"{progress.objects_copied:,}", f"{progress.objects_selected:,}")),
        ("Bytes copied", _of(progress, human(progress.bytes_copied), human(progress.bytes_selected))),
        ("Skipped", f"{progress.objects_skipped:,}"),
        ("Failed", f"{progress.objects_failed:,}"),
    ]
    if progress.objects_deleted:
        tiles.append(("Deleted", f"{progress.objects_deleted:,}"))
    seconds = (progress.ended_at or 0.0) - progress.started_at
    if seconds > 0:
        tiles += [("Took", duration(seconds)), ("On average", f"{human(progress.bytes_copied / seconds)}/s")]
    if history.cost is not None:
        tiles.append(("Cost", _total(history.cost)))
    return element(
        "dl", *(element("div", element("dt", name), element("dd", value)) for name, value in tiles), class_="tiles"
    )


def _of(progress: Progress, copied: str, selected: str) -> str:
    """How far a transfer came that did not get through."""
    if progress.state is TransferState.DONE:
        return copied
    return f"{copied} of {selected}{'' if progress.listing_done else ' found so far'}"


def _throughput(progress: Progress, history: History) -> Html:
    drawing = throughput(history.samples)
    if not drawing:
        if progress.state.ended and progress.history is None:
            drawing = element("p", "How it went over time is not known.", class_="quiet")
        elif progress.state.ended:
            drawing = element("p", "It was over too soon to be measured, or moved nothing.", class_="quiet")
        else:
            drawing = element("p", "The transfer has not ended.", class_="quiet")
    notes = [
        element("p", f"Compression: {describe(progress.shrinkage)}.", class_="quiet")
        if progress.shrinkage is not None
        else _NOTHING,
        element("p", f"The selection ended at {progress.stopped_at}: what comes after it was not selected.")
        if progress.stopped_at
        else _NOTHING,
    ]
    return element("section", element("h2", "Throughput over time"), drawing, *notes)


def _failures(progress: Progress) -> Html:
    if not progress.objects_failed:
        return _NOTHING
    more = progress.objects_failed - len(progress.failures)
    return element(
        "section",
        element("h2", f"Failed objects ({progress.objects_failed:,})"),
        _table(("Object", "Reason"), ((_code(key), reason) for key, reason in progress.failures)),
        element("p", f"… and {more:,} more; the receipt names all.", class_="quiet") if more > 0 else _NOTHING,
    )


def _reasons(reasons: Iterable[Reason]) -> Html:
    rows = [
        (found.outcome, found.reason, f"{found.objects:,}", human(found.bytes), _examples(found)) for found in reasons
    ]
    if not rows:
        return _NOTHING
    titles = ("Outcome", "Reason", "#Objects", "#Size", "Such as")
    return element("section", element("h2", "What became of the objects"), _table(titles, rows))


def _ways(progress: Progress, history: History) -> Html:
    carried = [(" → ".join(way.gateways), way.bytes) for way in history.ways]
    if progress.bytes_server_side:
        carried.append(("none: the store copied by itself", progress.bytes_server_side))
    moved = sum(size for _, size in carried) or 1
    rows = [
        (way, human(size), f"{size / moved:.0%}", element("meter", value=size / moved, aria_label="share of the bytes"))
        for way, size in carried
    ]
    if not rows:
        return _NOTHING
    return element("section", element("h2", "Routes"), _table(("Gateways", "#Carried", "#Share", ""), rows))


def _cost(cost: Cost | None) -> Html:
    if cost is None:
        return _NOTHING
    lines = [("once", line) for line in cost.once] + [("a month", line) for line in cost.monthly]
    rows = [(line.what, _quantity(line), dollars(line.usd), often, line.basis) for often, line in lines]
    return element(
        "section",
        element("h2", "Cost by list prices"),
        _table(("For", "#Quantity", "#USD", "Charged", "By"), rows),
        element("p", "An estimate: discounts, free tiers and retries are not in it.", class_="quiet"),
    )


def _total(cost: Cost) -> str:
    return f"≥ {dollars(cost.usd_known)}" if cost.usd is None else dollars(cost.usd)


def _quantity(line: CostLine) -> str:
    return f"{line.quantity:,.0f}" if line.unit == "requests" else human(line.quantity)


def _receipt(progress: Progress) -> Html:
    if not progress.receipt:
        return _NOTHING
    return element("p", "Receipt, with a line for each object: ", _code(progress.receipt), class_="quiet")


def _table(titles: Iterable[str], rows: Iterable[Iterable[object]]) -> Html:
    """A title that begins with ``#`` is of a column of numbers."""
    titles = tuple(titles)
    kinds = ["number" if title.startswith("#") else None for title in titles]
    head = element(
        "tr", *(element("th", title.lstrip("#"), class_=kind) for title, kind in zip(titles, kinds, strict=True))
    )
    body = [
        element("tr", *(element("td", cell, class_=kind) for cell, kind in zip(row, kinds, strict=True)))
        for row in rows
    ]
    table = element("table", element("thead", head), element("tbody", *body))
    return element("div", table, class_="wide")


def _examples(reason: Reason) -> Html:
    return joined(*(joined(_code(key), " ") for key in reason.examples))


@functools.cache
def _style() -> Html:
    return Html(importlib.resources.files(__package__).joinpath("style.css").read_text("utf-8"))


def _code(words: str) -> Html:
    return element("code", words)


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
