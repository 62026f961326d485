"""What dry runs for several destinations come to together, as a small value of plain JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_SUMS = ("copy", "skip", "refuse", "delete", "bytes", "bytes_deleted", "usd_known")
_SUMS_IF_KNOWN = ("usd", "usd_month")
_TEXTS = ("stopped_at", "refused")
_LISTS = ("unknown", "routes")


def together(each: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """The sums over the summaries of dry runs, and each of them under the name of its destination."""
    named = [{"destination": name, **one} for name, one in zip(names, each, strict=True)]
    return {**total(each), "destinations": named}


def total(each: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sums over the summaries of several destinations; a sum of which a part is not known is None."""
    summed: dict[str, Any] = {name: sum(one[name] for one in each) for name in _SUMS}
    for name in _SUMS_IF_KNOWN:
        known = [one[name] for one in each if one[name] is not None]
        summed[name] = sum(known) if len(known) == len(each) else None
    for name in _TEXTS:
        summed[name] = "; ".join(dict.fromkeys(one[name] for one in each if one[name]))
    for name in _LISTS:
        found = [value for one in each for value in one[name]]
        summed[name] = [value for number, value in enumerate(found) if value not in found[:number]]
    return summed
