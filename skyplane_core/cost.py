"""An estimate of what a transfer costs by list prices, as a value."""

from __future__ import annotations

from typing import Any

import msgspec


class CostLine(msgspec.Struct, frozen=True):
    """One item of an estimate.

    ``quantity`` is in ``unit``: bytes, requests, or bytes that are kept a month. ``usd`` None: not known. ``basis`` is
    the price's tier, date and source, or why there is none.
    """

    what: str
    quantity: float
    unit: str
    usd: float | None
    basis: str


class Cost(msgspec.Struct, frozen=True):
    """An estimate: what the run costs once, and what its copies cost each month."""

    once: tuple[CostLine, ...]
    monthly: tuple[CostLine, ...]

    @property
    def usd(self) -> float | None:
        """The run, in US dollars; None if one of its prices is not known."""
        return _total(self.once)

    @property
    def usd_known(self) -> float:
        """The run as far as its prices are known: at least so much."""
        return sum(line.usd for line in self.once if line.usd is not None)

    @property
    def usd_month(self) -> float | None:
        """Storage for a month; None if its price is not known."""
        return _total(self.monthly)

    def summary(self) -> dict[str, Any]:
        """The sums and the unknown, as plain JSON."""
        return {
            "usd": self.usd,
            "usd_known": self.usd_known,
            "usd_month": self.usd_month,
            "unknown": list(self.unknown),
        }

    @property
    def unknown(self) -> tuple[str, ...]:
        """What has no price here."""
        return tuple(line.what for line in (*self.once, *self.monthly) if line.usd is None)


def _total(lines: tuple[CostLine, ...]) -> float | None:
    known = [line.usd for line in lines if line.usd is not None]
    return sum(known) if len(known) == len(lines) else None
