"""List prices of object stores: data with a date and a source (prices.json), and where a store is. Pure.

A price that is not in the data is None, which never means that it is free.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
from importlib.resources import files
from urllib.parse import urlsplit

import msgspec

from skyplane_core.model import StoreConfig

EVERYWHERE = "*"
HERE = "here"
"""The provider of what is on this machine: a local disk, and a server that is reached over the loopback interface."""


class Item(enum.Enum):
    """What is charged for."""

    STORAGE = "storage"
    """Bytes kept for a month."""
    WRITE = "write"
    """PUT and POST requests: whole objects, parts, and what begins or completes an upload."""
    READ = "read"
    """GET and HEAD requests."""
    LIST = "list"
    """Pages of a listing."""
    EGRESS_INTERNET = "egress-internet"
    """Bytes that leave the provider."""
    EGRESS_REGION = "egress-region"
    """Bytes to another region of the provider."""


class Unit(enum.Enum):
    """What the price is for."""

    GIB = "GiB"
    GB = "GB"
    THOUSAND = "1000"

    @property
    def size(self) -> int:
        """In bytes, or in requests."""
        return {Unit.GIB: 1 << 30, Unit.GB: 10**9, Unit.THOUSAND: 1000}[self]


class PriceList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one provider asked for one item on ``date``, by region, at the tier that is named.

    ``source`` is the provider's own page.
    """

    provider: str
    item: Item
    unit: Unit
    tier: str
    date: str
    source: str
    usd: dict[str, float]


class Quote(msgspec.Struct, frozen=True):
    """One price. ``region`` is where it holds."""

    usd: float
    unit: Unit
    region: str
    tier: str
    date: str
    source: str

    def of(self, quantity: float) -> float:
        """The price of so many bytes or requests."""
        return quantity / self.unit.size * self.usd


class Place(msgspec.Struct, frozen=True):
    """Where something is. An empty ``provider`` is an unknown one; an empty ``region`` was not said."""

    provider: str
    region: str = ""

    @property
    def name(self) -> str:
        """For people."""
        return " ".join(word for word in (self.provider or "an unknown provider", self.region) if word)


UNSTATED = {"gcp": "us-central1", "azure": "eastus"}
"""The regions whose prices are taken where a store's is not known; an estimate says so."""

_KINDS = {"s3": "aws", "gcs": "gcp", "azure": "azure"}
_HOSTS = {
    ".amazonaws.com": "aws",
    ".googleapis.com": "gcp",
    ".core.windows.net": "azure",
    ".r2.cloudflarestorage.com": "r2",
}


@functools.cache
def price_lists() -> tuple[PriceList, ...]:
    """All that is known."""
    data = files("skyplane_core.planner").joinpath("prices.json").read_bytes()
    return msgspec.json.decode(data, type=tuple[PriceList, ...])


def quote(place: Place, item: Item) -> Quote | None:
    """What ``item`` costs at ``place``; None if that is not known."""
    for known in price_lists():
        if (known.provider, known.item) != (place.provider, item):
            continue
        for region in (place.region or UNSTATED.get(place.provider, ""), EVERYWHERE):
            if region in known.usd:
                return Quote(known.usd[region], known.unit, region, known.tier, known.date, known.source)
    return None


def stays_here(store: StoreConfig) -> bool:
    """Whether a store is on this machine."""
    return place_of(store).provider == HERE


def place_of(store: StoreConfig) -> Place:
    """Where a store is, as far as its address tells."""
    if store.kind == "local" or _is_loopback(_host(store)):
        return Place(HERE)
    host = _host(store)
    if not host:
        return Place(_KINDS.get(store.kind, ""), store.region)
    provider = next((provider for end, provider in _HOSTS.items() if f".{host}".endswith(end)), "")
    return Place(provider, store.region if provider in _KINDS.values() else "")


def _host(store: StoreConfig) -> str:
    return (urlsplit(store.endpoint_url).hostname or "").lower()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
