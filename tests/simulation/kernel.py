"""Virtual time and seeded scheduling: the coordinator's own threads run as greenlets, one at a time, on one clock.

What blocks in the code under test (a lock, a condition, a future, a pool, a sleep) blocks here in virtual time. Whoever
may go on next is drawn from the seed, so one seed is one interleaving, every time.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

from greenlet import GreenletExit, getcurrent, greenlet

EPOCH = 1_700_000_000.0


class Process:
    """What dies together: its tasks stop where they are, and nothing of it runs again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.tasks: dict[Task, None] = {}


class Task(greenlet):
    """One thread of a process. ``turn`` tells a wake-up that still counts from one that came too late."""

    def __init__(self, process: Process, run: Callable[[], None], hub: greenlet) -> None:
        super().__init__(run, hub)
        self.process = process
        self.turn = 0


class Kernel:
    """The clock, what is due, and the random choice among what is due at once.

    Args:
        seed: of everything that is drawn.
        preempt: how likely a task loses its turn where it takes a lock.
    """

    current: ClassVar[Kernel]

    def __init__(self, seed: int, preempt: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.wall_offset = self.monotonic_offset = 0.0
        self._preempt = preempt
        self._due: list[tuple[float, float, int, Callable[[], None]]] = []
        self._count = 0
        self._hub = getcurrent()
        self.trace: list[str] = []

    def log(self, text: str) -> None:
        """A line of the schedule, for whoever has to understand it."""
        self.trace.append(f"{self.now:10.3f} {text}")

    def at(self, delay: float, act: Callable[[], None]) -> None:
        """Have something happen ``delay`` virtual seconds from now."""
        self._count += 1
        heapq.heappush(self._due, (self.now + delay, self.rng.random(), self._count, act))

    def run(self, over: Callable[[], bool], limit: float) -> bool:
        """Until ``over``; False if nothing is left to happen, or ``limit`` virtual seconds have passed, before that."""
        end = self.now + limit
        while not over():
            if not self._due or self._due[0][0] > end:
                return False
            self.now, _, _, act = heapq.heappop(self._due)
            act()
        return True

    def spawn(self, process: Process, act: Callable[[], None]) -> None:
        """A new task, which begins when it is its turn."""
        if process.dead:
            return

        def body() -> None:
            try:
                act()
            finally:
                process.tasks.pop(task, None)

        task = Task(process, body, self._hub)
        process.tasks[task] = None
        self.at(0.0, lambda: None if process.dead else task.switch())

    def kill(self, process: Process) -> None:
        """End a process at once, as SIGKILL does: nothing that its tasks would still have done reaches the world."""
        process.dead = True
        for task in list(process.tasks):
            task.throw(GreenletExit)

    def waker(self) -> Callable[[Any], None]:
        """For the current task: a function that ends its next :meth:`park` with a value. Later ones are ignored."""
        task = _task()
        turn = task.turn

        def resume(value: Any) -> None:
            if task.turn == turn and not task.process.dead:
                task.switch(value)

        return lambda value: self.at(0.0, lambda: resume(value))

    def park(self) -> Any:
        """Give up the turn until the waker is called."""
        task = _task()
        if task.process.dead:
            raise GreenletExit
        try:
            return self._hub.switch()
        finally:
            task.turn += 1

    def sleep(self, seconds: float) -> None:
        """Block the current task for so long."""
        wake = self.waker()
        self.at(seconds, lambda: wake(None))
        self.park()

    def maybe_switch(self) -> None:
        """Where a thread might lose its turn."""
        if self._preempt and self.rng.random() < self._preempt and not _task().process.dead:
            self.sleep(0.0)


def _task() -> Task:
    task = getcurrent()
    assert isinstance(task, Task), "this blocks, and belongs into a task"
    return task


# --- what the code under test sees instead of threading, concurrent.futures, time and random ------------------------


class Lock:
    """A mutex. Taking it twice is the deadlock that it would be."""

    reentrant = False

    def __init__(self) -> None:
        self._owner: object = None
        self._depth = 0
        self._waiting: deque[Callable[[Any], None]] = deque()

    def acquire(self) -> bool:
        kernel, me = Kernel.current, getcurrent()
        if self._owner is me:
            assert self.reentrant, "a deadlock: the lock is taken twice"
            self._depth += 1
            return True
        kernel.maybe_switch()
        while self._owner is not None:
            self._waiting.append(kernel.waker())
            kernel.park()
        self._owner, self._depth = me, 1
        return True

    def release(self) -> None:
        if self._owner is not getcurrent():
            assert _task().process.dead, "a lock is released by another thread than its owner's"
            return
        self._depth -= 1
        if not self._depth:
            self._owner = None
            if self._waiting:
                self._waiting.popleft()(None)

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Condition(Lock):
    """With the reentrant lock that ``threading.Condition`` has by default."""

    reentrant = True

    def __init__(self) -> None:
        super().__init__()
        self._sleeping: list[Callable[[Any], None]] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert self._owner is getcurrent(), "waiting without the lock"
        kernel = Kernel.current
        wake, depth = kernel.waker(), self._depth
        self._sleeping.append(wake)
        self._depth = 1
        self.release()
        if timeout is not None:
            kernel.at(timeout, lambda: wake(False))
        told = kernel.park()
        if not told and wake in self._sleeping:
            self._sleeping.remove(wake)
        self.acquire()
        self._depth = depth
        return bool(told)

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        kernel = Kernel.current
        end = None if timeout is None else kernel.now + timeout
        while not predicate():
            if end is not None and kernel.now >= end:
                return False
            self.wait(None if end is None else end - kernel.now)
        return True

    def notify(self, count: int = 1) -> None:
        assert self._owner is getcurrent(), "notifying without the lock"
        for wake in self._sleeping[:count]:
            wake(True)
        del self._sleeping[:count]

    def notify_all(self) -> None:
        self.notify(len(self._sleeping))


class BoundedSemaphore:
    def __init__(self, count: int) -> None:
        self._left = self._most = count
        self._changed = Condition()

    def acquire(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._left > 0)
            self._left -= 1
        return True

    def release(self) -> None:
        with self._changed:
            self._left += 1
            assert self._left <= self._most
            self._changed.notify()


class Future:
    """A result that comes later."""

    def __init__(self) -> None:
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._waiting: list[Callable[[Any], None]] = []

    def __class_getitem__(cls, _: object) -> type[Future]:
        return cls

    def done(self) -> bool:
        return self._done

    def set_result(self, value: Any) -> None:
        self._settle(value, None)

    def set_exception(self, error: BaseException) -> None:
        self._settle(None, error)

    def result(self, timeout: float | None = None) -> Any:
        if not self._done:
            kernel = Kernel.current
            wake = kernel.waker()
            self._waiting.append(wake)
            if timeout is not None:
                kernel.at(timeout, lambda: wake(None))
            kernel.park()
        if not self._done:
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._value

    def _settle(self, value: Any, error: BaseException | None) -> None:
        assert not self._done, "settled twice"
        self._done, self._value, self._error = True, value, error
        for wake in self._waiting:
            wake(None)


class ThreadPoolExecutor:
    """Runs at most ``workers`` submissions at once, in tasks of the process that submits."""

    def __init__(self, workers: int, thread_name_prefix: str = "") -> None:
        self._free = workers
        self._process = _task().process
        self._queue: deque[tuple[Callable[[], Any], Future]] = deque()
        self._idle = Condition()
        self._running = 0
        self._shut = False

    def submit(self, act: Callable[..., Any], *arguments: Any) -> Future:
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future = Future()
        self._queue.append((lambda: act(*arguments), future))
        self._running += 1
        if self._free:
            self._free -= 1
            Kernel.current.spawn(self._process, self._work)
        return future

    def map(self, act: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        futures = [self.submit(act, item) for item in items]
        return (future.result() for future in futures)

    def shutdown(self, *, wait: bool = True, cancel_futures: bool = False) -> None:
        self._shut = True
        if cancel_futures:
            self._running -= len(self._queue)
            self._queue.clear()
        task = getcurrent()
        if self._process.dead or not isinstance(task, Task) or task.process is not self._process:
            return  # somebody collects the garbage of a process that is no more
        with self._idle:
            self._idle.wait_for(lambda: not wait or not self._running)

    def __enter__(self) -> ThreadPoolExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def _work(self) -> None:
        while self._queue:
            act, future = self._queue.popleft()
            try:
                value = act()
            except Exception as error:  # noqa: BLE001 - as in concurrent.futures, it belongs to whoever asks for the result
                future.set_exception(error)
            else:
                future.set_result(value)
            with self._idle:
                self._running -= 1
                self._idle.notify_all()
        self._free += 1


class Thread:
    def __init__(
        self, target: Callable[..., None], name: str = "", args: tuple[Any, ...] = (), *, daemon: bool = False
    ) -> None:
        self._target = lambda: target(*args)
        self._over = Future()

    def start(self) -> None:
        Kernel.current.spawn(_task().process, self._run)

    def join(self, timeout: float | None = None) -> None:
        self._over.result()

    def _run(self) -> None:
        self._target()
        self._over.set_result(None)


class threading:  # noqa: N801 - it stands in for a module
    """The names of :mod:`threading` that the coordinator uses."""

    Lock, Condition, BoundedSemaphore, Thread = Lock, Condition, BoundedSemaphore, Thread


class time:  # noqa: N801 - it stands in for a module
    """The names of :mod:`time` that the coordinator uses, on the virtual clock."""

    @staticmethod
    def time() -> float:
        return EPOCH + Kernel.current.now + Kernel.current.wall_offset

    @staticmethod
    def time_ns() -> int:
        return int(time.time() * 1e9)

    @staticmethod
    def monotonic() -> float:
        return Kernel.current.now + Kernel.current.monotonic_offset

    @staticmethod
    def sleep(seconds: float) -> None:
        Kernel.current.sleep(seconds)


class seeded:  # noqa: N801 - it stands in for the module random
    """The names of :mod:`random` that the coordinator uses, drawn from the seed."""

    @staticmethod
    def uniform(low: float, high: float) -> float:
        return Kernel.current.rng.uniform(low, high)

    @staticmethod
    def getrandbits(bits: int) -> int:
        return Kernel.current.rng.getrandbits(bits)
