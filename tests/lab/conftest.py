"""The lab is held to its word after each test: nothing of it is left. It needs root, and says so."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from skyplane_core.testing.lab import Host, Link, Topology, both_ways


def two_hosts(**figures: float) -> Topology:
    """Hosts a and b, and a link between their regions west and east with these figures in both directions."""
    return Topology(
        (Host(name="a", ip="10.1.0.1", region="west"), Host(name="b", ip="10.2.0.1", region="east")),
        both_ways(Link(source="west", target="east", **figures)),
    )


def traces(pid: int) -> list[str]:
    """Namespaces, mounts, devices and files of the labs of a process."""
    names = Path("/run/netns")
    found = [f"namespace {path}" for path in names.glob(f"lab-{pid}-*")]
    found += [f"files {path}" for path in Path(tempfile.gettempdir()).glob("skyplane-lab-*")]
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if "skyplane-lab-" in line or f"lab-{pid}-" in line:
            found.append(f"mount {line}")
    return found


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path, monkeypatch) -> Iterator[None]:
    # Other people's labs have their files elsewhere.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = traces(os.getpid())
    yield
    assert traces(os.getpid()) == before  # a lab that several tests share was there before


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_at_the_end() -> Iterator[None]:
    yield
    assert not traces(os.getpid())
