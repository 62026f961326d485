"""The ways from readers to destinations, numbered, and how each of them is doing. Pure; time is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from skyplane_core.spec import Route

FIRST_REST = 0.5
LONGEST_REST = 30.0
"""Seconds that a way rests after its first failure, and after many in a row; a transient loss costs little, and a dead
gateway little reading in vain."""
PRIOR_ANSWERS = 32
"""The plan's shares count as so many answers: a start, of which experience soon makes an even spread over what is in
flight."""
LEASE_COST = 64 * 1024
"""What a lease counts beside its bytes: a round trip of tiny objects occupies a way, too."""


class Way(msgspec.Struct, frozen=True):
    """A path of gateways, and the destinations that its writer touches. ``number`` stands for it on the wire."""

    number: int
    reader: str
    path: tuple[str, ...]
    destinations: frozenset[int]
    share: float

    @property
    def gateways(self) -> tuple[str, ...]:
        """All gateways on it, the reader first."""
        return (self.reader, *self.path)

    def __str__(self) -> str:
        return " -> ".join(self.gateways)


def ways_of(routes: Sequence[Route]) -> tuple[Way, ...]:
    """The ways of a transfer: routes that differ only by destination are one. Everybody numbers them alike."""
    found: dict[tuple[str, tuple[str, ...]], list[Route]] = {}
    for route in routes:
        found.setdefault((route.reader, route.path), []).append(route)
    return tuple(
        Way(
            number,
            reader,
            path,
            frozenset(route.destination for route in same),
            max(route.share for route in same),
        )
        for number, ((reader, path), same) in enumerate(found.items())
    )


def onward(ways: Iterable[Way], gateway: str) -> dict[int, str]:
    """What a relay is told: the next gateway, by the number of each way that passes through it."""
    following = {}
    for way in ways:
        for here, after in zip(way.path, way.path[1:], strict=False):
            if here == gateway:
                following[way.number] = after
    return following


class Traffic:
    """One way's leases in flight and its health. Not thread-safe.

    A way that fails rests, longer each time; then one lease tries it. Any answer that came over it makes it well again.
    """

    def __init__(self, way: Way, even_share: float) -> None:
        self.way = way
        self.leases = 0
        self.bytes = 0
        self.answers = 0
        self.failures = 0
        self.failing_since: float | None = None
        self.why = ""
        self._even_share = even_share
        self._rest_until = 0.0

    def usable(self, now: float) -> bool:
        """Whether a lease may be sent this way: it does not rest, and if it has failed, nothing else tries it now."""
        return now >= self._rest_until and (not self.failures or not self.leases)

    @property
    def load(self) -> float:
        """What is in flight in proportion to the way's weight: the least loaded one is next."""
        planned = max(self.way.share, 0.01) * PRIOR_ANSWERS + self._even_share * self.answers
        return (self.bytes + LEASE_COST * self.leases) * (PRIOR_ANSWERS + self.answers) / planned

    def sent(self, size: int) -> None:
        """A lease of so many bytes is in flight."""
        self.leases += 1
        self.bytes += size

    def over(self, size: int) -> None:
        """It is not any more, however it ended."""
        self.leases -= 1
        self.bytes -= size

    def worked(self) -> None:
        """An answer came over it."""
        self.answers += 1
        self.failures = 0
        self.failing_since = None
        self.why = ""

    def failed(self, now: float, why: str) -> None:
        """What was sent over it did not get through. Leases that were lost together are one failure."""
        self.why = why
        if now < self._rest_until:
            return
        if self.failing_since is None:
            self.failing_since = now
        self._rest_until = now + min(LONGEST_REST, FIRST_REST * 2.0 ** min(self.failures, 16))
        self.failures += 1

    def retry(self, now: float) -> None:
        """A gateway of it is back: try it at once."""
        self._rest_until = min(self._rest_until, now)
