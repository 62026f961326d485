"""From S3 to a local directory and back: a sync to a disk is exact, too."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from skyplane_core.client import Location, SkyplaneClient
from skyplane_core.errors import TransferFailed
from skyplane_core.model import StoreConfig
from skyplane_core.spec import Outcome, TransferOptions
from skyplane_core.testing.objectserver import ObjectServer

At = Callable[..., Location]
MIB = 1024 * 1024


def test_a_sync_to_a_directory_copies_only_what_changed_on_either_side(
    s3: ObjectServer, source: At, either_client: SkyplaneClient, tmp_path: Path
) -> None:
    objects = {f"p/{number}": os.urandom(1000) for number in range(5)} | {"p/sub/large": os.urandom(40 * MIB)}
    for key, body in objects.items():
        s3.put("src", key, body)
    for marker in ("p/sub/", "p/empty/"):
        s3.put("src", marker, b"")
    target = Location(StoreConfig("local", str(tmp_path / "out")), "")
    first = either_client.sync(source("p/"), target)
    assert first.progress.objects_copied == 8
    for key, body in objects.items():
        assert (tmp_path / "out" / key.removeprefix("p/")).read_bytes() == body
    assert either_client.sync(source("p/"), target).progress.objects_copied == 0
    s3.put("src", "p/1", os.urandom(1000))
    (tmp_path / "out" / "2").write_bytes(os.urandom(1000))
    third = either_client.sync(source("p/"), target)
    assert {line.key for line in third.lines() if line.outcome is Outcome.COPIED} == {"p/1", "p/2"}
    assert (tmp_path / "out" / "2").read_bytes() == objects["p/2"]


def test_a_directory_is_uploaded_with_its_files_and_without_our_state(
    gcs: ObjectServer, destination: At, client: SkyplaneClient, tmp_path: Path
) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "ü.txt").write_bytes(b"x")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / ".skyplane").mkdir()
    (tmp_path / ".skyplane" / "journal").write_bytes(b"not for you")
    client.copy(Location(StoreConfig("local", str(tmp_path)), ""), destination("up"), recursive=True)
    assert [key for key in gcs.list("dst") if "/.skyplane/" not in key] == ["up/a b/ü.txt", "up/empty"]


@pytest.mark.parametrize("key", ["p/../../escape", "p//double", "p/./dot"])
def test_a_key_that_no_file_can_have_fails_by_name_and_is_never_written_elsewhere(
    s3: ObjectServer, source: At, client: SkyplaneClient, tmp_path: Path, key: str
) -> None:
    s3.put("src", key, b"evil")
    s3.put("src", "p/good", b"x")
    with pytest.raises(TransferFailed) as raised:
        client.copy(
            source("p/"),
            Location(StoreConfig("local", str(tmp_path / "deep" / "out")), ""),
            recursive=True,
            options=TransferOptions(),
        )
    assert [failed for failed, _reason in raised.value.failures] == [key]
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path for path in written if "/.skyplane/" not in path} == {"deep/out/good"}
