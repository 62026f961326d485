"""Servers that live as long as the campaign, each in a process of its own, and fresh buckets for each case."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator

import pytest

from skyplane_core.testing.objectserver import ObjectServer
from tests.faults.world import World, until

_names = itertools.count(1)


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str, str], ObjectServer]]:
    """A function that returns the server for a side and a kind."""
    running: dict[tuple[str, str], ObjectServer] = {}

    def get(side: str, kind: str) -> ObjectServer:
        if (side, kind) not in running:
            running[side, kind] = ObjectServer(kind, in_process=False).start()
        return running[side, kind]

    yield get
    for server in running.values():
        server.stop()


@pytest.fixture
def world(servers: Callable[[str, str], ObjectServer]) -> Iterator[Callable[..., World]]:
    """A function that makes the surroundings of a case; no thread is left when the case is over."""
    made: list[World] = []
    before = set(threading.enumerate())

    def make(pair: tuple[str, str] = ("s3", "gcs"), seed: int = 0) -> World:
        made.append(World(servers("source", pair[0]), servers("destination", pair[1]), seed, f"case-{next(_names)}"))
        return made[-1]

    yield make
    for each in made:
        each.close()
    until(lambda: set(threading.enumerate()) <= before, "no thread is left", 20.0)
