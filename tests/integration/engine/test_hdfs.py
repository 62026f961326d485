"""From S3 to a real HDFS and from there to GCS. What is there is told by Hadoop's own tools and the DataNode's disk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from skyplane_core.client import Location, SkyplaneClient
from skyplane_core.errors import TransferFailed
from skyplane_core.locations import resolve
from skyplane_core.model import Attestation
from skyplane_core.spec import Compare, Outcome, TransferOptions
from skyplane_core.testing.objectserver import ObjectServer
from tests.servers.hdfs import HdfsServer, hdfs

At = Callable[..., Location]
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def hadoop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HdfsServer]:
    """A cluster whose DataNode is not where it says it is: clients have to be told (see ``outside``)."""
    with hdfs(tmp_path_factory.mktemp("hdfs"), listen="127.0.0.2") as server:
        yield server


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYPLANE_HDFS_DATANODES", "datanode.invalid=127.0.0.2")


@pytest.mark.usefixtures("outside")
def test_a_tree_goes_from_s3_to_hdfs_and_from_there_to_gcs(
    s3: ObjectServer,
    gcs: ObjectServer,
    source: At,
    destination: At,
    either_client: SkyplaneClient,
    hadoop: HdfsServer,
) -> None:
    objects = {f"p/{number}": os.urandom(1000 * number) for number in range(4)}
    objects |= {"p/a b/ü.txt": b"x", "p/a b!": b"y", "p/large": os.urandom(40 * MIB + 1)}
    for key, body in objects.items():
        s3.put("src", key, body)
    s3.put("src", "p/empty/", b"")
    wanted = {key.removeprefix("p/"): body for key, body in objects.items()}
    target = f"{hadoop.url}/user/by-{either_client.config.gateways}"
    result = either_client.copy(source("p/"), resolve(target, directory=True), recursive=True)
    assert result.progress.objects_copied == 8
    assert {line.attestation for line in result.lines() if line.size} == {Attestation.READ_BACK}
    path = target.removeprefix(hadoop.url)
    listed = hadoop.shell("-ls", "-R", path).decode()
    assert f"{path}/empty\n" in listed
    assert "/.skyplane/uploads/" not in listed
    for key in ("0", "3", "large"):
        assert hadoop.blocks(f"{path}/{key}") == wanted[key]
    either_client.copy(resolve(target), destination("back/"), recursive=True)
    keys = [key for key in gcs.list("dst") if "/.skyplane/" not in key]
    assert keys == sorted(f"back/{key}" for key in [*wanted, "empty/"])
    assert {key: gcs.get("dst", f"back/{key}") for key in wanted} == wanted


@pytest.mark.usefixtures("outside")
def test_a_sync_copies_only_what_has_changed(
    s3: ObjectServer, source: At, client: SkyplaneClient, hadoop: HdfsServer
) -> None:
    s3.put("src", "p/1", b"first")
    s3.put("src", "p/2", b"second")
    target = resolve(f"{hadoop.url}/user/synced", directory=True)
    assert client.sync(source("p/"), target).progress.objects_copied == 2
    assert client.sync(source("p/"), target).progress.objects_copied == 0
    s3.put("src", "p/2", b"chang2")
    changed = client.sync(source("p/"), target)
    assert {line.key for line in changed.lines() if line.outcome is Outcome.COPIED} == {"p/2"}
    assert hadoop.blocks("/user/synced/2") == b"chang2"
    s3.put("src", "p/2", b"changed")
    by_size = client.sync(source("p/"), target, options=TransferOptions(compare=Compare.SIZE))
    assert {line.key for line in by_size.lines() if line.outcome is Outcome.COPIED} == {"p/2"}
    hadoop.set_time("/user/synced/1", time.time() - 3600)
    hadoop.set_time("/user/synced/2", time.time() + 3600)
    by_time = client.sync(source("p/"), target, options=TransferOptions(compare=Compare.MTIME))
    assert {line.key for line in by_time.lines() if line.outcome is Outcome.COPIED} == {"p/1"}


@pytest.mark.usefixtures("outside")
def test_one_object_goes_to_the_name_or_into_the_directory_that_is_given(
    s3: ObjectServer, source: At, client: SkyplaneClient, hadoop: HdfsServer
) -> None:
    s3.put("src", "p/one", b"content")
    hadoop.make_directory("/user/single/there")
    for target in ("single/name", "single/there", "single/new/"):
        client.copy(source("p/one"), f"{hadoop.url}/user/{target}")
    for path in ("/user/single/name", "/user/single/there/one", "/user/single/new/one"):
        assert hadoop.blocks(path) == b"content"


def test_without_the_other_address_nothing_is_called_done(
    s3: ObjectServer, source: At, client: SkyplaneClient, hadoop: HdfsServer
) -> None:
    s3.put("src", "p/one", b"content")
    with pytest.raises(TransferFailed, match=r"docs/hdfs\.md"):
        client.copy(source("p/one"), f"{hadoop.url}/user/unreached", options=TransferOptions(max_attempts=1))
