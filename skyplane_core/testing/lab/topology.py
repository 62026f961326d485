"""What a lab looks like: hosts in regions, and the links between regions. Frozen values, checked when they are made."""

from __future__ import annotations

import ipaddress
import re

import msgspec

NAME = re.compile(r"[a-z][a-z0-9-]{0,23}")
"""A host's name becomes a host name, a file name and part of a network namespace's name."""


def _check(holds: bool, message: str) -> None:  # noqa: FBT001 - a condition and its text, as in an assert
    if not holds:
        raise ValueError(message)


class Host(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One machine.

    Args:
        name: lower-case letters, digits and dashes, at most 24.
        ip: its IPv4 address. Any will do: no packet leaves the lab.
        region: where it stands. Hosts of one region reach each other without delay.
        egress_mbit: what it may send, in Mbit/s on the wire; 0 means as fast as it can.
        ingress_mbit: the same for what it receives.
        inbound_ports: TCP ports that others may open connections to; None means all. What the host itself dials is not
            concerned. An empty set is a host behind a NAT.
        dials: ``(host, port)`` pairs that it may open TCP connections to; None means all.
    """

    name: str
    ip: str
    region: str
    egress_mbit: float = 0
    ingress_mbit: float = 0
    inbound_ports: frozenset[int] | None = None
    dials: frozenset[tuple[str, int]] | None = None

    def __post_init__(self) -> None:
        _check(NAME.fullmatch(self.name) is not None, f"host name {self.name!r}: expected {NAME.pattern}")
        where = f"host {self.name!r}"
        try:
            ipaddress.IPv4Address(self.ip)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        _check(bool(self.region), f"{where}: the region is empty")
        for field in ("egress_mbit", "ingress_mbit"):
            _check(getattr(self, field) >= 0, f"{where}: {field} is {getattr(self, field)}, expected 0 or more")
        ports = set(self.inbound_ports or ()) | {port for _name, port in self.dials or ()}
        wrong = sorted(port for port in ports if not 0 < port < 65536)
        _check(not wrong, f"{where}: {wrong} are no TCP ports")


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The way from one region to another, in one direction (see :func:`both_ways`).

    Args:
        source: region that it leads from.
        target: region that it leads to; the same region shapes the traffic inside it.
        rate_mbit: what all its flows together get, in Mbit/s on the wire; 0 means no limit.
        delay_ms: one-way delay, that is half of a round trip.
        loss_percent: chance of each TCP segment (or other packet) to be lost.
        queue_kb: what may wait for the rate, in units of 1000 bytes; 0 means one bandwidth-delay product of the round
        trip,
            and 256 at least. What does not fit is dropped.
        flow_mbit: what one TCP or UDP flow gets, as clouds limit them; 0 means no limit.
    """

    source: str
    target: str
    rate_mbit: float = 0
    delay_ms: float = 0
    loss_percent: float = 0
    queue_kb: float = 0
    flow_mbit: float = 0

    def __post_init__(self) -> None:
        where = f"link {self.source!r} to {self.target!r}"
        _check(bool(self.source and self.target), f"{where}: a region is empty")
        for field in ("rate_mbit", "delay_ms", "queue_kb", "flow_mbit"):
            _check(getattr(self, field) >= 0, f"{where}: {field} is {getattr(self, field)}, expected 0 or more")
        _check(0 <= self.loss_percent <= 100, f"{where}: loss_percent is {self.loss_percent}, expected 0 to 100")

    @property
    def queue_bytes(self) -> float:
        """What may wait, with the default resolved."""
        product = self.rate_mbit * 1e6 / 8 * 2 * self.delay_ms / 1e3
        return self.queue_kb * 1000 or max(product, 256_000.0)


def both_ways(link: Link) -> tuple[Link, Link]:
    """The link and its like in the other direction."""
    return link, msgspec.structs.replace(link, source=link.target, target=link.source)


class Topology(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hosts and links. Regions without a link between them cannot reach each other.

    Args:
        hosts: at least one; names and addresses are unique.
        links: at most one for each direction between two regions that have hosts.
        mtu: bytes of an IP packet.
        seed: of the random numbers that decide which segment is lost.

    Raises:
        ValueError: saying which host or link is wrong, and how.
    """

    hosts: tuple[Host, ...]
    links: tuple[Link, ...] = ()
    mtu: int = 1500
    seed: int = 1

    def __post_init__(self) -> None:
        _check(bool(self.hosts), "a topology needs a host")
        _check(576 <= self.mtu <= 65000, f"the MTU is {self.mtu}, expected 576 to 65000")
        _check_unique("host name", [host.name for host in self.hosts])
        _check_unique("address", [host.ip for host in self.hosts])
        _check_unique("link", [f"{link.source} to {link.target}" for link in self.links])
        regions = {host.region for host in self.hosts}
        for link in self.links:
            for region in (link.source, link.target):
                where = f"link {link.source!r} to {link.target!r}"
                _check(region in regions, f"{where}: no host is in region {region!r}; there are {sorted(regions)}")
        names = {host.name for host in self.hosts}
        for host in self.hosts:
            unknown = sorted({name for name, _port in host.dials or ()} - names)
            _check(not unknown, f"host {host.name!r} may dial {unknown}, which are no hosts; there are {sorted(names)}")

    def host(self, name: str) -> Host:
        """The host of that name, or ValueError."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise ValueError(f"no host {name!r} in this lab; there are {sorted(host.name for host in self.hosts)}")

    def link(self, source: str, target: str) -> Link:
        """The link between two regions, or ValueError."""
        for link in self.links:
            if (link.source, link.target) == (source, target):
                return link
        known = sorted(f"{link.source} to {link.target}" for link in self.links)
        raise ValueError(f"no link {source!r} to {target!r} in this lab; there are {known}")


def _check_unique(what: str, values: list[str]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    _check(not twice, f"{what} {', '.join(twice)} is there twice")
