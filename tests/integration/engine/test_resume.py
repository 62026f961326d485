"""A transfer whose gateways were killed is finished by new ones, which send only what is missing."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

import psutil
import pytest

from skyplane_core.client import Location, SkyplaneClient
from skyplane_core.spec import TransferOptions
from skyplane_core.testing.objectserver import ObjectServer

At = Callable[..., Location]
MIB = 1024 * 1024
OPTIONS = TransferOptions(part_size=5 * MIB, multipart_threshold=6 * MIB, concurrency=2)


@pytest.mark.parametrize("changed", [False, True], ids=["same-source", "source-changed-meanwhile"])
def test_killed_gateways_cost_only_what_was_not_acknowledged(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient, changed: bool
) -> None:
    body = os.urandom(60 * MIB)
    s3.put("src", "p/large", body)
    gcs.set_network(bandwidth=5e6)
    prepared = client.prepare(source("p/"), destination("q/"), recursive=True, options=OPTIONS)
    first = client.dataplane()
    with first.auto_deprovision():
        first.provision()
        tracker = first.submit(prepared)
        deadline = time.monotonic() + 60
        # The journal notes acks every two seconds; wait until some are noted.
        while time.monotonic() < deadline and not (
            tracker.progress().bytes_acked >= 25 * MIB
            and len([key for key in gcs.list("dst", "q/.skyplane/") if "journal" in key]) >= 2
        ):
            time.sleep(0.05)
        for address in first.reference.gateways:
            family = psutil.Process(address.pid)
            for process in (*family.children(recursive=True), family):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
    assert "q/large" not in gcs.list("dst", "q/")
    assert len(gcs.uploads("dst")) == 1
    if changed:
        body = os.urandom(60 * MIB)
        s3.put("src", "p/large", body)
    gcs.set_network(bandwidth=0)
    sent_before = gcs.requests["UploadPart"]
    second = client.dataplane()
    with second.auto_deprovision():
        second.provision()
        again = client.prepare(
            source("p/"), destination("q/"), recursive=True, options=OPTIONS, transfer_id=prepared.spec.transfer_id
        )
        second.submit(again).wait().raise_for_state()
    assert gcs.get("dst", "q/large") == body
    assert gcs.uploads("dst") == []
    sent_again = gcs.requests["UploadPart"] - sent_before
    assert sent_again == 12 if changed else 0 < sent_again <= 10
