"""A plan: which gateways, which routes between them, at what price. A value; a dry run prints it, a run executes it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from skyplane_core.errors import UsageError
from skyplane_core.model import StoreConfig
from skyplane_core.spec import TransferSpec


class Site(msgspec.Struct, frozen=True):
    """A gateway that may be used. ``loopback``: a process on this very machine, reached over its loopback interface."""

    gateway_id: str
    provider: str = "local"
    region: str = "local"
    loopback: bool = True


class Price(msgspec.Struct, frozen=True):
    """``usd`` for the whole transfer; None when it is not known, which never means that it is free."""

    usd: float | None
    why: str


class Route(msgspec.Struct, frozen=True):
    """A path to one destination.

    ``path`` lists the gateways from the one after the reader to the writer; empty means that the reader writes as
    well. ``share`` is the planned part of that destination's bytes; shares of a destination add up to 1.
    """

    reader: str
    path: tuple[str, ...] = ()
    destination: int = 0
    share: float = 1.0


class Plan(msgspec.Struct, frozen=True):
    """What will be provisioned and where the bytes will go.

    ``kind`` is ``single`` (one gateway reads and writes) or ``direct`` (a reader and a writer).
    ``throughput`` is predicted bytes a second, None when nothing is known.
    """

    kind: str
    source: str
    destinations: tuple[str, ...]
    gateways: tuple[Site, ...]
    routes: tuple[Route, ...]
    price: Price
    throughput: float | None = None

    def render(self) -> list[str]:
        """The plan as lines of text, for a dry run."""
        count = len(self.gateways)
        lines = [f"Plan: {self.kind}, {count} gateway{'' if count == 1 else 's'}", f"  from {self.source}"]
        lines += [f"  to   {uri}" for uri in self.destinations]
        lines += [f"  gateway {site.gateway_id}: {_place(site)}" for site in self.gateways]
        for route in self.routes:
            way = " -> ".join((route.reader, *route.path)) + ("" if route.path else " (reads and writes)")
            lines.append(f"  route to destination {route.destination}: {way}, {route.share:.0%}")
        speed = "unknown" if self.throughput is None else f"{self.throughput * 8 / 1e9:.2f} Gbit/s"
        lines.append(f"  predicted throughput: {speed}")
        usd = "unknown" if self.price.usd is None else f"${self.price.usd:.2f}"
        lines.append(f"  price: {usd} ({self.price.why})")
        return lines


def plan(spec: TransferSpec, sites: Sequence[Site]) -> Plan:
    """The plan for ``spec`` over the gateways that there are: ``single`` over one, ``direct`` over two.

    Raises:
        UsageError: another number of gateways, or two of one name.
    """
    if len(sites) == 1:
        return single(spec, sites[0])
    if len(sites) == 2:
        return direct(spec, sites[0], sites[1])
    raise UsageError(f"cannot plan a transfer over {len(sites)} gateways", next_step="Use 1 or 2 gateways.")


def single(spec: TransferSpec, site: Site) -> Plan:
    """One gateway reads and writes; no wire is used."""
    return _plan("single", spec, (site,), ())


def direct(spec: TransferSpec, reader: Site, writer: Site) -> Plan:
    """One gateway reads, the other writes."""
    if reader.gateway_id == writer.gateway_id:
        raise UsageError(f"reader and writer are the same gateway {reader.gateway_id!r}", next_step="Use a single one.")
    return _plan("direct", spec, (reader, writer), (writer.gateway_id,))


def _plan(kind: str, spec: TransferSpec, sites: tuple[Site, ...], path: tuple[str, ...]) -> Plan:
    return Plan(
        kind=kind,
        source=spec.source.object_uri(spec.selection.prefix),
        destinations=tuple(to.store.object_uri(to.mapping.destination) for to in spec.destinations),
        gateways=sites,
        routes=tuple(Route(sites[0].gateway_id, path, number) for number in range(len(spec.destinations))),
        price=_price(spec, sites),
    )


def _price(spec: TransferSpec, sites: tuple[Site, ...]) -> Price:
    remote = [site.gateway_id for site in sites if not (site.provider == "local" and site.loopback)]
    if remote:
        return Price(None, f"gateways are not on this machine: {', '.join(remote)}")
    stores = (spec.source, *(to.store for to in spec.destinations))
    billed = sorted({store.uri for store in stores if not _stays_here(store)})
    if billed:
        return Price(None, f"requests and egress may be billed for {', '.join(billed)}")
    return Price(0.0, "local, no egress")


def _stays_here(store: StoreConfig) -> bool:
    if store.kind == "local":
        return True
    host = urlsplit(store.endpoint_url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _place(site: Site) -> str:
    return f"{site.provider} {site.region}" if site.provider != site.region else site.provider
