"""Bad input gets one clear error before anything is provisioned or written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from skyplane_core.client import Location, SkyplaneClient
from skyplane_core.errors import (
    BucketNotFound,
    InvalidURI,
    NothingToTransfer,
    ObjectNotFound,
    PermissionDenied,
    SkyplaneError,
    Unauthenticated,
    UsageError,
)
from skyplane_core.model import Credentials
from skyplane_core.provision.local import LocalProvisioner
from skyplane_core.testing.objectserver import ObjectServer

At = Callable[..., Location]


@pytest.fixture(autouse=True)
def nothing_is_provisioned(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: LocalProvisioner, _count: int) -> None:
        raise AssertionError("gateways were started for a transfer that cannot succeed")

    monkeypatch.setattr(LocalProvisioner, "start", refuse)


def bucket(location: Location, name: str) -> Location:
    return Location(msgspec.structs.replace(location.store, bucket=name), location.key)


def test_missing_buckets_are_named(s3: ObjectServer, source: At, destination: At, client: SkyplaneClient) -> None:
    s3.put("src", "p/a", b"x")
    with pytest.raises(BucketNotFound, match="s3://nowhere"):
        client.copy(bucket(source("p/"), "nowhere"), destination("q/"), recursive=True)
    with pytest.raises(BucketNotFound, match="gs://nowhere"):
        client.copy(source("p/"), bucket(destination("q/"), "nowhere"), recursive=True)


def test_wrong_credentials_are_told_before_anything_starts(
    s3: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    s3.put("src", "p/a", b"x")
    wrong = Credentials(access_key="AKTEST", secret_key="not the secret")
    with pytest.raises(SkyplaneError, match="s3://src"):
        client.copy(
            Location(msgspec.structs.replace(source().store, credentials=wrong), "p/"), destination(), recursive=True
        )
    with pytest.raises(Unauthenticated, match="gs://dst"):
        bad = msgspec.structs.replace(destination().store, credentials=Credentials(token="expired"))
        client.copy(source("p/"), Location(bad, ""), recursive=True)


def test_a_prefix_with_nothing_under_it(s3: ObjectServer, source: At, destination: At, client: SkyplaneClient) -> None:
    s3.put("src", "data-other/a", b"x")
    with pytest.raises(NothingToTransfer, match="s3://src/data"):
        client.copy(source("data"), destination(), recursive=True)
    with pytest.raises(ObjectNotFound, match="s3://src/no/such"):
        client.copy(source("no/such"), destination())


def test_a_prefix_where_an_object_was_meant_and_the_other_way_round(
    s3: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    s3.put("src", "p/a", b"x")
    with pytest.raises(UsageError, match="recursive"):
        client.copy(source("p"), destination())
    with pytest.raises(UsageError, match="one object"):
        client.copy(source("p/a"), destination(), recursive=True)


def test_a_transfer_onto_itself_or_into_itself(s3: ObjectServer, source: At, client: SkyplaneClient) -> None:
    s3.put("src", "p/a", b"x")
    with pytest.raises(UsageError, match="same"):
        client.copy(source("p/"), source("p"), recursive=True)
    with pytest.raises(UsageError, match="inside the source"):
        client.copy(source("p/"), source("p/copy/"), recursive=True)
    with pytest.raises(UsageError, match="inside the source"):
        client.copy(source(""), source("backup/"), recursive=True)
    with pytest.raises(UsageError, match="same"):
        client.copy(source("p/a"), source("p/"))


def test_malformed_and_unsupported_uris(client: SkyplaneClient, tmp_path: Path) -> None:
    for wrong in ("", "s3://", "ftp://host/x", "hdfs:///x", "scp://host/x", "az://account/x", "gs:/bucket/x"):
        with pytest.raises(InvalidURI):
            client.copy(wrong, str(tmp_path), recursive=True)


def test_contradictory_requests(source: At, destination: At, client: SkyplaneClient) -> None:
    with pytest.raises(UsageError, match="mode"):
        client.prepare(source(), destination(), mode="move")
    with pytest.raises(UsageError, match="no provisioner"):
        client.dataplane("aws", "us-east-1", "gcp", "us-central1")


def test_a_dry_run_tells_what_would_happen_and_writes_nothing(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    s3.put("src", "p/a", b"x")
    s3.put("src", "p/b", b"yy")
    gcs.put("dst", "q/a", b"x")
    plan, decisions = client.dry_run(client.prepare(source("p/"), destination("q/"), mode="sync"))
    assert plan.kind == "direct"
    assert plan.price.usd == 0
    told = [(decision.source.key, decision.action.value, decision.reason) for decision in decisions]
    assert told[1] == ("p/b", "copy", "new")
    assert gcs.list("dst") == ["q/a"]


def test_a_local_destination_that_cannot_be_written(
    s3: ObjectServer, source: At, client: SkyplaneClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put("src", "p/a", b"x")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="a file stands where a directory was meant"):
        client.copy(source("p/"), str(tmp_path / "file"), recursive=True)
    # The tests may run as root, to whom everything is allowed.
    monkeypatch.setattr("skyplane_core.prepare.os.access", lambda _path, _mode: False)
    with pytest.raises(PermissionDenied, match="cannot be written"):
        client.copy(source("p/"), str(tmp_path / "new"), recursive=True)
