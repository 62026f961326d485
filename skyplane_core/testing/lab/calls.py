"""What a lab and its router's process say to each other, a line of JSON each."""

from __future__ import annotations

import msgspec

from skyplane_core.testing.lab.emulation import Counters
from skyplane_core.testing.lab.topology import Link, Topology


class Start(msgspec.Struct, frozen=True):
    """The first line."""

    topology: Topology
    namespaces: list[str]
    """Of each host, in the topology's order."""
    directory: str
    """The lab's files. The router removes them, and the namespaces, at its end."""


class Call(msgspec.Struct, frozen=True):
    """Every other line: what to do."""

    cut: tuple[str, str] | None = None
    heal: tuple[str, str] | None = None
    plug: str = ""
    unplug: str = ""
    link: Link | None = None


class Answer(msgspec.Struct, frozen=True):
    """What each line is answered with."""

    error: str = ""
    counters: list[Counters] = []
    cpu_seconds: float = 0.0
    """Processor time of this process since its start."""
