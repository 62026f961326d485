"""How an estimate is said, to people and to programs."""

from __future__ import annotations

import json

import pytest

from skyplane_core.cli.show import JsonShow, TextShow
from skyplane_core.cli.show_cost import show_cost
from skyplane_core.planner.cost import Cost, CostLine

FREE = CostLine("list requests at the source", 1, "requests", 0.0, "on this machine")
EGRESS = CostLine("egress from the source", 1 << 30, "bytes", 0.09, "aws us-east-1: first; https://a, 2026-01-01")
READS = CostLine("read requests at the source", 2000, "requests", 0.0008, "aws us-east-1")
NETWORK = CostLine("egress from gateway g0", 1 << 30, "bytes", None, "not known")
STORAGE = CostLine("storage at the destination", 1 << 30, "bytes a month", 0.02, "gcp us-central1, assumed")


def test_what_is_known_is_shown_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_cost(TextShow(), Cost((EGRESS, READS, FREE), (STORAGE,)))
    assert capsys.readouterr().out.splitlines() == [
        "     $0.09  egress from the source, 1.0 GiB (aws us-east-1: first; https://a, 2026-01-01)",
        "   < $0.01  read requests at the source, 2,000 requests (aws us-east-1)",
        "     $0.02  storage at the destination, 1.0 GiB (gcp us-central1, assumed)",
        "Cost by list prices: $0.09 once, then $0.02 a month for what is copied.",
    ]


def test_what_is_not_known_is_named_and_no_sum_hides_it(capsys: pytest.CaptureFixture[str]) -> None:
    kept = CostLine(STORAGE.what, 1 << 30, STORAGE.unit, None, "there is no price")
    show_cost(TextShow(), Cost((EGRESS, NETWORK), (kept,)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "   unknown  egress from gateway g0, 1.0 GiB (not known)"
    assert lines[-1] == (
        "Cost by list prices: at least $0.09 once, then an unknown sum a month for what is copied. "
        "Unknown: egress from gateway g0; storage at the destination."
    )


def test_programs_get_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    show_cost(JsonShow(), Cost((EGRESS, NETWORK, FREE), (STORAGE,)))
    *lines, total = map(json.loads, capsys.readouterr().out.splitlines())
    assert [(line["event"], line["charged"], line["usd"]) for line in lines] == [
        ("cost-line", "once", 0.09),
        ("cost-line", "once", None),
        ("cost-line", "monthly", 0.02),
    ]
    assert total == {
        "event": "cost", "usd": None, "usd_known": 0.09, "usd_month": 0.02, "unknown": ["egress from gateway g0"],
    }  # fmt: skip
