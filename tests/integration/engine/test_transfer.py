"""Transfers from S3 to GCS through real gateways, checked on the destination server's own state."""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import Callable

import msgspec
import pytest

from skyplane_core.client import ClientConfig, Location, SkyplaneClient
from skyplane_core.errors import TransferFailed
from skyplane_core.model import Attestation, Compression, Shrinkage
from skyplane_core.spec import Compare, Outcome, TransferOptions, TransferState
from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer

MIB = 1024 * 1024
At = Callable[..., Location]

ODD_KEYS = [
    "plain.txt",
    "with space and  two",
    "ünïcödé/日本語/🚀.bin",
    "percent%20and%zz%",
    "plus+plus",
    "double//slash",
    "question?mark#hash&amp=x",
    "a/../b/./c",
    "folder/marker/",
    "quotes'\"`;\\",
    "k" * 900,
    "control\x01char",
]


def text(size: int, seed: int = 1) -> bytes:
    words = random.Random(seed).choices([b"alpha ", b"beta ", b"gamma ", b"delta\n"], k=size // 5 + 1)
    return b"".join(words)[:size]


def data_set(prefix: str = "data/") -> dict[str, bytes]:
    objects = {prefix + key: os.urandom(100 + number) for number, key in enumerate(ODD_KEYS)}
    objects[f"{prefix}folder/marker/"] = b""
    objects[f"{prefix}zero"] = b""
    objects.update({f"{prefix}small/{number:04d}": os.urandom(number * 37) for number in range(150)})
    objects[f"{prefix}large/random"] = os.urandom(23 * MIB + 17)
    objects[f"{prefix}large/text"] = text(12 * MIB + 1)
    return objects


def fill(server: ObjectServer, objects: dict[str, bytes]) -> None:
    for key, body in objects.items():
        server.put("src", key, body)


STRIPED = TransferOptions(part_size=5 * MIB, multipart_threshold=6 * MIB)


def test_every_object_arrives_byte_exact_and_a_second_run_moves_nothing(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, either_client: SkyplaneClient
) -> None:
    objects = data_set()
    fill(s3, objects)
    s3.put("src", "database/is/another/prefix", b"not selected")
    result = either_client.copy(source("data"), destination("in"), recursive=True, options=STRIPED)
    expected = {"in/" + key.removeprefix("data/"): body for key, body in objects.items()}
    there = [key for key in gcs.list("dst") if "/.skyplane/" not in key]
    assert there == sorted(expected, key=str.encode)
    for key, body in expected.items():
        assert gcs.get("dst", key) == body, key
    assert gcs.uploads("dst") == []
    lines = {line.key: line for line in result.lines()}
    assert sorted(lines) == sorted(objects)
    assert {line.outcome for line in lines.values()} == {Outcome.COPIED}
    assert {line.attestation for line in lines.values()} == {Attestation.WHOLE}
    assert all(line.crc32c == line.destination_crc32c for line in lines.values())
    assert result.progress.bytes_copied == sum(map(len, objects.values()))
    assert result.receipt.startswith("gs://dst/in/.skyplane/")
    # The journal has gone, the receipt has stayed.
    state = list(gcs.list("dst", "in/.skyplane/"))
    assert state
    assert not [key for key in state if "journal" in key]
    again = either_client.sync(source("data"), destination("in"), options=TransferOptions(compare=Compare.EXACT))
    assert (again.progress.objects_copied, again.progress.objects_skipped) == (0, len(objects))


def test_a_changed_object_of_the_same_size_is_copied_again(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    fill(s3, {"p/a": b"one", "p/b": b"two"})
    client.sync(source("p/"), destination("q/"))
    s3.put("src", "p/b", b"TWO")
    result = client.sync(source("p/"), destination("q/"))
    assert [(line.key, line.outcome) for line in result.lines()] == [
        ("p/a", Outcome.SKIPPED),
        ("p/b", Outcome.COPIED),
    ]
    assert gcs.get("dst", "q/b") == b"TWO"


def test_content_headers_and_user_metadata_arrive_on_small_and_striped_objects(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, either_client: SkyplaneClient
) -> None:
    attributes = {"content-type": "text/csv", "cache-control": "max-age=60", "content-language": "de"}
    for key, size in (("p/small", 10), ("p/large", 11 * MIB)):
        s3.put("src", key, text(size), attributes=attributes, metadata={"owner": "team-a"})
    either_client.copy(source("p/"), destination("q/"), recursive=True, options=STRIPED)
    for key in ("q/small", "q/large"):
        described = gcs.head("dst", key)
        assert attributes.items() <= described["attributes"].items()
        assert described["metadata"]["owner"] == "team-a"


def test_without_attributes_every_object_is_an_octet_stream_and_nothing_is_recorded(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    for key, size in (("p/small", 10), ("p/large", 11 * MIB)):
        s3.put("src", key, text(size), attributes={"content-type": "text/csv"}, metadata={"owner": "team-a"})
    options = TransferOptions(
        part_size=5 * MIB, multipart_threshold=6 * MIB, keep_attributes=False, record_source=False
    )
    client.copy(source("p/"), destination("q/"), recursive=True, options=options)
    for key in ("q/small", "q/large"):
        described = gcs.head("dst", key)
        assert described["attributes"]["content-type"] == "application/octet-stream"
        assert described["metadata"] == {}


def test_text_shrinks_on_the_wire_and_random_bytes_do_not_grow(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    fill(s3, {"text/a": text(8 * MIB), "random/a": os.urandom(8 * MIB)})
    options = TransferOptions(compression=Compression.LZ4)
    shrunk = client.copy(source("text/"), destination("t/"), recursive=True, options=options)
    assert shrunk.progress.wire_bytes < 8 * MIB * 0.7
    sent = client.copy(source("random/"), destination("r/"), recursive=True, options=options)
    assert 8 * MIB <= sent.progress.wire_bytes < 8 * MIB * 1.01
    compressed, dense = shrunk.progress.shrinkage, sent.progress.shrinkage
    assert compressed is not None
    assert dense is not None
    assert (compressed.lz4_bytes, compressed.dense_bytes, compressed.local_bytes) == (8 * MIB, 0, 0)
    assert compressed.lz4_bytes_after < shrunk.progress.wire_bytes
    assert (dense.lz4_bytes, dense.dense_bytes, dense.local_bytes) == (0, 8 * MIB, 0)
    (receipt,) = [key for key in gcs.list("dst", "r/") if key.endswith("/receipt.json")]
    assert json.loads(gcs.get("dst", receipt))["progress"]["shrinkage"] == msgspec.to_builtins(dense)


def test_auto_leaves_text_alone_on_one_machine_and_none_has_nothing_to_say(
    s3: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    fill(s3, {"text/a": text(8 * MIB)})
    local = client.copy(source("text/"), destination("t/"), recursive=True).progress
    assert local.shrinkage == Shrinkage(Compression.AUTO, local_bytes=8 * MIB)
    options = TransferOptions(compression=Compression.NONE)
    assert client.copy(source("text/"), destination("u/"), recursive=True, options=options).progress.shrinkage is None


def test_one_object_goes_where_its_name_says(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    fill(s3, {"p/a.txt": b"x", "p/a.txt.old": b"y"})
    client.copy(source("p/a.txt"), destination("to/"))
    client.copy(source("p/a.txt"), destination("renamed"))
    client.copy(source("p/a.txt"), destination(""))
    assert [key for key in gcs.list("dst") if ".skyplane" not in key] == ["a.txt", "renamed", "to/a.txt"]


def test_two_transfers_at_once_and_one_after_the_other_share_a_dataplane(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    fill(s3, {f"{name}/{number}": os.urandom(2 * MIB) for name in "abc" for number in range(6)})
    dataplane = client.dataplane()
    with dataplane.auto_deprovision():
        dataplane.provision()
        for name in "ab":
            dataplane.queue_copy(source(name), destination(f"to-{name}"), recursive=True)
        trackers = dataplane.run_async()
        results = trackers.wait()
        assert trackers.query_bytes_remaining() == 0
        assert trackers.is_complete
        dataplane.queue_copy(source("c"), destination("to-c"), recursive=True)
        results += dataplane.run()
        assert [gateway.status().transfers for gateway in dataplane.gateways] == [{}, {}]
    assert [result.progress.objects_copied for result in results] == [6, 6, 6]
    for name in "abc":
        for number in range(6):
            assert gcs.get("dst", f"to-{name}/{number}") == s3.get("src", f"{name}/{number}")


def test_another_client_with_the_same_secret_finds_the_dataplane_again(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    fill(s3, {f"a/{number}": os.urandom(MIB) for number in range(40)})
    s3.set_network(latency=0.05)
    prepared = client.prepare(source("a"), destination("b"), recursive=True)
    first = client.dataplane()
    with first.auto_deprovision():
        first.provision()
        first.submit(prepared)
        friend = SkyplaneClient(ClientConfig(control_secret=client.config.secret()))
        with contextlib.closing(friend.attach(first.reference)) as other:
            result = other.tracker(prepared.spec.transfer_id, prepared).wait()
            assert result.ok
            assert len(list(result.lines())) == 40
        stranger = SkyplaneClient(ClientConfig(control_secret=b"another secret of at least 32 bytes!"))
        with contextlib.closing(stranger.attach(first.reference)) as locked_out:
            assert not locked_out.alive()


def test_an_object_that_changes_and_one_that_vanishes_fail_by_name_and_the_others_arrive(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, either_client: SkyplaneClient
) -> None:
    fill(s3, {f"p/{number}": os.urandom(1000) for number in range(20)})
    s3.set_faults(
        Faults(Fault("GetObject", "stall", key="p/3", seconds=3), Fault("GetObject", "stall", key="p/7", seconds=3))
    )
    prepared = either_client.prepare(source("p/"), destination("q/"), recursive=True)
    dataplane = either_client.dataplane()
    with dataplane.auto_deprovision():
        dataplane.provision()
        tracker = dataplane.submit(prepared)
        while tracker.progress().objects_copied < 18:
            pass
        s3.put("src", "p/3", b"changed")
        s3.delete("src", "p/7")
        result = tracker.wait()
    assert result.progress.state is TransferState.FAILED
    failed = {line.key: line.reason for line in result.lines() if line.outcome is Outcome.FAILED}
    assert sorted(failed) == ["p/3", "p/7"]
    assert result.progress.objects_copied == 18
    with pytest.raises(TransferFailed, match="p/3"):
        result.raise_for_state()
    assert len([key for key in gcs.list("dst", "q/") if ".skyplane" not in key]) == 18


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PutObject", "status", nth=(2, 5), status=503, code="SlowDown"),
        Fault("UploadPart", "status", nth=(1, 3), status=500, code="InternalError"),
        Fault("UploadPart", "reset-before", nth=(2,)),
        Fault("CompleteMultipartUpload", "status", nth=(1,), status=503, code="ServiceUnavailable"),
        Fault("UploadPart", "flip-upload", nth=(1,), at=100),
    ],
    ids=lambda fault: f"{fault.operation}-{fault.action}",
)
def test_passing_trouble_at_the_destination_is_ridden_out(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient, fault: Fault
) -> None:
    objects = {f"p/{number}": os.urandom(3000) for number in range(10)} | {"p/large": os.urandom(21 * MIB)}
    fill(s3, objects)
    gcs.set_faults(Faults(fault))
    client.copy(source("p/"), destination("q/"), recursive=True, options=STRIPED)
    assert sum(gcs.statistics["faults_fired"]) > 0
    for key, body in objects.items():
        assert gcs.get("dst", "q/" + key.removeprefix("p/")) == body
    assert gcs.uploads("dst") == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault("GetObject", "truncate", nth=(2,), at=100),
        Fault("GetObject", "reset-during", nth=(1, 4), at=50),
        Fault("GetObject", "status", nth=(3,), status=503, code="SlowDown"),
    ],
    ids=lambda fault: fault.action,
)
def test_passing_trouble_at_the_source_is_ridden_out(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient, fault: Fault
) -> None:
    objects = {f"p/{number}": os.urandom(3000) for number in range(10)} | {"p/large": os.urandom(21 * MIB)}
    fill(s3, objects)
    s3.set_faults(Faults(fault))
    client.copy(source("p/"), destination("q/"), recursive=True, options=STRIPED)
    assert sum(s3.statistics["faults_fired"]) > 0
    for key, body in objects.items():
        assert gcs.get("dst", "q/" + key.removeprefix("p/")) == body


def test_a_destination_that_refuses_one_object_fails_it_by_name_and_leaves_no_upload(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    fill(s3, {"p/good": b"x", "p/large": os.urandom(21 * MIB)})
    gcs.set_faults(Faults(Fault("UploadPart", "status", nth=(2,), status=403, code="AccessDenied")))
    with pytest.raises(TransferFailed) as raised:
        client.copy(source("p/"), destination("q/"), recursive=True, options=STRIPED)
    assert [key for key, _reason in raised.value.failures] == ["p/large"]
    assert gcs.get("dst", "q/good") == b"x"
    assert gcs.uploads("dst") == []


def test_a_cancelled_transfer_ends_as_cancelled_and_leaves_no_upload(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    fill(s3, {f"p/{number}": os.urandom(12 * MIB) for number in range(6)})
    gcs.set_network(bandwidth=2e6)
    prepared = client.prepare(source("p/"), destination("q/"), recursive=True, options=STRIPED)
    dataplane = client.dataplane()
    with dataplane.auto_deprovision():
        dataplane.provision()
        tracker = dataplane.submit(prepared)
        while not gcs.uploads("dst"):
            pass
        tracker.cancel()
        result = tracker.wait(timeout=60)
    assert result.progress.state is TransferState.CANCELLED
    assert gcs.uploads("dst") == []
