"""The first difference costs no more than it has to, and can be given up."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skyplane_core.client import SkyplaneClient
from skyplane_core.compare import Action
from skyplane_core.difference import first_difference
from skyplane_core.errors import BucketNotFound, NothingToTransfer, TransferCancelled
from skyplane_core.filters import Filters, NameRule
from skyplane_core.locations import Location
from skyplane_core.model import StoreConfig
from skyplane_core.prepare import Prepared
from skyplane_core.testing.objectserver import ObjectServer

MANY = 12_000


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[ObjectServer, ObjectServer]]:
    """The same objects in S3 and in GCS, but for what comes last."""
    with ObjectServer("s3", buckets=["src"]) as source, ObjectServer("gcs", buckets=["dst"]) as destination:
        for number in range(MANY):
            source.put("src", f"all/{number:06d}", b"x")
            destination.put("dst", f"all/{number:06d}", b"x")
        source.put("src", "all/z", b"new")
        yield source, destination


@pytest.fixture(params=[False, True], ids=["ahead", "gently"])
def gently(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def asked(ends: tuple[ObjectServer, ObjectServer], **how: Any) -> Prepared:
    source, destination = ends
    return SkyplaneClient().prepare(
        Location(
            StoreConfig("s3", how.pop("bucket", "src"), endpoint_url=source.endpoint_url, path_style=True), "all/"
        ),
        Location(StoreConfig("gcs", "dst", endpoint_url=destination.endpoint_url), how.pop("to", "all/")),
        **{"mode": "sync", "compare": "size", **how},
    )


class Listings:
    """How many pages the servers were asked for since."""

    def __init__(self, ends: tuple[ObjectServer, ObjectServer]) -> None:
        self._ends = ends
        self._before = self._now()

    def _now(self) -> int:
        return sum(count for server in self._ends for name, count in server.requests.items() if name.startswith("List"))

    @property
    def pages(self) -> int:
        return self._now() - self._before


def test_all_is_listed_only_where_they_agree(ends: tuple[ObjectServer, ObjectServer], gently: bool) -> None:
    agreeing = asked(ends, filters=Filters(rules=(NameRule(include=False, pattern="z"),)))
    listed = Listings(ends)
    assert first_difference(agreeing, gently=gently) is None
    whole = listed.pages
    assert whole >= 2 * MANY // 1000
    listed = Listings(ends)
    found = first_difference(asked(ends), gently=gently)
    assert (found.action, found.source.key, found.reason) == (Action.COPY, "all/z", "new") if found else False
    listed = Listings(ends)
    found = first_difference(asked(ends, to="elsewhere/"), gently=gently)
    assert found is not None
    assert found.source.key == "all/000000"
    # Those of the checks before, and one a side; ahead, a few more may be under way.
    assert listed.pages <= (4 if gently else whole / 2)


def test_what_a_sync_would_delete_is_a_difference(ends: tuple[ObjectServer, ObjectServer], gently: bool) -> None:
    ends[1].put("dst", "all/old", b"x")
    try:
        rules = Filters(rules=(NameRule(include=False, pattern="z"),))
        assert first_difference(asked(ends, filters=rules), gently=gently) is None
        found = first_difference(asked(ends, filters=rules, delete=True), gently=gently)
        assert found is not None
        assert (found.action, found.destination_key) == (Action.DELETE, "all/old")
    finally:
        ends[1].delete("dst", "all/old")


def test_what_cannot_be_copied_is_a_difference(ends: tuple[ObjectServer, ObjectServer], tmp_path: Path) -> None:
    ends[0].put("src", f"odd/{'x' * 300}", b"x")
    source = Location(StoreConfig("s3", "src", endpoint_url=ends[0].endpoint_url, path_style=True), "odd/")
    found = first_difference(SkyplaneClient().prepare(source, f"{tmp_path}/", mode="sync"))
    assert found is not None
    assert found.action is Action.REFUSE
    assert "cannot be a file name" in found.reason


def test_nothing_and_nowhere_are_told_apart(ends: tuple[ObjectServer, ObjectServer]) -> None:
    ends[0].create_bucket("empty")
    with pytest.raises(NothingToTransfer):
        first_difference(asked(ends, bucket="empty"))
    with pytest.raises(BucketNotFound):
        first_difference(asked(ends, bucket="none"))


def test_it_can_be_given_up_in_the_middle(ends: tuple[ObjectServer, ObjectServer], gently: bool) -> None:
    asked_so_often = itertools.count()
    listed = Listings(ends)
    with pytest.raises(TransferCancelled):
        first_difference(asked(ends), gently=gently, stopped=lambda: next(asked_so_often) == 2500)
    assert not gently or listed.pages < 2 * MANY // 1000
    deadline = time.monotonic() + 10
    while any(thread.name.startswith(("listing", "lookup")) for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
