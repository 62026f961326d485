"""The queue and the connections of one path: opened when there is something to send, reopened after loss."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from typing import Final

from gateway.batch import Batch
from gateway.counters import Counters
from gateway.course import SMALL_FRAME, Scratch
from gateway.dialling import Dialler
from gateway.fanout import FIRST, Fanout
from gateway.messages import Peer
from gateway.path_view import PathView
from gateway.sending import Connection
from gateway.sockets import LOOPBACK, shut, transport_for
from gateway.tcp_info import congestion_of
from gateway.threads import Threads
from skyplane_core.errors import LinkLost, SkyplaneError

_log = logging.getLogger(__name__)

BACKOFF_FIRST: Final = 0.1
BACKOFF_MOST: Final = 5.0
"""A dead peer costs a dial every five seconds and connection; one that restarts is found again within as long."""
BATCHES: Final = 8
"""Batches that a peer gets at once, where its connections may share them: enough that one or the other always has
something to send, and few enough for a pool of 512 MiB with parts of 16 MiB, however many connections there are."""
_LOOK_SECONDS: Final = 0.1


class PeerLink:
    """Batches wait in one queue and leave on whichever connection is free. Thread-safe.

    Where the peer is the writer itself, connections beyond the first few carry no batches of their own but help those
    (see :mod:`gateway.scattered`): otherwise each would need a part in memory, here and there. Relays pass batches on
    whole.

    Args:
        shared: whether they may help.

    Each path has connections of its own, also where paths begin with the same relay: what a slow gateway further on
    holds up is only what goes to it.
    """

    def __init__(self, dialler: Dialler, threads: Threads, counters: Counters, *, shared: bool) -> None:
        self.peer = dialler.peer
        self._dialler = dialler
        self._threads = threads
        self._counters = counters
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        # Only ever woken together, each looking for itself: senders that pause or are more than is allowed now.
        self._others = threading.Condition(lock)
        self._pressure = threading.Condition(lock)
        self._queue: deque[Batch] = deque()
        self._live: set[Connection] = set()
        self._homes: dict[int, Connection] = {}
        self._idle = 0
        self._started = 0
        self._fanout = _fanout(self.peer)
        self._shared = shared and self._fanout.most > BATCHES
        self._most_batches = BATCHES if self._shared else self._fanout.most
        self._view = PathView()
        self._told = False
        self._closed: SkyplaneError | None = None

    def put(self, batch: Batch) -> None:
        with self._changed:
            closed = self._closed
            if closed is None:
                self._queue.append(batch)
                self._changed.notify()
                self._pressure.notify()
                self._start_senders()
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
            for condition in (self._changed, self._others, self._pressure):
                condition.notify_all()
        self._dialler.close()
        for connection in live:
            connection.lose(error)
        _drop(dropped, error)

    def _start_senders(self) -> None:
        """With the lock: a sender for each batch that nobody is free for, as far as that is allowed."""
        if not self._started and not self._fanout.fixed:
            self._threads.start(f"fanout-{self.peer.gateway_id}", self._watch)
        lacking = len(self._queue) - self._idle
        while self._started < self._fanout.allowed and (lacking > 0 or self._started >= self._most_batches):
            run = self._run if self._started < self._most_batches else self._help
            self._threads.start(f"send-{self.peer.gateway_id}-{self._started}", run, self._started)
            self._started += 1
            lacking -= 1

    def _watch(self) -> None:
        """A thread that has the number of connections follow what they bring."""
        with self._changed:
            while self._closed is None:
                self._look()
                if not self._queue:
                    self._pressure.wait()
                self._others.wait(_LOOK_SECONDS)

    def _look(self) -> None:
        infos = {sock: info for connection in self._live for sock, info in connection.tcp_infos().items()}
        before = self._fanout.allowed
        pressed = bool(self._queue) and not self._idle and len(infos) >= before
        allowed = self._fanout.tick(time.monotonic(), self._view.look(infos.items()), pressed=pressed)
        if allowed == before:
            return
        _log.info(
            "number of data connections changed",
            extra={"peer": self.peer.gateway_id, "connections": allowed, "before": before},
        )
        self._others.notify_all()
        self._changed.notify_all()
        self._start_senders()

    def _run(self, number: int) -> None:
        """A sender thread: one connection after the other, one batch after the other."""
        # The first few move what there is to move; the rest are there because each is slow.
        scratch = Scratch() if number < FIRST else Scratch(SMALL_FRAME)
        connection: Connection | None = None
        losses = 0
        while (batch := self._take(number)) is not None:
            if connection is not None and connection.lost:
                connection = None  # It ended while nothing was on it; that costs no batch.
            if connection is None:
                try:
                    connection = self._dial()
                except SkyplaneError as error:
                    self._give_up(batch, error)
                else:
                    self._be_home(number, connection)
            if connection is not None:
                connection.send(batch, scratch)
            # A view of the pool must not outlive its batch while this thread waits.
            del batch
            if connection is None or connection.lost:
                losses = 0 if connection is not None and connection.answered else losses + 1
                connection = None
                self._pause(min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(losses, 10)))
        if connection is not None:
            connection.lose(LinkLost("the peer's link was closed", where=self.peer.gateway_id))

    def _help(self, number: int) -> None:
        """A thread that sends frames of the batches of another one, over a connection of its own."""
        scratch = Scratch(SMALL_FRAME)
        losses = 0
        while (home := self._home(number)) is not None:
            try:
                sock, _session = self._dialler.dial()
            except SkyplaneError as error:
                _log.info("connection to help another not opened", extra={"reason": str(error)})
                losses += 1
            else:
                losses = 0
                self._threads.start(f"watch-{self.peer.gateway_id}", self._watch_helper, home, sock.dup())
                with sock:
                    home.help(sock, scratch, lambda: number < self._fanout.allowed)
                    shut(sock)
            if losses or home.lost:
                self._pause(min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(losses, 10)))

    def _watch_helper(self, home: Connection, sock: socket.socket) -> None:
        with sock:
            home.watch(sock)

    def _be_home(self, number: int, connection: Connection) -> None:
        with self._changed:
            self._homes[number] = connection
            self._others.notify_all()

    def _home(self, number: int) -> Connection | None:
        """The connection that this one is to help, once there is one; None at the end."""
        with self._changed:
            while self._closed is None:
                home = self._homes.get(number % self._most_batches)
                if home is not None and not home.lost and number < self._fanout.allowed:
                    return home
                self._others.wait()
            return None

    def _take(self, number: int) -> Batch | None:
        with self._changed:
            while self._closed is None:
                if number >= self._fanout.allowed:
                    self._others.wait()
                elif self._queue:
                    return self._queue.popleft()
                else:
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
            return None

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._others.wait_for(lambda: self._closed is not None, seconds)

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
        connection = Connection(sock, session, self._counters, shared=self._shared)
        with self._changed:
            closed = self._closed
            if closed is None:
                self._live.add(connection)
        if closed is not None:
            sock.close()
            raise LinkLost("the peer was removed", where=self.peer.gateway_id)
        self._threads.start(f"answers-{self.peer.gateway_id}", self._listen, connection)
        self._tell(sock)
        return connection

    def _tell(self, sock: socket.socket) -> None:
        """Log a connection; the first time with its congestion control, which may not be the one asked for."""
        fields = {"peer": self.peer.gateway_id}
        if not self._told:
            self._told = True
            fields["congestion"] = congestion_of(sock)
        _log.info("data connection open", extra=fields)

    def _listen(self, connection: Connection) -> None:
        try:
            connection.read_answers()
        finally:
            with self._changed:
                self._live.discard(connection)


def _fanout(peer: Peer) -> Fanout:
    """As many as the peer is given; on loopback, where more only cost (docs/measurements.md), a few."""
    if peer.connections:
        return Fanout(peer.connections, peer.connections)
    return Fanout(FIRST, FIRST) if transport_for(peer.host) is LOOPBACK else Fanout()


def _drop(batches: list[Batch], error: SkyplaneError) -> None:
    for batch in batches:
        batch.release()
        batch.fail(error.record())
