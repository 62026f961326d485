"""Gateways that go away and come back, and what waits for them; real threads, waits that end when something happens."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest

from gateway import outbox, store_failover, watching
from gateway.outbox import Outbox
from gateway.store_calls import GetBytes
from gateway.store_failover import FailingOver
from gateway.watching import Watch
from skyplane_core.errors import LinkLost, ObjectNotFound, SkyplaneError, TransferStalled

SOON = 20.0


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "ASK_SECONDS", 0.02)
    monkeypatch.setattr(watching, "REDIAL_SECONDS", 0.01)
    monkeypatch.setattr(watching, "LOST_SECONDS", 0.1)
    monkeypatch.setattr(outbox, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(store_failover, "PAUSE_SECONDS", 0.01)


def test_a_gateway_is_lost_once_after_a_while_and_found_again() -> None:
    there = threading.Event()
    events: queue.Queue[tuple[str, str]] = queue.Queue()

    def ask() -> int:
        if not there.is_set():
            raise LinkLost("no answer")
        return 7

    watch = Watch("g", ask, lambda name, _why: events.put(("lost", name)), lambda name: events.put(("found", name)))
    try:
        assert events.get(timeout=SOON) == ("lost", "g")
        there.set()
        assert events.get(timeout=SOON) == ("found", "g")
        assert watch.pulse == 7
        there.clear()
        watch.broken()
        assert events.get(timeout=SOON) == ("lost", "g")
    finally:
        watch.close()
    assert events.empty()


def test_what_cannot_be_sent_is_kept_in_order_or_given_up_as_its_owner_says() -> None:
    sent: queue.Queue[tuple[int, ...]] = queue.Queue()
    fails = [3]
    again = [True]
    refused: queue.Queue[tuple[int, ...]] = queue.Queue()

    def send(values: tuple[int, ...]) -> None:
        if fails[0]:
            fails[0] -= 1
            raise LinkLost("gone")
        sent.put(values)

    def failed(values: tuple[int, ...], _error: SkyplaneError) -> bool:
        if not again[0]:
            refused.put(values)
        return again[0]

    box: Outbox[int] = Outbox("test", send, failed)
    try:
        for number in range(100):
            box.put(number)
        got: list[int] = []
        while len(got) < 100:
            got += sent.get(timeout=SOON)
        assert got == list(range(100))
        fails[0], again[0] = 1, False
        box.put(200)
        assert refused.get(timeout=SOON) == (200,)
        box.put(201)
        assert sent.get(timeout=SOON) == (201,)
    finally:
        box.close()


def caller(answers: dict[str, Any], asked: list[str], patience: float = 0.05) -> FailingOver:
    def call(writer: str, _request: object) -> bytes:
        asked.append(writer)
        answer = answers[writer]
        if isinstance(answer, SkyplaneError):
            raise answer
        return bytes(answer)

    return FailingOver(call, tuple(answers), patience, lambda: False)


def test_a_store_call_goes_to_whichever_writer_answers_and_stays_there() -> None:
    asked: list[str] = []
    call = caller({"a": LinkLost("gone"), "b": b"\xa2ok"}, asked)
    assert [call(GetBytes("k"), str) for _ in range(3)] == ["ok"] * 3
    assert asked == ["a", "b", "b", "b"]


def test_a_store_s_own_refusal_is_not_asked_for_elsewhere() -> None:
    asked: list[str] = []
    call = caller({"a": ObjectNotFound("no"), "b": b"\xa2ok"}, asked)
    with pytest.raises(ObjectNotFound):
        call(GetBytes("k"), str)
    assert asked == ["a"]


def test_without_any_writer_a_store_call_fails_for_good_and_names_them() -> None:
    call = caller({"a": LinkLost("gone"), "b": LinkLost("cut off")}, [])
    assert call.trouble == ""
    with pytest.raises(TransferStalled, match=r"a, b.*cut off"):
        call(GetBytes("k"), str)
    assert call.trouble == "a: gone; b: cut off"


def test_a_writer_that_answers_ends_the_trouble() -> None:
    answers: dict[str, Any] = {"a": LinkLost("gone")}
    call = caller(answers, [])
    with pytest.raises(TransferStalled):
        call(GetBytes("k"), str)
    answers["a"] = b"\xa2ok"
    assert call(GetBytes("k"), str) == "ok"
    assert call.trouble == ""
