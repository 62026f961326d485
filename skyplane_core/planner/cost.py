"""What a transfer would cost by list prices: counted from its decisions, line by line. Pure.

Requests are what a run without retries makes. Who reads or writes is charged by the store; what the network of the
gateways costs is known only on this machine and in a region that has prices.
"""

from __future__ import annotations

import itertools

import msgspec

from skyplane_core.cost import Cost, CostLine
from skyplane_core.diff import Action, Decision
from skyplane_core.errors import StoreRejected
from skyplane_core.model import Attestation, StoreConfig
from skyplane_core.planner.parts import part_size
from skyplane_core.planner.plan import Plan
from skyplane_core.planner.prices import EVERYWHERE, HERE, Item, Place, Quote, place_of, quote
from skyplane_core.server_side import copies, takes_parts, wanted
from skyplane_core.spec import Compare, Site, TransferSpec, Verification
from skyplane_core.stores.base import Capabilities
from skyplane_core.stores.whole import READ_BACK_BYTES

__all__ = ["Cost", "CostLine", "CostMeter"]

PAGE = 1000
"""Objects that one request lists."""
STATE_WRITES = 3
"""Objects of a run's own at the destination: a journal, a receipt and its summary."""
_CLOUDS = {"aws", "gcp", "azure"}


class CostMeter:
    """Counts decisions; memory does not grow with their number.

    Args:
        spec: the transfer.
        plan: where the bytes would go; or the spec itself, which holds that once it was submitted.
        limits: what the destination can do, by which objects are cut into parts.
        pool_bytes: the smallest buffer pool on the way.
    """

    def __init__(self, spec: TransferSpec, plan: Plan | TransferSpec, limits: Capabilities, pool_bytes: int) -> None:
        self._spec = spec
        self._plan = plan
        self._limits = limits
        self._pool_bytes = pool_bytes
        verify = spec.options.verify
        unattested = limits.attestation is Attestation.READ_BACK and verify is not Verification.NONE
        self._reads_back = unattested or verify is Verification.FULL
        self._objects = self._deleted = self._bytes = 0
        self._by_store = wanted(spec) and limits.max_copy > 0
        self._bytes_by_store = 0
        self._reads = self._looked_up = self._writes = self._checked = 0

    def add(self, decision: Decision) -> None:
        """Count what would be done with one object."""
        if decision.action is Action.DELETE:
            self._deleted += 1
            return
        self._objects += 1
        if decision.action is Action.SKIP or decision.precondition.version:
            self._looked_up += 1
        if decision.action is Action.COPY:
            self._bytes += decision.source.size
            if self._by_store and self._count_copy(decision):
                return
            self._count_parts(decision)
            if self._reads_back:
                self._checked += -(-decision.source.size // READ_BACK_BYTES) or 1

    def cost(self) -> Cost:
        """What all of it would cost."""
        source, destination = self._spec.source, self._spec.destinations[0].store
        compares = self._spec.options.compare is not Compare.ALWAYS
        single = self._spec.selection.single
        pages, pages_there = (0 if single else -(-count // PAGE) or 1 for count in self._listed())
        looked_up = self._looked_up if single or not self._limits.listing_has_attributes else 0
        requests = [
            _requests(source, "source", Item.LIST, pages),
            _requests(source, "source", Item.READ, self._reads + single),
            _requests(destination, "destination", Item.LIST, pages_there if compares else 0),
            _requests(destination, "destination", Item.READ, self._checked + (looked_up if compares else 0)),
            _requests(destination, "destination", Item.WRITE, self._writes + STATE_WRITES),
        ]
        storage = _priced(
            place_of(destination), Item.STORAGE, "storage at the destination", self._bytes, "bytes a month"
        )
        return Cost(tuple(self._egress()) + tuple(line for line in requests if line.quantity), (storage,))

    def _listed(self) -> tuple[int, int]:
        """Objects at the source and at the destination, as far as they were decided about."""
        return self._objects, self._objects + self._deleted

    def _count_copy(self, decision: Decision) -> bool:
        """Count an object that the store copies by itself; False if it does not.

        A checksum that a listing does not show is taken to be there: of the kind that the service gives by default.
        """
        info, limits, verify = decision.source, self._limits, self._spec.options.verify
        supposed = info if limits.listing_has_crc32c else msgspec.structs.replace(info, crc64nvme=info.crc64nvme or 0)
        if takes_parts(info.size, limits) or not copies(supposed, limits, verify):
            return False
        self._bytes_by_store += info.size
        self._reads += not limits.listing_has_crc32c
        self._writes += 1
        if self._reads_back:
            self._checked += -(-info.size // READ_BACK_BYTES) or 1
        return True

    def _count_parts(self, decision: Decision) -> None:
        size, options = decision.source.size, self._spec.options
        try:
            part = part_size(
                size, options.part_size, [self._limits], self._pool_bytes, threshold=options.multipart_threshold
            )
        except StoreRejected:
            return  # The run refuses it by name.
        if part >= size:
            self._reads += 1
            self._writes += 1
            return
        parts = -(-size // part)
        # A HEAD brings attributes and checksum; the upload is begun and completed, and its object looked at.
        self._reads += parts + 1
        self._writes += parts + 2
        # Before as well, where the store does not check the precondition itself.
        expected = decision.precondition.absent or decision.precondition.version
        self._checked += 2 if expected and not self._limits.conditional_complete else 1

    def _egress(self) -> list[CostLine]:
        """Each leg of each route, with its share of the bytes."""
        sites = {site.gateway_id: site for site in self._plan.gateways}
        legs: dict[tuple[str, Place, Place], float] = {}
        for route in self._plan.routes:
            destination = self._spec.destinations[route.destination].store
            stops = [
                ("the source", place_of(self._spec.source)),
                *((f"gateway {name}", _place_of(sites[name])) for name in (route.reader, *route.path)),
                ("the destination", place_of(destination)),
            ]
            for (name, here), (_, there) in itertools.pairwise(stops):
                leg = (f"egress from {name}", here, there)
                legs[leg] = legs.get(leg, 0.0) + route.share * (self._bytes - self._bytes_by_store)
            if self._reads_back:
                leg = ("egress from the destination, to read back", stops[-1][1], stops[-2][1])
                legs[leg] = legs.get(leg, 0.0) + route.share * self._bytes
        if self._bytes_by_store:
            here, there = place_of(self._spec.source), place_of(self._spec.destinations[0].store)
            legs["egress within the store, which copies by itself", here, there] = self._bytes_by_store
        return [
            _leg(what, here, there, moved)
            for (what, here, there), moved in legs.items()
            if here != there and (moved or not self._bytes_by_store)
        ]


def _requests(store: StoreConfig, end: str, item: Item, count: int) -> CostLine:
    return _priced(place_of(store), item, f"{item.value} requests at the {end}", count, "requests")


def _leg(what: str, here: Place, there: Place, moved: float) -> CostLine:
    if here.provider in (HERE, ""):
        network = "this machine" if here.provider == HERE else here.region
        return _unknown(what, moved, "bytes", f"what the network of {network} charges is not known")
    if here.provider != there.provider:
        line = _priced(here, Item.EGRESS_INTERNET, what, moved, "bytes")
        aside = f"; less if the gateway is in {here.name}" if line.usd and there.provider in (HERE, "") else ""
        return msgspec.structs.replace(line, basis=line.basis + aside)
    if here.region and there.region:
        return _priced(here, Item.EGRESS_REGION, what, moved, "bytes")
    return _unknown(what, moved, "bytes", f"whether both are in the same region of {here.provider} is not known")


def _priced(place: Place, item: Item, what: str, quantity: float, unit: str) -> CostLine:
    if place.provider == HERE:
        return CostLine(what, quantity, unit, 0.0, "on this machine")
    price = quote(place, item)
    if price is None:
        return _unknown(what, quantity, unit, f"there is no price of {place.name} for {item.value}")
    return CostLine(what, quantity, unit, price.of(quantity), _basis(place, price))


def _unknown(what: str, quantity: float, unit: str, why: str) -> CostLine:
    """A line without a price. Nothing at all costs nothing."""
    return CostLine(what, quantity, unit, None if quantity else 0.0, why)


def _basis(place: Place, price: Quote) -> str:
    where = "everywhere" if price.region == EVERYWHERE else price.region + ("" if place.region else ", assumed")
    return f"{place.provider} {where}: {price.tier}; {price.source}, {price.date}"


def _place_of(site: Site) -> Place:
    if site.provider == "local" and site.loopback:
        return Place(HERE)
    provider, _, region = site.region.partition(":")
    return Place(provider, region) if provider in _CLOUDS else Place("", site.gateway_id)
