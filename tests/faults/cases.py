"""What is killed, where, and in which surroundings: the campaign as tables. Everything else is derived from a seed."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator

from skyplane_core.testing.faultproxy import TO_SERVER, ProxyFault
from skyplane_core.testing.objectserver import Fault

MIB = 1024 * 1024
PART = 5 * MIB

HANDSHAKE_BYTES = 134
"""What a dialler of a data connection sends before its first frame (docs/wire.md), with ids of nine letters."""
FIRST_DATA = (2,)
"""Connections to a writer: the first is the head's control link, the second the first data connection."""

LARGE = "large"
"""The object, below either prefix, that the points of a part's life are about."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A moment in a transfer. ``side``: who holds it there: the source store, the wire or the destination store."""

    name: str
    side: str
    fault: Fault | ProxyFault
    orphans: int = 0
    """Uploads that nobody can know of after a crash here (docs/architecture.md, "Crash order"): both striped ones may
    just have been opened and not recorded yet."""


def _at_source(operation: str, action: str, *, key: str = f"p/{LARGE}", **how: int | tuple[int, ...]) -> Fault:
    return Fault(operation, action, key=key, times=1, **how)


def _at_destination(operation: str, action: str, *, key: str = f"q/{LARGE}", **how: int | tuple[int, ...]) -> Fault:
    return Fault(operation, action, key=key, times=1, **how)


POINTS = (
    Point("before-listing", "source", _at_source("ListObjects", "hold-before", key="*")),
    Point("upload-created", "destination", _at_destination("CreateMultipartUpload", "hold-after"), orphans=2),
    Point("during-get", "source", _at_source("GetObject", "hold-during", nth=(3,), at=PART // 3)),
    Point("read-not-sent", "wire", ProxyFault("stall", TO_SERVER, at=HANDSHAKE_BYTES, connections=FIRST_DATA)),
    Point("during-frame", "wire", ProxyFault("stall", TO_SERVER, at=3 * MIB + 77, connections=FIRST_DATA)),
    Point("sent-not-put", "destination", _at_destination("UploadPart", "hold-before", nth=(3,))),
    Point("during-put", "destination", _at_destination("UploadPart", "hold-during", nth=(4,), at=PART // 2)),
    Point("stored-not-answered", "destination", _at_destination("UploadPart", "hold-after", nth=(3,))),
    Point("acked-not-completed", "destination", _at_destination("CompleteMultipartUpload", "hold-before")),
    Point("completed-not-answered", "destination", _at_destination("CompleteMultipartUpload", "hold-after")),
    Point("before-receipt", "destination", _at_destination("PutObject", "hold-before", key="*/receipt.json")),
)
"""A part's life, in order."""

ROLES = ("head", "writer", "client")
"""Who is killed. A role that a gateway has is a line in :data:`tests.faults.world.PLACES` as well."""

PAIRS = (("s3", "gcs"), ("gcs", "s3"), ("s3", "s3"), ("gcs", "gcs"))
"""Source and destination."""

PROCESSES = ("all", "control", "agent", "data")
"""Which processes of a gateway get the signal; those that are left must end by themselves."""


@dataclasses.dataclass(frozen=True)
class Kill:
    """One run: who dies where, and what is drawn for the rest."""

    role: str
    point: Point
    pair: tuple[str, str]
    changed: bool
    """The source is replaced between the kill and the resumption."""
    settled: bool
    """All acks are in the journal before the kill; otherwise it comes at once."""
    process: str
    gateways: int
    seed: int

    @property
    def id(self) -> str:
        """For the name of the test."""
        changed = "-changed" if self.changed else ""
        settled = "-settled" if self.settled else ""
        where = f"{self.role}-{self.process}" if self.role != "client" else self.role
        return f"{where}-{self.point.name}-{self.pair[0]}-{self.pair[1]}-{self.gateways}gw{changed}{settled}"


def _kill(role: str, point: Point, pair: tuple[str, str], changed: bool, seed: int) -> Kill:
    draw = random.Random(seed)
    wired = role == "writer" or point.side == "wire"
    return Kill(
        role,
        point,
        pair,
        changed,
        settled=draw.random() < 0.4,
        process=draw.choice(PROCESSES),
        gateways=2 if wired else draw.choice((1, 2)),
        seed=seed,
    )


def quick(seed: int = 0) -> Iterator[Kill]:
    """Every point once and every role at some, paired by ``seed``, which deals out the other dimensions evenly, too."""
    for number, point in enumerate(POINTS, start=seed):
        yield _kill(ROLES[number % len(ROLES)], point, PAIRS[number % len(PAIRS)], number % 5 == 0, number)


def full(seed: int = 0) -> Iterator[Kill]:
    """The product of role, point, pair and change of source."""
    product = itertools.product(ROLES, POINTS, PAIRS, (False, True))
    for number, (role, point, pair, changed) in enumerate(product, start=1000 * seed):
        yield _kill(role, point, pair, changed, number)
