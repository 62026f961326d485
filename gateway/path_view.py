"""What a link's connections together say about the path under them. Pure; what the kernel knows is an argument."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Final, NamedTuple

from gateway.tcp_info import TcpInfo

SHORTEST: Final = 0.005
"""Seconds of a round trip below which what hosts add to it themselves hides what a queue does."""
QUEUE_SHARE: Final = 0.08
"""A path on which segments wait for less than this share of its round trip is not full. Between connections of cubic
or bbr that do not fill theirs it was 1 to 4 % (1 Gbit/s, 100 ms), and from 7 % to 100 % where they do."""
HELD_SHARE: Final = 0.1


class Seen(NamedTuple):
    """One look at a path.

    Args:
        acked: bytes that the peer has acknowledged since the start.
        rtt: the shortest round trip in seconds, 0 if unknown.
        sent: segments since the start.
        resent: those of them that had gone before.
        room: no queue is in the path and neither end is slow: what limits the connections is each one's own, such as
            losses, so that others would find room beside them.
    """

    acked: int
    rtt: float = 0.0
    sent: int = 0
    resent: int = 0
    room: bool = False


class PathView:
    """Sums up connections that come and go; not thread-safe."""

    def __init__(self) -> None:
        self._before: dict[Hashable, TcpInfo] = {}
        self._acked = self._sent = self._resent = 0

    def look(self, infos: Iterable[tuple[Hashable, TcpInfo | None]]) -> Seen:
        """What has become of the path since the last look, from each connection that is there now, by whatever name."""
        known = {name: info for name, info in infos if info is not None}
        busy = held = 0.0
        for name, info in known.items():
            before = self._before.get(name, TcpInfo())
            self._acked += max(0, info.acked - before.acked)
            self._sent += max(0, info.sent - before.sent)
            self._resent += max(0, info.resent - before.resent)
            busy += max(0.0, info.busy - before.busy)
            held += max(0.0, info.held - before.held)
        self._before = known
        shortest = min((info.min_rtt for info in known.values()), default=0.0)
        return Seen(
            self._acked, shortest, self._sent, self._resent, held <= HELD_SHARE * busy and _room(known, shortest)
        )


def _room(infos: Mapping[Hashable, TcpInfo], shortest: float) -> bool:
    if not infos or shortest < SHORTEST:
        return False
    mean = sum(info.rtt for info in infos.values()) / len(infos)
    waiting = sum(info.unsent > 0 for info in infos.values())
    # Where the sender is what is slow, little of what it has is still to be sent.
    return mean <= shortest * (1 + QUEUE_SHARE) and 2 * waiting >= len(infos)
