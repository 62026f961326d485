"""Batches whose DATA frames come on several connections, at the writer: where they are put together.

A path that takes many slow connections would need as many parts in memory, at both ends, if each carried a batch of its
own. So a reader has several carry one batch together. Its manifest and its first frame of data come on one connection,
its *home*, which is where it is answered; the other frames name it by its salt.

Nothing here can wait in a circle: a home brings a batch's first frame of data, which takes its buffer, before anything
of the next batch, and what helps it brings frames in the order of the home's batches. If any of these connections ends,
the reader ends the others, and with its home a batch is over.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from gateway.arrival import Arrival
from gateway.pool import WAIT_SECONDS
from gateway.threads import as_record
from gateway.wire import Header
from skyplane_core.errors import ErrorRecord, ProtocolError

_LOOK_SECONDS: Final = 0.5
_REMEMBERED: Final = 4096
"""Batches that are over and of which frames may still come, which are dropped."""


class Home(Protocol):
    """The connection that a batch is answered on."""

    def store(self, arrival: Arrival, first: Header) -> None:
        """Put a whole batch, answer it and release its buffer."""
        ...

    def refuse(self, header: Header, error: ErrorRecord) -> None:
        """Say that a batch failed as a whole."""
        ...


class Frames:
    """Which frames of data there are, each once, and when that is all of them. Pure.

    Args:
        first: the number of the first one.
    """

    def __init__(self, first: int) -> None:
        self._first = first
        self._seen: set[int] = set()
        self._last: int | None = None
        self.bytes = 0

    def claim(self, header: Header) -> None:
        """Take note that a frame is here.

        Raises:
            ProtocolError: it was here before, or it cannot be of this batch.
        """
        beyond = self._last is not None and (header.last or header.frame > self._last)
        if header.frame < self._first or header.frame in self._seen or beyond:
            raise ProtocolError(f"frame {header.frame} of a scattered batch came twice, or after its last")
        if header.last and self._seen and header.frame < max(self._seen):
            raise ProtocolError(f"frame {header.frame} is called the last of a scattered batch, and is not")
        self._seen.add(header.frame)
        self.bytes += header.raw_length
        if header.last:
            self._last = header.frame

    @property
    def complete(self) -> bool:
        """Whether all frames up to the last have been claimed."""
        return self._last is not None and len(self._seen) == self._last - self._first + 1


class Scattered:
    """One such batch, from its first frame of data on. Thread-safe.

    Args:
        first: the header of its first manifest frame.
        begun: the header of its first frame of data, which is in ``arrival`` already.
    """

    def __init__(self, arrival: Arrival, first: Header, begun: Header, home: Home) -> None:
        self.home = home
        self._arrival = arrival
        self._first = first
        self._lock = threading.Lock()
        self._frames = Frames(begun.frame)
        self._frames.claim(begun)
        self._placing = 0
        self._over = False

    def take(self, header: Header, clear: memoryview, body: memoryview) -> bool:
        """Open a frame; ``body`` is overwritten. True if the batch is over with it: stored, or refused.

        Raises:
            ProtocolError: the frame came before, or it is of another batch.
        """
        with self._lock:
            if self._over:
                return True
            if header.batch != self._first.batch:
                raise ProtocolError("a frame has the salt of a batch that it is not of")
            self._frames.claim(header)
            self._placing += 1
        error: ErrorRecord | None = None
        try:
            self._arrival.place(header, clear, body)
        except Exception as failure:  # noqa: BLE001 - becomes the result of the batch that it happened to
            error = as_record(failure)
        whole = self._placed(failed=error is not None)
        if whole:
            try:
                self._arrival.placed(self._frames.bytes)
            except ProtocolError as failure:
                error = failure.record()
                self._arrival.release()
        if error is not None:
            self.home.refuse(self._first, error)
        elif whole:
            self.home.store(self._arrival, self._first)
        return whole or error is not None

    def abandon(self) -> None:
        """Its home has ended: nobody waits for it any more."""
        with self._lock:
            self._over, before = True, self._over
            idle = not before and not self._placing
        if idle:
            self._arrival.release()

    def _placed(self, *, failed: bool) -> bool:
        """A frame is in its place, or not. True for the one thread that finds the batch whole."""
        with self._lock:
            self._placing -= 1
            whole = self._frames.complete and not self._placing and not self._over and not failed
            self._over = self._over or failed or whole
            # Whoever still writes into the buffer keeps it; the last one gives it back.
            drop = self._over and not whole and not self._placing
        if drop:
            self._arrival.release()
        return whole


class Gathering:
    """The scattered batches of all inbound connections, by their salts. Thread-safe."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._changed = threading.Condition()
        self._batches: dict[bytes, Scattered | None] = {}
        self._over: deque[bytes] = deque()
        self._now = now

    def begin(self, salt: bytes, batch: Scattered) -> None:
        """Its first frame of data is here: others may be taken."""
        with self._changed:
            self._batches[salt] = batch
            self._changed.notify_all()

    def over(self, salt: bytes) -> None:
        """A batch has ended, or did not begin: what still comes of it is dropped."""
        with self._changed:
            if self._batches.get(salt, self) is None:
                return
            self._batches[salt] = None
            self._over.append(salt)
            if len(self._over) > _REMEMBERED:
                del self._batches[self._over.popleft()]
            self._changed.notify_all()

    def find(self, salt: bytes, gone: Callable[[], bool]) -> Scattered | None:
        """The batch of that salt, once its home has begun it, which waits for memory there; None if it is over.

        Args:
            gone: whether whoever sent the frame has ended.

        Raises:
            ProtocolError: nobody begins it.
        """
        deadline = self._now() + WAIT_SECONDS
        with self._changed:
            while salt not in self._batches:
                if gone() or self._now() > deadline:
                    raise ProtocolError("a frame came of a batch that nobody began")
                self._changed.wait(_LOOK_SECONDS)
            return self._batches[salt]

    def wait_for(self, home: Home, seconds: float) -> None:
        """Return when no batch is left that was begun on this connection, or after that many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._of(home), seconds)

    def abandon(self, home: Home) -> None:
        """A connection has ended, and with it all batches whose home it was."""
        with self._changed:
            lost = self._of(home)
        for salt, batch in lost.items():
            batch.abandon()
            self.over(salt)

    def _of(self, home: Home) -> dict[bytes, Scattered]:
        return {salt: it for salt, it in self._batches.items() if it is not None and it.home is home}
