"""The queue and the connections of one path: opened when there is something to send, reopened after loss."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Final

from gateway.batch import Batch
from gateway.counters import Counters
from gateway.dialling import Dialler
from gateway.sending import Connection, Scratch
from gateway.threads import Threads
from skyplane_core.errors import LinkLost, SkyplaneError

_log = logging.getLogger(__name__)

BACKOFF_FIRST: Final = 0.1
BACKOFF_MOST: Final = 5.0
"""A dead peer costs a dial every five seconds and connection; one that restarts is found again within as long."""
_STEADY_SECONDS: Final = 10.0


class PeerLink:
    """Batches wait in one queue and leave on whichever connection is free. Thread-safe.

    Each path has connections of its own, also where paths begin with the same relay: what a slow gateway further on
    holds up is only what goes to it.
    """

    def __init__(self, dialler: Dialler, threads: Threads, counters: Counters) -> None:
        self.peer = dialler.peer
        self._dialler = dialler
        self._threads = threads
        self._counters = counters
        self._changed = threading.Condition()
        self._queue: deque[Batch] = deque()
        self._live: set[Connection] = set()
        self._idle = 0
        self._started = 0
        self._closed: SkyplaneError | None = None

    def put(self, batch: Batch) -> None:
        with self._changed:
            closed = self._closed
            if closed is None:
                self._queue.append(batch)
                self._changed.notify()
                if len(self._queue) > self._idle and self._started < max(1, self.peer.connections):
                    self._threads.start(f"send-{self.peer.gateway_id}-{self._started}", self._run)
                    self._started += 1
        if closed is not None:
            _drop([batch], closed)

    def forget(self, transfer_id: str, error: SkyplaneError) -> None:
        with self._changed:
            dropped = [batch for batch in self._queue if batch.lease.transfer_id == transfer_id]
            self._queue = deque(batch for batch in self._queue if batch.lease.transfer_id != transfer_id)
            live = list(self._live)
        _drop(dropped, error)
        for connection in live:
            connection.forget(transfer_id, error)

    def close(self, error: SkyplaneError) -> None:
        with self._changed:
            self._closed = error
            dropped, self._queue = list(self._queue), deque()
            live = list(self._live)
            self._changed.notify_all()
        self._dialler.close()
        for connection in live:
            connection.lose(error)
        _drop(dropped, error)

    def _run(self) -> None:
        """A sender thread: one connection after the other, one batch after the other."""
        scratch = Scratch()
        connection: Connection | None = None
        losses, opened = 0, 0.0
        while (batch := self._take()) is not None:
            if connection is None:
                try:
                    connection = self._dial()
                    opened = time.monotonic()
                except SkyplaneError as error:
                    self._give_up(batch, error)
            if connection is not None:
                connection.send(batch, scratch)
            # A view of the pool must not outlive its batch while this thread waits.
            del batch
            if connection is None or connection.lost:
                losses = 0 if connection is not None and time.monotonic() - opened > _STEADY_SECONDS else losses + 1
                connection = None
                self._pause(min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(losses, 10)))
        if connection is not None:
            connection.lose(LinkLost("the peer's link was closed", where=self.peer.gateway_id))

    def _take(self) -> Batch | None:
        with self._changed:
            while not self._queue:
                if self._closed is not None:
                    return None
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            return self._queue.popleft()

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed is not None, seconds)

    def _give_up(self, batch: Batch, error: SkyplaneError) -> None:
        """A dial failed: with no connection left, nothing that waits can leave either."""
        dropped = [batch]
        with self._changed:
            if not self._live:
                dropped += self._queue
                self._queue.clear()
        _log.warning(
            "peer cannot be reached",
            extra={"peer": self.peer.gateway_id, "reason": str(error), "batches": len(dropped)},
        )
        _drop(dropped, error)

    def _dial(self) -> Connection:
        sock, session = self._dialler.dial()
        connection = Connection(sock, session, self._counters)
        with self._changed:
            closed = self._closed
            if closed is None:
                self._live.add(connection)
        if closed is not None:
            sock.close()
            raise LinkLost("the peer was removed", where=self.peer.gateway_id)
        self._threads.start(f"answers-{self.peer.gateway_id}", self._listen, connection)
        _log.info("data connection open", extra={"peer": self.peer.gateway_id})
        return connection

    def _listen(self, connection: Connection) -> None:
        try:
            connection.read_answers()
        finally:
            with self._changed:
                self._live.discard(connection)


def _drop(batches: list[Batch], error: SkyplaneError) -> None:
    for batch in batches:
        batch.release()
        batch.fail(error.record())
