"""The data process of a gateway: part bytes from stores to peers and from peers to stores.

Plain threads over calls that release the GIL. The main thread obeys the agent; everything else happens in fetch
threads, put threads, a thread for each connection and direction, and one that accepts connections.
"""

from __future__ import annotations

import socket
import sys
from typing import Final

from gateway.connections import Connections
from gateway.counters import Counters
from gateway.dialling_out import DialOut
from gateway.inbound import Listener
from gateway.ipc import Channel
from gateway.messages import CloseTransfer, Execute, Executed, OpenTransfer, SetPeers, Stop, ToData
from gateway.opened import Transfers
from gateway.parked import Parked
from gateway.pool import Pool
from gateway.puts import Puts
from gateway.reader import Reader
from gateway.relay import Relay
from gateway.sockets import shut
from gateway.threads import Threads, Workers
from gateway.window import Gate
from gateway.writer import Writer
from skyplane_core.errors import LinkLost, TransferNotFound
from skyplane_core.model import LeaseResult
from skyplane_core.provision.bootstrap import Bootstrap

SWITCH_SECONDS: Final = 0.0005
"""A busy Python thread beside a socket pump costs it three quarters of its speed; with this interval, a third
(docs/measurements.md)."""
MOST_THREADS: Final = 128
"""Fetch threads, and put threads, of all transfers together: four transfers at the default concurrency."""
JOIN_SECONDS: Final = 15.0


def run(bootstrap: Bootstrap, agent: socket.socket, wire: socket.socket, counters: Counters) -> None:
    """Be the data process; returns when told to stop, or when the agent is gone.

    Args:
        agent: this process's end of the socket pair to the agent (see gateway.messages). Closed at the end.
        wire: listens for connections of other gateways. Closed at the end.
        counters: made before the fork; filled here.

    Raises:
        BaseException: whatever ended one of the threads unexpectedly; the process should end with it.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    _Process(bootstrap, agent, wire, counters).run()


class _Process:
    def __init__(self, bootstrap: Bootstrap, agent: socket.socket, wire: socket.socket, counters: Counters) -> None:
        self._agent = agent
        self._channel: Channel[ToData] = Channel(agent, ToData)
        self._crash: BaseException | None = None
        self._threads = Threads(self._crashed)
        self._transfers = Transfers()
        self._pool = Pool(bootstrap.pool_bytes, counters)
        self._fetchers = Workers("fetch", self._threads, MOST_THREADS)
        self._putters = Workers("put", self._threads, MOST_THREADS)
        secret, me = bootstrap.wire_secret, bootstrap.gateway_id
        self._parked = Parked()
        self._connections = Connections(secret, me, self._parked, self._threads, counters)
        puts = Puts(self._putters, counters)
        self._gate = Gate(self._threads)
        self._reader = Reader(
            self._transfers, self._pool, self._fetchers, self._connections, puts, self._gate, counters, self._report
        )
        self._relay = Relay(secret, me, self._parked, self._threads, counters)
        writer = Writer(self._transfers, self._pool, puts, self._relay, counters)
        self._listener = Listener(wire, bootstrap, writer, self._parked, self._threads, self._channel)
        self._dial_out = DialOut(secret, me, writer, self._threads)
        self._peers = 0

    def run(self) -> None:
        try:
            self._threads.start("accept", self._listener.run)
            while (message := self._channel.receive()) is not None and not isinstance(message, Stop):
                self._obey(message)
        finally:
            self._end()
        if self._crash is not None:
            raise self._crash

    def _obey(self, message: OpenTransfer | CloseTransfer | SetPeers | Execute) -> None:
        if isinstance(message, Execute):
            self._reader.execute(message.lease)
        elif isinstance(message, OpenTransfer):
            self._transfers.open(message.transfer)
            self._split()
        elif isinstance(message, CloseTransfer):
            closed = TransferNotFound("the transfer was closed on this gateway", where=message.transfer_id)
            self._transfers.close(message.transfer_id)
            self._pool.cancel(message.transfer_id, closed)
            self._connections.forget(message.transfer_id, closed)
            self._split()
        else:
            self._connections.set_peers(message.peers)
            self._relay.set_peers(message.peers)
            self._dial_out.set_peers(message.peers if message.dial_out else ())
            self._peers = len(message.peers)
            self._split()

    def _split(self) -> None:
        """Halve the pool where this gateway may be one end of two streams that wait for each other (gateway.arena)."""
        configs = [transfer.config for transfer in self._transfers.all()]
        reads = any(config.source is not None for config in configs)
        writes = any(config.destinations for config in configs)
        self._pool.set_split(split=bool(self._peers) and reads and writes)

    def _report(self, result: LeaseResult) -> None:
        try:
            self._channel.send(Executed(result))
        except OSError:
            # The agent is gone, and nobody else wants to know: the main thread notices and ends the process.
            shut(self._agent)

    def _crashed(self, error: BaseException) -> None:
        self._crash = error
        shut(self._agent)

    def _end(self) -> None:
        stopping = LinkLost("the gateway is stopping")
        self._gate.close()
        self._fetchers.close()
        self._putters.close()
        self._pool.close(stopping)
        self._listener.close()
        self._connections.close(stopping)
        self._relay.close(stopping)
        self._dial_out.close()
        self._parked.close()
        for transfer in self._transfers.all():
            transfer.close()
        self._threads.join(JOIN_SECONDS)
        self._channel.close()
