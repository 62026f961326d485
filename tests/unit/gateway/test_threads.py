"""Shared threads: fair among owners, bounded for each, and none is lost."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

from gateway.threads import Threads, Workers, as_record
from skyplane_core.errors import LinkLost


def never(_error: BaseException) -> None:
    raise AssertionError("a thread crashed")


def test_an_owner_has_no_more_running_than_its_limit_and_others_are_not_kept_waiting() -> None:
    threads = Threads(never)
    workers = Workers("w", threads, 16)
    gate, lock = threading.Event(), threading.Lock()
    running = {"a": 0, "b": 0}
    most = {"a": 0, "b": 0}
    done = threading.Semaphore(0)

    def task(owner: str) -> None:
        with lock:
            running[owner] += 1
            most[owner] = max(most[owner], running[owner])
        if owner == "a":
            gate.wait(10)
        with lock:
            running[owner] -= 1
        done.release()

    workers.submit("a", 3, [functools.partial(task, "a")] * 50)
    workers.submit("b", 2, [functools.partial(task, "b")] * 50)
    for _ in range(50):
        assert done.acquire(timeout=10)
    # All of "b" ran while "a" filled its limit and waited.
    assert most["a"] == 3
    assert 1 <= most["b"] <= 2
    gate.set()
    for _ in range(50):
        assert done.acquire(timeout=10)
    workers.close()
    assert threads.join(10) == []


def test_owners_take_turns_and_urgent_tasks_come_first() -> None:
    threads = Threads(never)
    workers = Workers("w", threads, 1)
    gate, end = threading.Event(), threading.Event()
    order: list[str] = []
    tasks: Callable[[str, int], list[Callable[[], None]]] = lambda name, count: [  # noqa: E731 - one line of a test
        functools.partial(order.append, f"{name}{n}") for n in range(count)
    ]
    workers.submit("x", 1, [lambda: (gate.wait(10), None)[1]])
    workers.submit("a", 1, tasks("a", 3))
    workers.submit("b", 1, tasks("b", 2))
    workers.submit("a", 1, tasks("first", 2), first=True)
    workers.submit("z", 1, [lambda: None])
    gate.set()
    workers.submit("a", 1, [end.set])
    assert end.wait(10)
    assert order == ["first0", "b0", "first1", "b1", "a0", "a1", "a2"]
    workers.close()
    assert threads.join(10) == []


def test_a_crash_is_reported_and_joined() -> None:
    crashes: list[BaseException] = []
    threads = Threads(crashes.append)

    def crash() -> None:
        raise KeyError("secret")

    threads.start("t", crash)
    assert threads.join(10) == []
    assert [type(error) for error in crashes] == [KeyError]
    gate = threading.Event()
    threads.start("slow", gate.wait)
    assert threads.join(0.01) == ["slow"]
    gate.set()
    assert threads.join(10) == []


def test_unexpected_errors_become_records_without_their_text() -> None:
    assert as_record(LinkLost("lost", why="x")).kind == "LinkLost"
    record = as_record(ValueError("key=secret"))
    assert record.kind == "SkyplaneError"
    assert "secret" not in repr(record)
