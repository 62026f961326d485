"""An estimate against what the servers of the same run then count."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

import pytest

from skyplane_core.client import Location, SkyplaneClient
from skyplane_core.planner.prices import Item
from skyplane_core.spec import Compare, TransferOptions
from skyplane_core.testing.objectserver import ObjectServer

MIB = 1024 * 1024
At = Callable[..., Location]
STRIPED = TransferOptions(part_size=5 * MIB, multipart_threshold=6 * MIB, compare=Compare.EXACT)
KINDS = {"List": Item.LIST, "Get": Item.READ, "Head": Item.READ}
OF_ITS_OWN = 6
"""Requests that do not grow with the work: probes, the journal's, and those that look for an earlier run."""


def counted(requests: Counter[str]) -> Counter[Item]:
    found: Counter[Item] = Counter()
    for operation, number in requests.items():
        if "Delete" not in operation:
            found[next((item for start, item in KINDS.items() if operation.startswith(start)), Item.WRITE)] += number
    return found


@pytest.mark.parametrize("again", [False, True], ids=["new", "again"])
def test_the_requests_are_those_that_the_stores_would_charge(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient, again: bool
) -> None:
    for number in range(120):
        s3.put("src", f"p/{number:03d}", os.urandom(50))
    for number in range(12):
        s3.put("src", f"p/large{number}", os.urandom(11 * MIB))
    if again:
        client.sync(source("p/"), destination("q/"), options=STRIPED)
    prepared = client.prepare(source("p/"), destination("q/"), mode="sync", options=STRIPED)
    meter = client.cost_meter(prepared)
    for decision in client.dry_run(prepared)[1]:
        meter.add(decision)
    estimate = {line.what: line.quantity for line in meter.cost().once}
    before = [Counter(server.requests) for server in (s3, gcs)]
    client.sync(source("p/"), destination("q/"), options=STRIPED)
    for server, start, end in ((s3, before[0], "source"), (gcs, before[1], "destination")):
        made = counted(Counter(server.requests) - start)
        for item in (Item.LIST, Item.READ, Item.WRITE):
            told = estimate.get(f"{item.value} requests at the {end}", 0)
            assert abs(made[item] - told) <= OF_ITS_OWN, (end, item, made[item], told)
