"""How much of a gateway one transfer may hold at once."""

from __future__ import annotations

import random
from collections.abc import Sequence

from gateway.fanout import MOST
from skyplane_core.coordinator.leases import LeaseTable
from skyplane_core.coordinator.machine import TransferMachine
from skyplane_core.spec import Route, TransferSpec

LEASES_PER_SLOT = 2
"""Leases a reader holds for each request that it may have in flight: one is being moved, one waits in its queue."""
POOL_SHARE = 0.75
"""Share of the reader's buffer pool that leases of one transfer may fill."""
WIRE_SHARE = 1.25
"""The same where they are sent on: what has been sent is out of the pool long before it is answered."""
LEASE_SECONDS = 600.0
LEASE_ID_BITS = 48
"""Two coordinators of one transfer draw overlapping ids about once in 2^48 times the leases of both."""


def new_machine(spec: TransferSpec, routes: Sequence[Route], pool_bytes: int) -> TransferMachine:
    """The machine of a transfer, and in it a lease table with these limits.

    Between gateways each connection may have one more lease: slow ones are many, and each has a batch of its own.
    """
    sent = any(route.path for route in routes)
    return TransferMachine(
        lambda wanted: LeaseTable(
            spec.transfer_id,
            routes,
            max_leases=spec.options.concurrency * LEASES_PER_SLOT + (MOST if sent else 0),
            max_bytes=int(pool_bytes * (WIRE_SHARE if sent else POOL_SHARE)),
            lease_seconds=LEASE_SECONDS,
            wanted=wanted,
            first_id=random.getrandbits(LEASE_ID_BITS),
        ),
        max_attempts=spec.options.max_attempts,
        uniform=random.uniform,
        verify=spec.options.verify,
    )
