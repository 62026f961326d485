"""A destination whose disk is full: what fits arrives, what does not fails by name, and nothing is half there."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skyplane_core.client import Location, SkyplaneClient
from skyplane_core.model import StoreConfig
from tests.faults.cases import LARGE, MIB, SINGLE, TWO
from tests.faults.world import OPTIONS, PATIENCE, World, dataplane

ROOM = 20 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of ROOM bytes; needs root, as the whole campaign does."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "faults", str(place)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    assert made.returncode == 0, f"a small file system cannot be mounted here: {made.stderr}"
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@contextlib.contextmanager
def more_room(place: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", f"remount,size={8 * ROOM}", str(place)], check=True)
    yield


@pytest.mark.parametrize("layout", [SINGLE, TWO], ids=["one-gateway", "two"])
def test_a_full_disk(layout: str, disk: Path, world: Callable[..., World]) -> None:
    here = world()
    source = Location(here.store(here.source), "p/")
    target = Location(StoreConfig("local", str(disk)), "")
    prepared = SkyplaneClient().prepare(source, target, recursive=True, options=OPTIONS)
    with dataplane(layout) as (plane, _proxy):
        result = plane.submit(prepared).wait(timeout=PATIENCE)
    here.failures_named(result)
    assert f"p/{LARGE}" in dict(result.progress.failures)
    assert "space" in dict(result.progress.failures)[f"p/{LARGE}"]
    assert LARGE not in files(disk)
    assert all(body == here.origin[name] for name, body in files(disk).items())
    with more_room(disk), dataplane(layout) as (plane, _proxy):
        again = SkyplaneClient().prepare(
            source, target, mode="sync", transfer_id=prepared.spec.transfer_id, options=None
        )
        plane.submit(again).wait(timeout=PATIENCE).raise_for_state()
    assert files(disk) == here.origin
    assert not list((disk / ".skyplane").glob("uploads/*"))


def files(place: Path) -> dict[str, bytes]:
    """What somebody else sees there."""
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file() and ".skyplane" not in path.parts
    }
