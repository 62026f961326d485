"""Transfers to and from Azure through real gateways, read by Azure's own client and by the servers themselves."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from skyplane_core.client import Location, SkyplaneClient
from skyplane_core.errors import TransferFailed, Unauthenticated, UsageError
from skyplane_core.model import Attestation, AttributeRules, Credentials, ObjectAttributes, StoreConfig, Unfit
from skyplane_core.spec import SOURCE_VERSION_KEY, Compare, Outcome, TransferOptions
from skyplane_core.stores.registry import open_store
from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer
from tests.servers.power_loss import lose_power

MIB = 1024 * 1024
ACCOUNT = "account"
KEY = base64.b64encode(b"k" * 32).decode()
STRIPED = TransferOptions(part_size=5 * MIB, multipart_threshold=6 * MIB)
SYNC = TransferOptions(part_size=5 * MIB, multipart_threshold=6 * MIB, compare=Compare.EXACT)

At = Callable[..., Location]


@pytest.fixture
def azure() -> Iterator[ObjectServer]:
    with ObjectServer("azure", buckets=["box"], credentials={ACCOUNT: KEY}) as server:
        yield server


@pytest.fixture
def blobs(azure: ObjectServer) -> At:
    store = StoreConfig(
        "azure", f"{ACCOUNT}/box", endpoint_url=azure.endpoint_url, credentials=Credentials(ACCOUNT, KEY)
    )
    return lambda key="": Location(store, key)


def objects() -> dict[str, bytes]:
    found = {f"data/{name}": os.urandom(50 + len(name)) for name in ("a-b", "a/b", "a.txt", "ünï/日本 %2F+?#")}
    found["data/large"] = os.urandom(17 * MIB + 11)
    found["data/empty"] = b""
    return found


def read_by_azures_own_client(location: Location, prefix: str) -> dict[str, bytes]:
    from azure.storage.blob import ContainerClient

    with ContainerClient(
        f"{location.store.endpoint_url}/{ACCOUNT}", "box", credential={"account_name": ACCOUNT, "account_key": KEY}
    ) as container:
        names = [blob.name for blob in container.list_blobs(prefix)]
        return {name: container.download_blob(name).readall() for name in names}


def test_s3_to_azure_and_a_second_sync_that_copies_nothing(
    s3: ObjectServer, source: At, blobs: At, either_client: SkyplaneClient
) -> None:
    wanted = objects()
    for key, content in wanted.items():
        s3.put("src", key, content)
    result = either_client.sync(source("data/"), blobs("copy/"), options=SYNC)
    lines = [line for line in result.lines() if line.outcome is Outcome.COPIED]
    assert len(lines) == len(wanted)
    by_key = {line.key: line.attestation for line in lines}
    assert by_key["data/large"] is Attestation.PER_PART
    assert by_key["data/a.txt"] is Attestation.WHOLE
    found = read_by_azures_own_client(blobs(), "copy/")
    assert {
        f"data/{key.removeprefix('copy/')}": body for key, body in found.items() if "/.skyplane/" not in key
    } == wanted
    again = either_client.sync(source("data/"), blobs("copy/"), options=SYNC)
    assert again.progress.objects_copied == 0
    assert again.progress.objects_skipped == len(wanted)


def test_azure_to_gcs(
    azure: ObjectServer, gcs: ObjectServer, blobs: At, destination: At, either_client: SkyplaneClient
) -> None:
    wanted = objects()
    for key, content in wanted.items():
        azure.put("box", key, content)
    either_client.copy(blobs("data/"), destination("in/"), recursive=True, options=STRIPED)
    assert {key: gcs.get("dst", f"in/{key.removeprefix('data/')}") for key in wanted} == wanted


def test_azure_to_a_local_disk(azure: ObjectServer, blobs: At, client: SkyplaneClient, tmp_path: Path) -> None:
    wanted = {key: content for key, content in objects().items() if not key.endswith("/")}
    for key, content in wanted.items():
        azure.put("box", key, content)
    client.copy(blobs("data/"), str(tmp_path / "out"), recursive=True, options=STRIPED)
    found = {f"data/{path.relative_to(tmp_path / 'out')}": path for path in (tmp_path / "out").rglob("*")}
    assert {key: found[key].read_bytes() for key in wanted} == wanted


def test_a_hierarchical_namespace_is_read_in_the_order_of_the_other_side(
    gcs: ObjectServer, destination: At, client: SkyplaneClient
) -> None:
    wanted = objects()
    with ObjectServer("azure", buckets=["box"], credentials={ACCOUNT: KEY}, hierarchical=True) as server:
        for key, content in wanted.items():
            server.put("box", key, content)
        store = StoreConfig(
            "azure", f"{ACCOUNT}/box", endpoint_url=server.endpoint_url, credentials=Credentials(ACCOUNT, KEY)
        )
        client.sync(Location(store, "data/"), destination("in/"), options=SYNC)
        again = client.sync(Location(store, "data/"), destination("in/"), options=SYNC)
    assert {key: gcs.get("dst", f"in/{key.removeprefix('data/')}") for key in wanted} == wanted
    assert (again.progress.objects_copied, again.progress.objects_skipped) == (0, len(wanted))


def test_metadata_that_azure_cannot_hold_fail_by_name_and_spare_the_others(
    s3: ObjectServer, azure: ObjectServer, source: At, blobs: At, client: SkyplaneClient
) -> None:
    s3.put("src", "data/good", b"good", metadata={"owner": "somebody"})
    s3.put("src", "data/bad", b"bad", metadata={"no-identifier": "x"})
    with pytest.raises(TransferFailed) as caught:
        client.copy(source("data/"), blobs("copy/"), recursive=True)
    assert [key for key, _ in caught.value.failures] == ["data/bad"]
    assert "metadata 'no-identifier' is no name there" in caught.value.failures[0][1]
    assert azure.get("box", "copy/good") == b"good"
    store = open_store(blobs().store)
    kept = store.head("copy/good").attributes
    store.close()
    assert isinstance(kept, ObjectAttributes)
    assert kept.metadata["owner"] == "somebody"
    assert SOURCE_VERSION_KEY in kept.metadata


def test_metadata_get_names_that_azure_can_hold_where_that_is_asked_for(
    s3: ObjectServer, source: At, blobs: At, client: SkyplaneClient
) -> None:
    s3.put("src", "object", b"x", metadata={"no-identifier": "Dvorak", "7th": "x"})
    rules = AttributeRules(unfit=Unfit.RENAME, metadata={"city": "Nelahozeves nad Vltavou, \u010cesko"})
    client.copy(source("object"), blobs("object"), options=TransferOptions(attributes=rules))
    store = open_store(blobs().store)
    kept = store.head("object").attributes
    store.close()
    assert kept is not None
    found = {name: value for name, value in kept.metadata.items() if name != SOURCE_VERSION_KEY}
    assert found == {"no_identifier": "Dvorak", "_7th": "x", **rules.metadata}


def test_bytes_that_change_on_the_way_to_azure_are_sent_again(
    s3: ObjectServer, azure: ObjectServer, source: At, blobs: At, client: SkyplaneClient
) -> None:
    content = os.urandom(12 * MIB)
    s3.put("src", "large", content)
    azure.set_faults(
        Faults(
            Fault("UploadPart", "flip-upload", at=1000, nth=(2,)),
            Fault("CompleteMultipartUpload", "reset-after", nth=(1,)),
        )
    )
    client.copy(source("large"), blobs("large"), options=STRIPED)
    assert azure.get("box", "large") == content


def test_killed_gateways_cost_only_the_blocks_that_had_not_arrived(
    s3: ObjectServer, azure: ObjectServer, source: At, blobs: At, client: SkyplaneClient
) -> None:
    body = os.urandom(60 * MIB)
    s3.put("src", "p/large", body)
    azure.set_network(bandwidth=5e6)
    options = msgspec.structs.replace(STRIPED, concurrency=2)
    prepared = client.prepare(source("p/"), blobs("q/"), recursive=True, options=options)
    first = client.dataplane()
    with first.auto_deprovision():
        first.provision()
        tracker = first.submit(prepared)
        deadline = time.monotonic() + 60
        # The journal notes acks every two seconds; wait until some are noted.
        while time.monotonic() < deadline and not (
            tracker.progress().bytes_acked >= 25 * MIB
            and len([key for key in azure.list("box", "q/.skyplane/") if "journal" in key]) >= 2
        ):
            time.sleep(0.05)
        lose_power(*first.reference.gateways)
    assert "q/large" not in azure.list("box", "q/")
    azure.set_network(bandwidth=0)
    sent_before = azure.requests["UploadPart"]
    second = client.dataplane()
    with second.auto_deprovision():
        second.provision()
        again = client.prepare(
            source("p/"), blobs("q/"), recursive=True, options=options, transfer_id=prepared.spec.transfer_id
        )
        second.submit(again).wait().raise_for_state()
    assert azure.get("box", "q/large") == body
    # Of its twelve parts; the block that opens an upload is not written again.
    assert 0 < azure.requests["UploadPart"] - sent_before <= 10


def test_a_token_that_is_about_to_expire_is_renewed(s3: ObjectServer, source: At, client: SkyplaneClient) -> None:
    content = os.urandom(30 * MIB)
    s3.put("src", "large", content)
    with ObjectServer("azure", buckets=["box"], tokens=["first"]) as server:

        def store(token: str, seconds: float) -> StoreConfig:
            credentials = Credentials(token=token, expires_at=time.time() + seconds)
            return StoreConfig("azure", f"{ACCOUNT}/box", endpoint_url=server.endpoint_url, credentials=credentials)

        def refresh() -> tuple[StoreConfig, StoreConfig]:
            # From now on the first one is good for nothing.
            server.set_credentials(tokens=["second"])
            return source().store, store("second", 3600)

        client.copy(source("large"), Location(store("first", 30), "large"), options=STRIPED, refresh=refresh)
        assert server.get("box", "large") == content
        stale = open_store(store("first", 30))
        with pytest.raises(Unauthenticated):
            stale.probe()
        stale.close()


def test_a_directory_of_a_hierarchical_namespace_is_no_object(destination: At, client: SkyplaneClient) -> None:
    with ObjectServer("azure", buckets=["box"], hierarchical=True) as server:
        server.put("box", "dir/a", b"x")
        store = StoreConfig("azure", f"{ACCOUNT}/box", endpoint_url=server.endpoint_url)
        with pytest.raises(UsageError, match="is a prefix with objects under it"):
            client.copy(Location(store, "dir"), destination("in/"))
