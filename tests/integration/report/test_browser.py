"""The page of a report in a real browser: drawn, silent, and with hostile keys as text, in light and in dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from skyplane_core.client import ClientConfig, SkyplaneClient
from skyplane_core.report.page import render
from skyplane_core.report.value import Report, brief
from tests.servers.chromium import chromium, overheard

HOSTILE = "<img src=x onerror=document.title='owned'>&'\"\u202e.csv"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a sync between directories by real gateways: some is skipped, and one key cannot be written."""
    root = tmp_path_factory.mktemp("report")
    source, destination = root / "src", root / "dst"
    source.mkdir()
    for number in range(40):
        (source / f"f{number:02}").write_bytes(b"x" * 2**20)
    (source / HOSTILE).write_bytes(b"hostile")
    (source / "taken").write_bytes(b"a file where there is a directory")
    (destination / "taken" / "x").mkdir(parents=True)
    client = SkyplaneClient(ClientConfig(gateways=2, control_secret=b"s" * 32))
    dataplane = client.dataplane()
    with dataplane.auto_deprovision():
        dataplane.provision()
        for _ in range(2):
            prepared = client.prepare(f"file://{source}", f"file://{destination}", mode="sync")
            result = dataplane.submit(prepared).wait()
    progress = result.progress
    assert (progress.objects_skipped, progress.objects_failed) == (41, 1), progress
    assert progress.history is not None
    page = root / "report.html"
    page.write_text(render(Report(brief(progress), run=HOSTILE), Report(first_of(client, source, root))))
    return page


def first_of(client: SkyplaneClient, source: Path, root: Path) -> Any:
    return client.copy(f"file://{source}", f"file://{root / 'again'}", recursive=True).progress


@pytest.fixture(params=["light", "dark"])
def opened(request: pytest.FixtureRequest, browser: Browser, document: Path) -> Iterator[tuple[Page, list[str]]]:
    """The page and what it has said or asked for, in either colour scheme."""
    context = browser.new_context(color_scheme=request.param, viewport={"width": 1000, "height": 900})
    page, heard = overheard(context)
    page.goto(document.as_uri())
    yield page, heard
    context.close()


def test_it_is_drawn_loads_nothing_and_says_nothing(opened: tuple[Page, list[str]], document: Path) -> None:
    page, heard = opened
    assert heard == [f"request: {document.as_uri()}"]
    chart = page.locator("svg[role=img]").first
    box = chart.bounding_box()
    assert box is not None
    assert box["width"] > 600
    assert box["height"] > 100
    bars = chart.locator("rect.bar")
    assert bars.count() >= 1
    heights = [bars.nth(number).bounding_box() for number in range(bars.count())]
    assert max(found["height"] for found in heights if found is not None) > 50
    # Nothing sticks out at the sides.
    assert page.evaluate("document.documentElement.scrollWidth") <= 1000
    assert page.locator(".state").first.inner_text() == "failed"


def test_a_hostile_key_is_text(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    assert page.title().startswith("Transfer ")
    assert page.locator("img, script, iframe, a, link").count() == 0
    assert page.get_by_text("onerror=document.title='owned'>&'\"\\u202e.csv").count() >= 1


def test_both_colour_schemes_can_be_read(opened: tuple[Page, list[str]]) -> None:
    page, _ = opened
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    style = "getComputedStyle(document.body)"
    paper, ink = (brightness(page.evaluate(f"{style}.{name}")) for name in ("backgroundColor", "color"))
    assert (paper < ink) is dark
    assert abs(paper - ink) > 150
    bar = page.evaluate("getComputedStyle(document.querySelector('rect.bar')).fill")
    assert abs(brightness(bar) - paper) > 40


def brightness(colour: str) -> float:
    red, green, blue = (float(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
    return 0.299 * red + 0.587 * green + 0.114 * blue
