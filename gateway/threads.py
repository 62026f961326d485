"""The threads of a process: all of them known, none outlives it, none dies unseen."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from skyplane_core.errors import ErrorRecord, SkyplaneError

_log = logging.getLogger(__name__)


class Threads:
    """Starts threads and waits for them.

    Args:
        on_crash: called with the exception of a thread that raised one, in that thread; it must end the process.
    """

    def __init__(self, on_crash: Callable[[BaseException], None]) -> None:
        self._lock = threading.Lock()
        self._running: set[threading.Thread] = set()
        self._on_crash = on_crash

    def start(self, name: str, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=self._run, args=(target, args), name=name, daemon=True)
        with self._lock:
            self._running.add(thread)
        thread.start()

    def join(self, seconds: float) -> list[str]:
        """Wait for all threads to end; returns the names of those that did not."""
        deadline = time.monotonic() + seconds
        while True:
            with self._lock:
                running = list(self._running)
            if not running or time.monotonic() >= deadline:
                return [thread.name for thread in running]
            running[0].join(max(0.0, deadline - time.monotonic()))

    def _run(self, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        try:
            target(*args)
        except BaseException as error:  # noqa: BLE001 - it ends the process, in on_crash
            log_unexpected(error)
            self._on_crash(error)
        finally:
            with self._lock:
                self._running.discard(threading.current_thread())


def log_unexpected(error: BaseException) -> None:
    """Log where an unexpected exception came from: its type and frames, not its text, which may hold a key."""
    where = "".join(traceback.format_tb(error.__traceback__))
    _log.error("unexpected exception", extra={"exception": type(error).__name__, "frames": where})


def as_record(error: Exception) -> ErrorRecord:
    """Any exception as a value; one that is none of ours is logged as unexpected."""
    if isinstance(error, SkyplaneError):
        return error.record()
    log_unexpected(error)
    return SkyplaneError(
        "an unexpected error in the gateway's data process",
        why=type(error).__name__,
        next_step="Its log has the place; please report it.",
    ).record()


class _Queue:
    def __init__(self) -> None:
        self.tasks: deque[Callable[[], None]] = deque()
        self.running = 0
        self.limit = 1


class Workers:
    """Threads that run tasks of several owners: round robin among owners, first come within one.

    No owner has more tasks running at once than its limit. Threads start when they are needed and stay.

    Args:
        name: prefix of the threads' names.
        threads: where they are started.
        most: threads at most.
    """

    def __init__(self, name: str, threads: Threads, most: int) -> None:
        self._name = name
        self._threads = threads
        self._most = most
        self._changed = threading.Condition()
        self._turns: deque[str] = deque()
        self._owners: dict[str, _Queue] = {}
        self._idle = 0
        self._started = 0
        self._closed = False

    def submit(self, owner: str, limit: int, tasks: Sequence[Callable[[], None]], *, first: bool = False) -> None:
        """Queue ``tasks``; with ``first`` before what the owner has queued already. A task must not raise.

        Args:
            limit: tasks of this owner that may run at once, from now on.
        """
        with self._changed:
            queue = self._owners.get(owner)
            if queue is None:
                queue = self._owners[owner] = _Queue()
                self._turns.append(owner)
            queue.limit = max(1, limit)
            if first:
                queue.tasks.extendleft(reversed(tasks))
            else:
                queue.tasks.extend(tasks)
            wanted = min(len(tasks), queue.limit - queue.running)
            self._changed.notify(max(0, wanted))
            for _ in range(min(wanted - self._idle, self._most - self._started)):
                if not self._closed:
                    self._threads.start(f"{self._name}-{self._started}", self._work)
                    self._started += 1

    def close(self) -> None:
        """Let the threads end after their present task; what is queued is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        owner: str | None = None
        while True:
            with self._changed:
                if owner is not None:
                    self._done(owner)
                while (chosen := self._next()) is None:
                    if self._closed:
                        return
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                owner, task = chosen
            task()
            # A task holds its batch, and with it the view of a buffer.
            del task, chosen

    def _next(self) -> tuple[str, Callable[[], None]] | None:
        if self._closed:
            return None
        for _ in range(len(self._turns)):
            owner = self._turns[0]
            self._turns.rotate(-1)
            queue = self._owners[owner]
            if queue.tasks and queue.running < queue.limit:
                queue.running += 1
                return owner, queue.tasks.popleft()
        return None

    def _done(self, owner: str) -> None:
        queue = self._owners[owner]
        queue.running -= 1
        if not queue.running and not queue.tasks:
            del self._owners[owner]
            self._turns.remove(owner)
