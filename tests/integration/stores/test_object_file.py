"""Files that become objects, in every store: whole or not at all, with the store's own word for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from skyplane_core import object_file
from skyplane_core.coordinator import retry
from skyplane_core.errors import ChecksumMismatch, PermissionDenied
from skyplane_core.model import Attestation, Credentials, StoreConfig, Stored
from skyplane_core.object_file import ObjectFile
from skyplane_core.stores.base import MIB, ObjectStore
from skyplane_core.stores.local_listing import version_of
from skyplane_core.stores.registry import open_store
from skyplane_core.stores.whole import get_bytes
from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer

PART = 5 * MIB


class World(NamedTuple):
    store: ObjectStore
    server: ObjectServer | None

    def file(self) -> ObjectFile:
        return ObjectFile(lambda: self.store, "runs/r", "application/json")


@pytest.fixture(params=["s3", "gcs", "local"])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(object_file, "PART_BYTES", PART)
    monkeypatch.setattr(retry, "BASE_DELAY", 0.01)
    if request.param == "local":
        store = open_store(StoreConfig("local", str(tmp_path)))
        yield World(store, None)
        store.close()
        return
    with ObjectServer(request.param, buckets=["b"], credentials={"AK": "SK"}, tokens=["t"]) as server:
        config = StoreConfig(
            request.param, "b", endpoint_url=server.endpoint_url, credentials=Credentials("AK", "SK", token="t")
        )
        store = open_store(config)
        yield World(store, server)
        store.close()


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART, 3 * PART + 7])
def test_what_is_written_is_what_is_there(world: World, size: int) -> None:
    content = os.urandom(size)
    file = world.file()
    for offset in range(0, size, 999_983):
        file.write(content[offset : offset + 999_983])
        if world.server is not None:
            assert world.server.list("b") == []
    assert file.tell() == size
    stored = file.commit()
    assert stored.size == size
    if world.server is not None:
        assert stored.attestation is Attestation.WHOLE
    assert get_bytes(world.store, "runs/r") == content
    assert list(world.store.list_uploads()) == []


def test_what_is_discarded_leaves_nothing(world: World) -> None:
    for size in (10, 2 * PART):
        file = world.file()
        file.write(bytes(size))
        file.discard()
        file.discard()
    assert list(world.store.list("runs")) == []
    assert list(world.store.list_uploads()) == []


@pytest.mark.parametrize("world", ["s3", "gcs"], indirect=True)
def test_passing_failures_are_ridden_out_and_lasting_ones_are_raised(world: World) -> None:
    assert world.server is not None
    content = os.urandom(2 * PART + 1)
    world.server.set_faults(
        Faults(
            Fault("CreateMultipartUpload", "status", nth=(1,)),
            Fault("UploadPart", "status", nth=(2,)),
            Fault("UploadPart", "flip-upload", nth=(4,)),
            Fault("CompleteMultipartUpload", "status", nth=(1,)),
        )
    )
    file = world.file()
    file.write(content)
    file.commit()
    assert world.server.statistics["faults_fired"] == [1, 1, 1, 1]
    assert get_bytes(world.store, "runs/r") == content
    world.server.set_faults(Faults(Fault("UploadPart", "status", status=403, code="AccessDenied")))
    file = world.file()
    with pytest.raises(PermissionDenied):
        file.write(content)
    file.discard()
    assert list(world.store.list_uploads()) == []


class Silent:
    """A local store that attests nothing, and damages what it stores where it is told to."""

    def __init__(self, store: Any, damaged: Path | None = None) -> None:
        self._store = store
        self._damaged = damaged

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def data(self) -> Silent:
        return Silent(self._store.data(), self._damaged)

    def put_object(self, key: str, *what: Any, **how: Any) -> Stored:
        stored = self._store.put_object(key, *what, **how)
        if self._damaged is None:
            return Stored(stored.version, stored.size)
        (self._damaged / key).write_bytes(b"two")
        return Stored(version_of((self._damaged / key).stat()), 3)


def test_on_a_store_that_attests_nothing_it_is_read_back(tmp_path: Path) -> None:
    store = open_store(StoreConfig("local", str(tmp_path)))
    for damaged in (None, tmp_path):
        file = ObjectFile(lambda damaged=damaged: Silent(store, damaged), "r", "application/json")
        file.write(b"one")
        if damaged is None:
            assert file.commit().attestation is None
        else:
            with pytest.raises(ChecksumMismatch, match="CRC32C"):
                file.commit()
