"""A real browser, driven by playwright."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's, without a window.

    Raises:
        FileNotFoundError: it is not installed.
    """
    program = shutil.which("chromium")
    if program is None:
        raise FileNotFoundError("chromium is not installed: scripts/setup --lab")
    with sync_playwright() as playwright:
        # Tests run as root in containers, where the browser's own sandbox cannot be set up.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def overheard(context: BrowserContext) -> tuple[Page, list[str]]:
    """A new page, and whatever it says or asks for from now on."""
    page, heard = context.new_page(), list[str]()
    page.on("console", lambda message: heard.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: heard.append(f"error: {error}"))
    page.on("request", lambda asked: heard.append(f"request: {asked.url}"))
    return page, heard
