"""A report's page: what is text stays text, and nothing of it is left out."""

from __future__ import annotations

from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.cost import Cost, CostLine
from skyplane_core.errors import UsageError
from skyplane_core.history import History, Reason, Sample, WayUse
from skyplane_core.model import Compression, Shrinkage
from skyplane_core.report.chart import throughput
from skyplane_core.report.markup import element, text
from skyplane_core.report.page import notice, render
from skyplane_core.report.value import MAX_TEXT, Report, brief, decode, encode
from skyplane_core.spec import Progress, TransferState

ANYTHING = st.text(st.characters())
TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "h1", "h2", "span", "p", "code", "dl", "div",
    "dt", "dd", "section", "svg", "line", "rect", "text", "table", "thead", "tbody", "tr", "th", "td", "meter",
    "footer",
}  # fmt: skip


class Reader(HTMLParser):
    """Tags, attributes and texts, as a browser would find them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


def progress(words: str = "a", **more: object) -> Progress:
    history = History(
        f"s3://{words}",
        (f"gs://{words}", "file:///x"),
        (Sample(0.2, 0, 0), Sample(1.0, 2**30, 3), Sample(2.0, 2**31, 5)),
        (WayUse((words, "gateway-1"), 3 * 2**29), WayUse(("gateway-0",), 2**29)),
        (Reason("skipped", words, 1234, 5, (words,)),),
        COST,
    )
    given = {
        "objects_copied": 5,
        "objects_failed": 3,
        "bytes_copied": 2**31,
        "started_at": 1.7e9,
        "ended_at": 1.7e9 + 2,
        "failures": ((words, words),),
        "error": words,
        "receipt": words,
        "stopped_at": "max_objects",
        "shrinkage": Shrinkage(Compression.AUTO, local_bytes=30),
        "history": history,
    }
    return Progress("t1", TransferState.FAILED, **{**given, **more})  # type: ignore[arg-type]


COST = Cost((CostLine("egress", 2**30, "bytes", 0.09, "list"), CostLine("writes", 7, "requests", None, "none")), ())


def test_what_the_store_copied_by_itself_has_a_share_of_its_own() -> None:
    said = read(render(Report(progress(bytes_server_side=2**31)))).texts
    at = said.index("none: the store copied by itself")
    assert said[at : at + 3] == ["none: the store copied by itself", "2.0 GiB", "50%"]
    assert "none: the store copied by itself" not in read(render(Report(progress()))).texts


@given(ANYTHING)
def test_hostile_words_are_text_and_the_page_can_be_encoded(words: str) -> None:
    page = render(Report(progress(words), words))
    found = read(page)
    assert found.tags <= TAGS
    assert not {name for name in found.attributes if name.startswith("on") or name in ("src", "href")}
    page.encode("utf-8")


def test_what_a_key_says_can_be_read_and_is_no_markup() -> None:
    key = "</code><script>alert(1)</script><img src=x onerror=alert(1)>'\"&"
    texts = read(render(Report(progress(key)))).texts
    assert texts.count(key) == 6  # a failure and why, a reason and an example, the error, the receipt


def test_what_turns_the_writing_around_or_cannot_be_seen_is_spelt_out() -> None:
    assert text("a\u202eb\0\n\udc80ü") == "a\\u202eb\\x00\\n\\udc80ü"
    assert element("i", "<", class_='"', aria_label=None) == '<i class="&quot;">&lt;</i>'


def test_a_page_tells_everything_that_is_known() -> None:
    words = " ".join(read(render(Report(progress(), "dag.task"))).texts)
    for said in ("failed", "2.0 GiB", "1.0 GiB/s", "2 s", "and 2 more", "1,234", "75%", "a → gateway-1", "≥ $0.09"):
        assert said in words, said
    for said in ("unknown", "max_objects", "auto: 30 B", "dag.task", "2023-11-14 22:13:20"):
        assert said in words, said


def test_several_transfers_are_on_one_page() -> None:
    page = render(Report(progress("one")), Report(progress("two")))
    assert (page.count("<main>"), page.count("<svg"), page.count("<html")) == (2, 2, 1)


def test_without_a_history_or_an_end_there_is_a_page_all_the_same() -> None:
    running = Progress("t1", TransferState.RUNNING, started_at=5.0)
    assert "has not ended" in render(Report(running))
    over = Progress("t1", TransferState.DONE, started_at=5.0, ended_at=5.0)
    assert "is not known" in render(Report(over))
    assert "too soon" in render(Report(msgspec.structs.replace(over, history=History())))
    assert "<script" not in notice("<script>")


def test_of_what_did_not_get_through_it_says_how_far_it_came() -> None:
    counts = {"objects_copied": 1, "objects_selected": 4, "bytes_copied": 1024, "bytes_selected": 4096}
    cancelled = Progress("t1", TransferState.CANCELLED, **counts)
    assert "1 of 4 found so far" in render(Report(cancelled))
    page = render(Report(msgspec.structs.replace(cancelled, listing_done=True)))
    assert "1.0 KiB of 4.0 KiB<" in page
    assert "of 4" not in render(Report(msgspec.structs.replace(cancelled, state=TransferState.DONE)))


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 2**60)), max_size=30))
def test_any_course_can_be_drawn(points: list[tuple[float, int]]) -> None:
    times, sizes = sorted(point[0] for point in points), sorted(point[1] for point in points)
    drawing = throughput([Sample(*pair, 0) for pair in zip(times, sizes, strict=True)])
    assert "nan" not in drawing
    assert "inf" not in drawing
    read(drawing)


@given(ANYTHING)
def test_a_report_survives_as_json_and_stays_short(words: str) -> None:
    shortened = brief(progress(words * 500))
    assert len(shortened.error) <= MAX_TEXT
    # Lone surrogates are no JSON; what a gateway has sent as JSON holds none.
    if words.isprintable():
        assert decode(encode((Report(shortened, "x"),))) == (Report(shortened, "x"),)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"progress": {}}]', "[" * 100_000, '"x"'])
def test_what_is_no_report_is_refused(content: str) -> None:
    with pytest.raises(UsageError, match="no report"):
        decode(content)
