"""Watching transfers through a dataplane that is not there."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from skyplane_core.dataplane import Dataplane, Trackers
from skyplane_core.errors import StoreUnavailable
from skyplane_core.prepare import Prepared
from skyplane_core.spec import Progress, TransferState
from skyplane_core.tracker import Tracker


class Expiring:
    """A prepared transfer whose credentials are about to expire."""

    refresh = staticmethod(lambda: None)

    def __init__(self) -> None:
        self.credentials_expire_at = time.time() + 60


class Watched:
    """A dataplane whose transfers end after so many looks."""

    def __init__(self, **looks: int) -> None:
        self.looks = looks
        self.renewals: list[float] = []
        self.broken: Exception | None = None
        self.head = self
        self.forgotten: list[str] = []

    def forget(self, transfer_id: str) -> None:
        self.forgotten.append(transfer_id)

    def progress(self, transfer_id: str) -> Progress:
        self.looks[transfer_id] -= 1
        ended = self.looks[transfer_id] <= 0
        return Progress(transfer_id, TransferState.DONE if ended else TransferState.RUNNING)

    def renew(self, prepared: Prepared) -> Prepared:
        self.renewals.append(time.monotonic())
        if self.broken is not None:
            raise self.broken
        return prepared

    def tracker(self, transfer_id: str, prepared: Any = None) -> Tracker:
        return Tracker(cast("Dataplane", self), transfer_id, prepared)


@pytest.mark.parametrize(
    "broken",
    # The last is of a caller's own kind, as that of a cloud's SDK is.
    [None, StoreUnavailable("the token service is away"), LookupError("the secrets backend is away")],
    ids=["the same", "away", "away, in a caller's words"],
)
def test_credentials_that_cannot_be_bettered_are_not_asked_for_at_every_look(broken: Exception | None) -> None:
    dataplane = Watched(a=8)
    dataplane.broken = broken
    assert dataplane.tracker("a", Expiring()).wait().ok
    assert len(dataplane.renewals) == 1


def test_every_transfer_that_is_watched_gets_its_credentials_while_another_one_runs() -> None:
    dataplane = Watched(a=6, b=6)
    seen: list[str] = []
    trackers = Trackers([dataplane.tracker("a"), dataplane.tracker("b", Expiring())])
    results = trackers.wait(lambda progress: seen.append(progress.transfer_id))
    assert [result.progress.transfer_id for result in results] == ["a", "b"]
    assert seen == ["a", "b"] * 6
    assert len(dataplane.renewals) == 1


def test_a_wait_has_an_end_even_where_the_transfer_has_none() -> None:
    with pytest.raises(TimeoutError):
        Watched(a=10**6).tracker("a").wait(timeout=0.1)


def test_bytes_remaining_are_not_zero_because_nothing_is_listed_yet() -> None:
    class Listing(Watched):
        def progress(self, transfer_id: str) -> Progress:
            self.looks[transfer_id] -= 1
            listed = self.looks[transfer_id] <= 0
            return Progress(transfer_id, TransferState.RUNNING, bytes_selected=7 if listed else 0)

    assert Listing(t=3).tracker("t").query_bytes_remaining() == 7


def test_a_transfer_that_has_ended_is_forgotten_once_and_its_end_remembered() -> None:
    dataplane = Watched(t=2)
    ours, theirs = dataplane.tracker("t", Expiring()), dataplane.tracker("t")
    assert theirs.wait().ok
    assert dataplane.forgotten == [], "a mere watcher takes nothing away from whoever started the transfer"
    assert ours.wait().ok
    assert ours.wait().ok
    assert dataplane.forgotten == ["t"]
    dataplane.looks = {}
    assert ours.is_complete
    assert ours.query_bytes_remaining() == 0
