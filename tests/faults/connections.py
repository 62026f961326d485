"""What befalls connections and store requests: tables for the tests beside this file."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator

from skyplane_core.testing.faultproxy import TO_CLIENT, TO_SERVER, ProxyFault
from skyplane_core.testing.objectserver import Fault, Faults
from tests.faults.cases import HANDSHAKE_BYTES, MIB, PAIRS, PART

PASSING = ("cut", "half-close", "truncate", "flip", "stall", "slow", "delay")
"""What a transfer has to ride out when it happens once; a stall here ends after a while."""

CONTROL, DATA = "control-link", "data"
CHANNELS = {CONTROL: (1,), DATA: (2,)}
"""Connections to the writer by number; a data connection has a link before it."""
ANSWERED_BYTES = 105
"""What a listener answers in the handshake (docs/wire.md)."""


@dataclasses.dataclass(frozen=True)
class Broken:
    """One fault on one connection. ``where``: a channel between gateways, or the side of a store."""

    where: str
    fault: ProxyFault
    pair: tuple[str, str]
    seed: int

    @property
    def id(self) -> str:
        """For the name of the test."""
        fault = self.fault
        return f"{self.where}-{fault.action}-{fault.direction}-{fault.at}-{self.pair[0]}-{self.pair[1]}"


def _pair(number: int) -> tuple[str, str]:
    return PAIRS[number % len(PAIRS)]


def wire(seed: int = 0, *, rounds: int = 1) -> Iterator[Broken]:
    """Every passing fault on both channels between gateways, both ways, at a byte that is drawn, ``rounds`` times."""
    product = itertools.product(range(rounds), CHANNELS, PASSING, (TO_SERVER, TO_CLIENT))
    for number, (_round, channel, action, direction) in enumerate(product, start=seed):
        draw = random.Random(number)
        least = HANDSHAKE_BYTES if direction == TO_SERVER else ANSWERED_BYTES
        # Of the answers, a connection that is busy with large parts may have seen no more than one.
        spread = 180 if (channel, direction) == (DATA, TO_CLIENT) else 400
        # A link carries no bytes of objects: what has passed that many is a data connection, in the middle of a part.
        midway = (channel, direction) == (DATA, TO_SERVER) and draw.random() < 0.7
        fault = ProxyFault(
            action,
            direction,
            at=draw.randint(MIB // 2, PART) if midway else draw.randint(least, least + spread),
            connections=() if midway else CHANNELS[channel],
            times=1,
            bit=draw.randrange(8),
            rate=8 * MIB if direction == TO_SERVER else 2000,
        )
        yield Broken(channel, fault, _pair(number), number)


def stores(seed: int = 0, *, rounds: int = 1) -> Iterator[Broken]:
    """Every passing fault between gateway and store, on bodies, and (but for a flip) on requests and control answers.

    Only TLS would notice a bit that flips in a listing or an upload id, and these servers speak plain HTTP.
    """
    product = itertools.product(range(rounds), ("source", "destination"), PASSING, (TO_SERVER, TO_CLIENT))
    for number, (_round, side, action, direction) in enumerate(product, start=seed):
        draw = random.Random(number)
        body = (side, direction) in {("source", TO_CLIENT), ("destination", TO_SERVER)}
        pair = _pair(number)
        if action == "flip":
            if not body:
                continue
            if side == "source":
                # S3 says nothing about the bytes of a range, GCS about those of the whole object.
                pair = ("gcs", pair[1])
        at = draw.randint(MIB, PART) if body else draw.randint(1, 1500)
        fault = ProxyFault(action, direction, at=at, times=1, bit=draw.randrange(8), rate=8 * MIB if body else 2000)
        yield Broken(side, fault, pair, number)


@dataclasses.dataclass(frozen=True)
class Trouble:
    """One kind of trouble with a store, at each of its operations once."""

    name: str
    side: str
    faults: Faults
    pair: tuple[str, str]

    @property
    def id(self) -> str:
        """For the name of the test."""
        return f"{self.side}-{self.name}-{self.pair[0]}-{self.pair[1]}"


READS = ("ListObjects", "GetObject")
WRITES = ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject")

_KINDS: tuple[tuple[str, str, dict[str, object], str], ...] = (
    ("slow-down", "status", {"status": 503, "code": "SlowDown", "retry_after": 1}, "both"),
    ("internal-error", "status", {"status": 500, "code": "InternalError"}, "both"),
    ("too-many-requests", "status", {"status": 429, "code": "TooManyRequests"}, "both"),
    ("error-in-200", "status", {"status": 200, "code": "InternalError"}, "completion"),
    ("reset-before", "reset-before", {}, "both"),
    ("reset-during", "reset-during", {"at": 700}, "both"),
    ("reset-after", "reset-after", {}, "both"),
    ("truncated", "truncate", {"at": 500}, "source"),
    ("slow-bodies", "slow", {"rate": 6e6}, "both"),
    ("stalled", "stall", {"seconds": 2.0}, "both"),
    ("flipped", "flip", {"at": 123}, "flip-source"),
    ("flipped-upload", "flip-upload", {"at": 123}, "flip-destination"),
)


def store_troubles(seed: int = 0, *, rounds: int = 1) -> Iterator[Trouble]:
    """Every kind of trouble at every operation of source and destination that it can befall."""
    number = itertools.count(seed)
    for _round, (name, action, how, where) in itertools.product(range(rounds), _KINDS):
        sides = {
            "both": {"source": READS, "destination": WRITES},
            "source": {"source": READS},
            "flip-source": {"source": ("GetObject",)},
            "flip-destination": {"destination": ("UploadPart", "PutObject")},
            "completion": {"destination": ("CompleteMultipartUpload",)},
        }[where]
        for side, operations in sides.items():
            turn = next(number)
            pair = _pair(turn)
            if where == "completion":
                # An error in a successful answer is what S3 may send; GCS does not.
                pair = (pair[0], "s3")
            if where == "flip-source":
                # S3 says nothing about the bytes of a range, and all reads are of ranges; see docs/faults.
                pair = ("gcs", pair[1])
            # What is wrong in a striped object shows only once it is whole: it fails, as test_connections.py shows.
            key = "p/small/*" if where == "flip-source" else "*"
            rules = [Fault(operation, action, key=key, nth=(1 + turn % 2,), **how) for operation in operations]
            yield Trouble(name, side, Faults(*rules, seed=turn), pair)
