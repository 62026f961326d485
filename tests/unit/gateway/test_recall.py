"""A transfer whose client cannot reach the gateways is let go of by a word in its journal."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from gateway import head
from gateway.agent_store import CalledStore
from skyplane_core.coordinator.journal import recall, recall_key
from skyplane_core.coordinator.receipt import read_receipt
from skyplane_core.errors import ObjectNotFound, StoreUnavailable
from skyplane_core.spec import Progress, TransferState
from tests.unit.gateway.memory_agent import STATE, MemoryStore, Reader, objects, transfer


@pytest.fixture(autouse=True)
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "RECALL_SECONDS", 0.02)


class Looked(MemoryStore):
    """Tells when it was asked for a recall."""

    def __init__(self) -> None:
        super().__init__()
        self.looked = threading.Event()

    def peek(self, key: str) -> bytes | None:
        self.looked.set()
        return super().peek(key)


def standing_still(destination: Looked) -> Reader:
    """A transfer of one striped object that stands still until it is recalled."""
    reader = Reader(MemoryStore(objects(1, 40)), destination, transfer(keep_uploads=False))
    reader.idle = True
    reader.run.start()
    deadline = time.monotonic() + 20
    while not (destination.uploads and destination.looked.is_set()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return reader


def recalled(destination: Looked, *, hand_over: bool) -> Progress:
    reader = standing_still(destination)
    recall(destination.put_bytes, STATE, "one", hand_over=hand_over)
    assert reader.run.join(20)
    return reader.run.progress()


def journals(store: MemoryStore) -> list[str]:
    return [key for key in store.state if "journal" in key]


def test_one_that_is_handed_over_leaves_all_that_is_open_to_the_next() -> None:
    destination = Looked()
    ended = recalled(destination, hand_over=True)
    assert (ended.state, "somebody else has taken" in ended.error) == (TransferState.FAILED, True)
    (upload,) = destination.uploads
    assert destination.aborted == []
    # The word was not for this one.
    reader = Reader(MemoryStore(objects(1, 40)), destination)
    reader.idle = True
    destination.looked.clear()
    reader.run.start()
    assert destination.looked.wait(20)
    assert list(destination.uploads) == [upload]
    assert not reader.run.progress().state.ended
    recall(destination.put_bytes, STATE, "two", hand_over=True)
    assert reader.run.join(20)
    assert Reader(MemoryStore(objects(1, 40)), destination).finish().state is TransferState.DONE
    assert (destination.aborted, destination.uploads, journals(destination)) == ([], {}, [recall_key(STATE)])


def test_one_that_comes_back_when_all_is_over_lets_go_and_leaves_the_receipt_alone() -> None:
    destination = Looked()
    cut_off = standing_still(destination)
    there, destination.state = destination.state, {}
    # All of this while the first one sees and writes nothing.
    after = MemoryStore()
    after.state = dict(there)
    recall(after.put_bytes, STATE, "one", hand_over=True)
    assert Reader(MemoryStore(objects(1, 40)), after).finish().state is TransferState.DONE
    destination.state = dict(after.state)
    assert cut_off.run.join(20)
    assert cut_off.run.progress().state is TransferState.FAILED
    key = f"{STATE}receipt.json"
    assert destination.state[key] == after.state[key]
    assert read_receipt(destination.get_bytes, STATE)[0].state is TransferState.DONE


def test_one_that_nobody_goes_on_with_leaves_nothing_open() -> None:
    destination = Looked()
    assert recalled(destination, hand_over=False).state is TransferState.CANCELLED
    assert len(destination.aborted) == 1
    assert (destination.uploads, journals(destination)) == ({}, [])


def test_a_store_that_does_not_tell_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def peek(_store: MemoryStore, _key: str) -> bytes | None:
        asked.set()
        raise StoreUnavailable("the store is down")

    monkeypatch.setattr(MemoryStore, "peek", peek)
    destination = MemoryStore()
    destination.refuse = lambda call, _key: asked.wait(20) and None if call == "complete_upload" else None
    assert Reader(MemoryStore(objects(1, 40)), destination).finish().state is TransferState.DONE
    assert asked.is_set()


def test_a_look_is_made_once_and_is_no_sign_that_a_transfer_gets_on() -> None:
    answers: list[Any] = [b"x", ObjectNotFound("nothing"), StoreUnavailable("down")]

    def call(_request: Any, _result: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    store = CalledStore(call, 3)
    assert store.peek("k") == b"x"
    assert store.peek("k") is None
    with pytest.raises(StoreUnavailable):
        store.peek("k")
    assert (answers, store.answered_at) == ([], 0.0)
