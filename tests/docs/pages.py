"""The documentation's code blocks, and how each is run.

A block's language says how: ``python`` is a program of its own, ``bash`` a shell script. A comment in the line before
says otherwise: ``<!-- run: task -->`` for operators that stand in a DAG which the page does not show, ``dag`` for a
whole DAG file, ``connections`` for variables that Airflow reads connections from, ``case`` for a case of the
conformance suite, and the names in :data:`ELSEWHERE` for what another test runs. A block without a language is output.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "docs", "**/*.md")
RUNS = ("python", "bash", "dag", "task", "connections", "case")
ELSEWHERE = {
    "hosts": "tests/integration/ssh/test_documented.py",
    "hdfs": "tests/integration/stores/test_hdfs_on_hadoop.py",
    "lab": "tests/lab/test_documented.py",
    "tools": "tests/docs/test_tools.py",
}
_BLOCK = re.compile(
    r"(?:^<!-- run: (?P<run>\w+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", flags=re.DOTALL | re.MULTILINE
)


@dataclasses.dataclass(frozen=True)
class Snippet:
    """One block. ``where`` is ``docs/page.md:line``."""

    page: str
    line: int
    run: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def snippets(run: str | None = None) -> list[Snippet]:
    """All blocks that have a language, or those that are run in one way."""
    found = []
    folder, pattern = PAGES
    for path in sorted(folder.glob(pattern)):
        text = path.read_text()
        for block in _BLOCK.finditer(text):
            if block["run"] or block["language"]:
                line = text.count("\n", 0, block.start("language")) + 1
                name = str(path.relative_to(ROOT))
                found.append(Snippet(name, line, block["run"] or block["language"], block["text"]))
    return [snippet for snippet in found if run is None or snippet.run == run]


def on_page(page: str, run: str) -> list[Snippet]:
    """A page's blocks of one kind, in order."""
    return [snippet for snippet in snippets(run) if snippet.page == f"docs/{page}"]
