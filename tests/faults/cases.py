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
"""Connections to a writer: the first is the head's control link, the second the first data connection, be it the head's
or a relay's, which nothing comes to before the head has asked the writer for store calls."""
LATER = tuple(range(2, 40))
"""All connections of a head to a writer but its control link."""
SINGLE, TWO = "", "1:0:1"
"""Layouts: one gateway that reads and writes, and a reader and a writer."""

LARGE = "large"
"""The object, below either prefix, that the points of a part's life are about."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A moment in a transfer. ``side``: who holds it there: the source store, the wire or the destination store."""

    name: str
    side: str
    fault: Fault | ProxyFault
    of_reader: Fault | ProxyFault | None = None
    """The same moment for a part that the second of two readers has, not the head: see :attr:`Kill.dialler`."""
    arrived: bool = False
    """All of the large object's parts are acknowledged: its transfer may end well without a reader or relay."""
    orphans: int = 0
    """Uploads that nobody can know of after a crash here (docs/architecture.md, "Crash order"): both striped ones may
    just have been opened and not recorded yet."""


def _at_source(operation: str, action: str, *, key: str = f"p/{LARGE}", **how: int | tuple[int, ...]) -> Fault:
    """``nth``: each of these, otherwise the first."""
    return _once(Fault(operation, action, key=key, **how))


def _at_destination(operation: str, action: str, *, key: str = f"q/{LARGE}", **how: int | tuple[int, ...]) -> Fault:
    return _once(Fault(operation, action, key=key, **how))


def _once(fault: Fault) -> Fault:
    return dataclasses.replace(fault, times=max(1, len(fault.nth)))


POINTS = (
    Point("before-listing", "source", _at_source("ListObjects", "hold-before", key="*")),
    Point("upload-created", "destination", _at_destination("CreateMultipartUpload", "hold-after"), orphans=2),
    Point(
        "during-get",
        "source",
        _at_source("GetObject", "hold-during", nth=(3,), at=PART // 3),
        # Each of two readers makes two requests at a time, so that of three that are held both have some.
        of_reader=_at_source("GetObject", "hold-during", nth=(1, 2, 3), at=PART // 3),
    ),
    Point(
        "read-not-sent",
        "wire",
        ProxyFault("stall", TO_SERVER, at=HANDSHAKE_BYTES, connections=FIRST_DATA),
        of_reader=ProxyFault("stall", TO_SERVER, at=HANDSHAKE_BYTES, times=1),
    ),
    # No link carries so much: it is a data connection, in the middle of a large part.
    Point("during-frame", "wire", ProxyFault("stall", TO_SERVER, at=3 * MIB + 77, times=1)),
    Point(
        "sent-not-put",
        "destination",
        _at_destination("UploadPart", "hold-before", nth=(3,)),
        of_reader=_at_destination("UploadPart", "hold-before", nth=(2,)),
    ),
    Point(
        "during-put",
        "destination",
        _at_destination("UploadPart", "hold-during", nth=(4,), at=PART // 2),
        of_reader=_at_destination("UploadPart", "hold-during", nth=(2,), at=PART // 2),
    ),
    Point(
        "stored-not-answered",
        "destination",
        _at_destination("UploadPart", "hold-after", nth=(3,)),
        of_reader=_at_destination("UploadPart", "hold-after", nth=(2,)),
    ),
    Point(
        "acked-not-completed",
        "destination",
        _at_destination("CompleteMultipartUpload", "hold-before"),
        arrived=True,
    ),
    Point(
        "completed-not-answered",
        "destination",
        _at_destination("CompleteMultipartUpload", "hold-after"),
        arrived=True,
    ),
    Point(
        "before-receipt",
        "destination",
        _at_destination("PutObject", "hold-before", key="*/receipt.json"),
        arrived=True,
    ),
)
"""A part's life, in order."""

ROLES = ("head", "writer", "client", "relay", "reader")
"""Who is killed; ``reader`` is one that is not the head. A role that a gateway has is a line in
:data:`tests.faults.world.PLACES` as well."""

LAYOUTS = {"relay": "1:1:1", "reader": "2:0:1"}
"""Where there has to be more than a reader and a writer."""

PAIRS = (("s3", "gcs"), ("gcs", "s3"), ("s3", "s3"), ("gcs", "gcs"))
"""Source and destination."""

PAIRS_OF = {"relay": PAIRS[:2], "reader": PAIRS[:2]}
"""For whom not all pairs are tried by the whole product: roles that touch no store, or one as the head does."""

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
    layout: str
    """:data:`SINGLE`, or as in :class:`skyplane_core.client.ClientConfig`."""
    proxied: str
    """Before whose wire port the proxy sits."""
    seed: int

    @property
    def id(self) -> str:
        """For the name of the test."""
        changed = "-changed" if self.changed else ""
        settled = "-settled" if self.settled else ""
        where = f"{self.role}-{self.process}" if self.role != "client" else self.role
        proxied = f"-before-{self.proxied}" if self.proxied != "writer" else ""
        what = f"{where}-{self.point.name}{proxied}"
        return f"{what}-{self.pair[0]}-{self.pair[1]}-{self.gateways}gw{changed}{settled}"

    @property
    def gateways(self) -> int:
        """How many."""
        return sum(map(int, self.layout.split(":"))) if self.layout else 1

    @property
    def fault(self) -> Fault | ProxyFault:
        """What brings the transfer to the point, and keeps it there."""
        return (self.point.of_reader if self.role == "reader" else None) or self.point.fault

    @property
    def dialler(self) -> int | None:
        """The number of the gateway whose connections to the writer lead through the proxy; None: everybody's.

        What strikes the wire is to strike the second reader's. At the store nobody sees whose part a part is: there the
        head's data connections lead through the proxy, to be stalled.
        """
        if self.role != "reader":
            return None
        return 1 if self.point.side == "wire" else 0

    @property
    def only_reader_sends(self) -> bool:
        """Whether the head's own parts are kept from the writer until the kill: what arrives is the reader's."""
        return self.role == "reader" and isinstance(self.fault, Fault) and self.fault.operation == "UploadPart"


def _kill(role: str, point: Point, pair: tuple[str, str], changed: bool, seed: int) -> Kill:
    draw = random.Random(seed)
    wired = role == "writer" or point.side == "wire"
    settled = draw.random() < 0.4
    process = draw.choice(PROCESSES)
    layout = LAYOUTS.get(role) or (TWO if wired else draw.choice((SINGLE, TWO)))
    # A relay holds half a frame if the rest does not come, and if it cannot pass the rest on.
    either = role == "relay" and point.name == "during-frame"
    proxied = draw.choice(("relay", "writer")) if either else "writer"
    return Kill(role, point, pair, changed, settled, process, layout, proxied, seed)


def quick(seed: int = 0) -> Iterator[Kill]:
    """Every point once and every role at some, paired by ``seed``, which deals out the other dimensions evenly, too."""
    for number, point in enumerate(POINTS, start=seed):
        yield _kill(ROLES[number % len(ROLES)], point, PAIRS[number % len(PAIRS)], number % 3 == 0, number)


def full(seed: int = 0) -> Iterator[Kill]:
    """The product of role, point, pair and change of source; of pairs only some for :data:`PAIRS_OF`."""
    product = (
        (role, point, pair, changed)
        for role in ROLES
        for point, pair, changed in itertools.product(POINTS, PAIRS_OF.get(role, PAIRS), (False, True))
    )
    for number, (role, point, pair, changed) in enumerate(product, start=1000 * seed):
        yield _kill(role, point, pair, changed, number)
