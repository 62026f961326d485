"""The WAN lab, as docs/testing.md shows it."""

from __future__ import annotations

import subprocess

from tests.docs.pages import on_page


def test_the_lab() -> None:
    (snippet,) = on_page("testing.md", "lab")
    exec(compile(snippet.text, snippet.where, "exec"), {"subprocess": subprocess})  # noqa: S102 - it is our own page
