"""A plan: which gateways, which routes between them, at what price. A value; a dry run prints it, a run executes it."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from skyplane_core.errors import UsageError
from skyplane_core.model import Role
from skyplane_core.planner.prices import stays_here
from skyplane_core.server_side import wanted
from skyplane_core.spec import Route, Site, TransferSpec
from skyplane_core.units import counted

__all__ = ["Plan", "Price", "Shape", "Site", "Via", "plan", "shape"]


class Via(enum.Enum):
    """Which routes there are between readers and writers where there are relays."""

    RELAYED = "relayed"
    DIRECT = "direct"
    BOTH = "both"


class Shape(NamedTuple):
    """What a plan is whatever the transfer: its kind, the gateways with the head first, and the ways between them.

    A way names its gateways, reader first, and has a share of the bytes.
    """

    kind: str
    gateways: tuple[Site, ...]
    ways: tuple[tuple[tuple[str, ...], float], ...]


class Price(msgspec.Struct, frozen=True):
    """``usd`` for the whole transfer; None when it is not known, which never means that it is free."""

    usd: float | None
    why: str


class Plan(msgspec.Struct, frozen=True):
    """What will be provisioned and where the bytes will go.

    The first gateway is the head. ``kind`` is ``single`` (one gateway reads and writes), ``direct`` (readers send to
    writers), ``relayed`` (over relays) or ``mixed`` (both).
    ``throughput`` is predicted bytes a second, None when nothing is known. ``server_side``: both ends are of one store,
    which is asked to copy by itself; only what it does not copy goes over the routes.
    """

    kind: str
    source: str
    destinations: tuple[str, ...]
    gateways: tuple[Site, ...]
    routes: tuple[Route, ...]
    price: Price
    throughput: float | None = None
    server_side: bool = False

    def render(self) -> list[str]:
        """The plan as lines of text, for a dry run."""
        count = len(self.gateways)
        lines = [f"Plan: {self.kind}, {counted(count, 'gateway')}", f"  from {self.source}"]
        lines += [f"  to   {uri}" for uri in self.destinations]
        if self.server_side:
            lines.append("  the store copies by itself what it can, and the rest goes over the routes")
        lines += [f"  gateway {site.gateway_id}: {_place(site)}" for site in self.gateways]
        for route in self.routes:
            way = " -> ".join((route.reader, *route.path)) + ("" if route.path else " (reads and writes)")
            lines.append(f"  route to destination {route.destination}: {way}, {route.share:.0%}")
        speed = "unknown" if self.throughput is None else f"{self.throughput * 8 / 1e9:.2f} Gbit/s"
        lines.append(f"  predicted throughput: {speed}")
        usd = "unknown" if self.price.usd is None else f"${self.price.usd:.2f}"
        lines.append(f"  price: {usd} ({self.price.why})")
        return lines


def plan(spec: TransferSpec, sites: Sequence[Site], *, via: Via = Via.RELAYED, relayed_share: float = 0.5) -> Plan:
    """The plan for ``spec`` over the gateways that there are; for the rules, and what is refused, see :func:`shape`."""
    kind, gateways, ways = shape(sites, via=via, relayed_share=relayed_share)
    return Plan(
        kind=kind,
        source=spec.source.object_uri(spec.selection.prefix),
        destinations=tuple(to.store.object_uri(to.mapping.destination) for to in spec.destinations),
        gateways=gateways,
        routes=tuple(
            Route(way[0], way[1:], number, share) for number in range(len(spec.destinations)) for way, share in ways
        ),
        price=_price(spec, gateways),
        server_side=wanted(spec),
    )


def shape(sites: Sequence[Site], *, via: Via = Via.RELAYED, relayed_share: float = 0.5) -> Shape:
    """What gateways do, and the ways between them. Every one of them is used.

    Without roles: one gateway reads and writes; of two the first reads and the second writes; three are reader, relay
    and writer. With roles: each reader sends to each writer, over each relay where there are any. The head is the
    first reader. All routes to a destination have equal shares, but for ``relayed_share``.

    Args:
        via: ``direct`` leaves relays out, which then must not be there; ``both`` uses them beside the direct way.
        relayed_share: with ``both``, the part of the bytes that is planned to go over relays.

    Raises:
        UsageError: another number of gateways, two of one name, roles that make no route, or a share outside 0..1.
    """
    names = [site.gateway_id for site in sites]
    if len(set(names)) < len(names):
        same = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"two gateways of one name: {same!r} is the same gateway", next_step="Name each one once.")
    if not 0 < relayed_share < 1:
        raise UsageError(f"a share of {relayed_share} is not between 0 and 1")
    if len(sites) == 1 and sites[0].role is None:
        return Shape("single", tuple(sites), (((sites[0].gateway_id,), 1.0),))
    readers, relays, writers = _cast(sites)
    ways: list[tuple[tuple[str, ...], float]] = []
    if relays and via is not Via.DIRECT:
        share = relayed_share if via is Via.BOTH else 1.0
        over = [(reader, relay, writer) for reader in readers for relay in relays for writer in writers]
        ways += [(way, share / len(over)) for way in over]
    elif relays:
        raise UsageError("direct routes leave relays unused", where=", ".join(relays), next_step="Leave them out.")
    elif via is Via.BOTH:
        raise UsageError("there is no relay to send over", next_step="Add one, or leave the choice of routes out.")
    if not relays or via is Via.BOTH:
        share = 1 - relayed_share if via is Via.BOTH else 1.0
        straight = [(reader, writer) for reader in readers for writer in writers]
        ways += [(way, share / len(straight)) for way in straight]
    ways = _connected(ways, sites)
    kind = "direct" if not relays else "mixed" if via is Via.BOTH else "relayed"
    ordered = sorted(sites, key=lambda site: site.gateway_id != readers[0])
    return Shape(kind, tuple(ordered), tuple(ways))


def single(spec: TransferSpec, site: Site) -> Plan:
    """One gateway reads and writes; no wire is used."""
    return plan(spec, [msgspec.structs.replace(site, role=None)])


def direct(spec: TransferSpec, reader: Site, writer: Site) -> Plan:
    """One gateway reads, the other writes."""
    return plan(spec, [msgspec.structs.replace(site, role=None) for site in (reader, writer)])


_UNSAID: dict[int, tuple[Role, ...]] = {
    2: (Role.READER, Role.WRITER),
    3: (Role.READER, Role.RELAY, Role.WRITER),
}
"""What gateways do that were not told, by their number."""


def _cast(sites: Sequence[Site]) -> tuple[list[str], list[str], list[str]]:
    """Readers, relays and writers."""
    said = [site.role for site in sites if site.role is not None]
    if said and len(said) < len(sites):
        raise UsageError("some gateways have a role and others none", next_step="Give a role to each, or to none.")
    roles = said or _UNSAID.get(len(sites))
    if roles is None:
        raise UsageError(
            f"cannot plan a transfer over {len(sites)} gateways without roles",
            next_step="Use 1 to 3 gateways, or say which of them read, relay and write.",
        )
    found = {role: [site.gateway_id for site, has in zip(sites, roles, strict=True) if has is role] for role in Role}
    for role in (Role.READER, Role.WRITER):
        if not found[role]:
            raise UsageError(
                f"there is no {role.value} among the gateways", next_step=f"Make one of them a {role.value}."
            )
    return found[Role.READER], found[Role.RELAY], found[Role.WRITER]


def _connected(
    ways: Sequence[tuple[tuple[str, ...], float]], sites: Sequence[Site]
) -> list[tuple[tuple[str, ...], float]]:
    """The ways on which somebody can dial between any two neighbours, their shares adding up as before.

    Raises:
        UsageError: a gateway is on none of them, or is a head that nobody can dial.
    """
    hidden = {site.gateway_id for site in sites if site.dials_out}
    if ways[0][0][0] in hidden:
        raise UsageError("the head must be one that can be dialled", where=ways[0][0][0])
    kept = [(way, share) for way, share in ways if not any({*pair} <= hidden for pair in itertools.pairwise(way))]
    idle = {site.gateway_id for site in sites} - {gateway for way, _share in kept for gateway in way}
    if idle:
        raise UsageError(
            f"no route leads over {', '.join(sorted(idle))}",
            why="neither it nor its neighbours can be dialled",
            next_step="Put a gateway between them that can be dialled.",
        )
    total = sum(share for _way, share in kept)
    return [(way, share / total) for way, share in kept]


def _price(spec: TransferSpec, sites: tuple[Site, ...]) -> Price:
    remote = [site.gateway_id for site in sites if not (site.provider == "local" and site.loopback)]
    if remote:
        return Price(None, f"gateways are not on this machine: {', '.join(remote)}")
    stores = (spec.source, *(to.store for to in spec.destinations))
    billed = sorted({store.uri for store in stores if not stays_here(store)})
    if billed:
        return Price(None, f"requests and egress may be billed for {', '.join(billed)}")
    return Price(0.0, "local, no egress")


def _place(site: Site) -> str:
    place = f"{site.provider} {site.region}" if site.provider != site.region else site.provider
    return f"{place}, {site.role.value}" if site.role is not None else place
