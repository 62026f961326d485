"""A transfer whose gateways were killed is finished by new ones, which send only what is missing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from skyplane_core.client import Location, SkyplaneClient
from skyplane_core.errors import TransferFailed, UsageError
from skyplane_core.spec import Compare, DeleteCap, Outcome, TransferOptions
from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer
from tests.servers.power_loss import lose_power

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
        lose_power(*first.reference.gateways)
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


def test_what_had_arrived_is_not_copied_again_and_an_id_stays_with_its_transfer(
    s3: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    for number in range(5):
        s3.put("src", f"p/{number}", os.urandom(1000))
    s3.set_faults(Faults(Fault("GetObject", "status", key="p/3", status=403, code="AccessDenied")))
    with pytest.raises(TransferFailed):
        client.copy(source("p/"), destination("q/"), recursive=True, transfer_id="ab" * 16)
    s3.set_faults(None)
    read = s3.requests["GetObject"]
    result = client.copy(source("p/"), destination("q/"), recursive=True, transfer_id="ab" * 16, resume=True)
    assert (result.progress.objects_copied, result.progress.objects_skipped) == (1, 4)
    assert s3.requests["GetObject"] - read == 1
    with pytest.raises(UsageError, match="has left anything"):
        client.copy(source("p/"), destination("q/"), recursive=True, transfer_id="cd" * 16, resume=True)


def test_an_id_is_refused_for_another_transfer(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    s3.put("src", "p/a", b"x")
    s3.put("src", "r/b", b"y")
    gcs.set_faults(Faults(Fault("PutObject", "status", key="q/a", status=403, code="AccessDenied")))
    with pytest.raises(TransferFailed):
        client.copy(source("p/"), destination("q/"), recursive=True, transfer_id="ab" * 16)
    with pytest.raises(TransferFailed, match="another transfer"):
        client.copy(source("r/"), destination("q/"), recursive=True, transfer_id="ab" * 16, resume=True)
    assert "q/b" not in gcs.list("dst")


def test_a_receipt_that_could_not_be_stored_is_not_spoken_of(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    s3.put("src", "p/a", b"x")
    gcs.set_faults(Faults(Fault("PutObject", "status", status=403, code="AccessDenied")))
    with pytest.raises(TransferFailed) as raised:
        client.copy(source("p/"), destination("q/"), recursive=True)
    text = str(raised.value)
    assert "1 of 1 object did not arrive" in text
    assert "the receipt names all" not in text


def test_deletions_that_were_broken_off_are_finished_and_all_of_them_are_in_the_receipt(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    s3.put("src", "p/a", b"x")
    old = [f"q/old/{number:02}" for number in range(40)]
    for key in old:
        gcs.put("dst", key, b"y")
    gcs.set_faults(Faults(Fault("DeleteObject", "hold-before", key=old[5])))
    options = TransferOptions(compare=Compare.EXACT, delete=True, max_delete=DeleteCap(objects=40))
    prepared = client.prepare(source("p/"), destination("q/"), mode="sync", options=options)
    first = client.dataplane()
    with first.auto_deprovision():
        first.provision()
        tracker = first.submit(prepared)
        gcs.wait_held()
        while tracker.progress().objects_deleted < 39:
            time.sleep(0.01)
        lose_power(*first.reference.gateways)
    assert gcs.list("dst", "q/old/") == [old[5]]
    gcs.set_faults(None)
    gcs.release()
    again = client.prepare(
        source("p/"),
        destination("q/"),
        mode="sync",
        options=options,
        transfer_id=prepared.spec.transfer_id,
        resume=True,
    )
    # One more would be beyond the cap: those that went before the gateways died count as well.
    gcs.put("dst", "q/old/more", b"z")
    second = client.dataplane()
    with second.auto_deprovision():
        second.provision()
        refused = second.submit(again).wait()
        assert "41 of 41 objects" in refused.progress.error
        assert "q/old/more" in gcs.list("dst", "q/old/")
        gcs.delete("dst", "q/old/more")
        result = second.submit(again).wait()
    result.raise_for_state()
    assert result.progress.objects_deleted == 40
    assert sorted(line.destination_key for line in result.lines() if line.outcome is Outcome.DELETED) == old
    assert [key.partition("/.skyplane/")[0] for key in gcs.list("dst", "q/")] == ["q", "q", "q/a"]
