"""One connection through the proxy: two sockets, a flow each way, never blocking."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct

from skyplane_core.testing.faultproxy.faults import TO_CLIENT, TO_SERVER, Rule
from skyplane_core.testing.faultproxy.flow import PIECE, Flow

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Connection:
    """Made when a client was accepted; the target is dialled at once.

    Args:
        number: from 1.
        client: the accepted socket, which this object closes.
        flows: by direction.
    """

    def __init__(self, number: int, client: socket.socket, target: tuple[str, int], flows: dict[str, Flow]) -> None:
        self.number = number
        self.flows = flows
        self.over = False
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        server = socket.socket(family, socket.SOCK_STREAM)
        self._sockets = {TO_SERVER: client, TO_CLIENT: server}
        """By the direction that they are the source of."""
        self._finished = dict.fromkeys(flows, False)
        self._connecting = True
        for sock in (client, server):
            sock.settimeout(0)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.connect_ex(target)

    def interests(self, now: float) -> dict[socket.socket, int]:
        """Which events of which socket to wait for."""
        client, server = self._sockets[TO_SERVER], self._sockets[TO_CLIENT]
        if self._connecting:
            return {server: WRITE}
        wanted = {client: 0, server: 0}
        for direction, flow in self.flows.items():
            if flow.wants:
                wanted[self._sockets[direction]] |= READ
            if len(flow.ready(now)):
                wanted[self._onward(direction)] |= WRITE
        return {sock: events for sock, events in wanted.items() if events}

    def passed(self, direction: str) -> int:
        """Bytes handed on so far."""
        return self.flows[direction].passed

    def wakes_at(self) -> float | None:
        """When to be served again although no socket is ready."""
        return min((at for flow in self.flows.values() if (at := flow.wakes_at()) is not None), default=None)

    def serve(self, events: dict[socket.socket, int], now: float) -> None:
        """Move what can be moved, and have strike what is due."""
        try:
            if self._connecting:
                self._connected(events)
            for direction, flow in self.flows.items():
                if flow.wants and events.get(self._sockets[direction], 0) & READ:
                    self._receive(direction, now)
            self._strike_due()
            for direction, flow in self.flows.items():
                data = b"" if self.over else flow.ready(now)
                if len(data):
                    flow.sent(self._send(direction, data), now)
            self._strike_due()
            self._pass_on_ends()
        except OSError:
            # One side has reset its connection: so does the other.
            self.cut()

    def apply(self, rule: Rule, *, at_once: bool) -> None:
        """Have a rule act: where it says, or ``at_once`` that many bytes from the present position on."""
        for direction, flow in self.flows.items():
            if rule.fault.applies(self.number, direction):
                flow.add(rule, rule.fault.at + (flow.passed if at_once else 0))

    def cut(self) -> None:
        """RST to both sides. May be repeated."""
        for sock in self._sockets.values():
            if sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """FIN to both sides, unless cut. May be repeated."""
        self.over = True
        for sock in self._sockets.values():
            sock.close()

    def _connected(self, events: dict[socket.socket, int]) -> None:
        server = self._sockets[TO_CLIENT]
        if not events.get(server, 0) & WRITE:
            return
        error = server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, "the target does not take the connection")
        self._connecting = False

    def _strike_due(self) -> None:
        for direction, flow in self.flows.items():
            while not self.over and not self._connecting and (fault := flow.due()) is not None:
                if fault.action == "cut":
                    self.cut()
                elif fault.action == "truncate":
                    self._end(TO_SERVER)
                    self._end(TO_CLIENT)
                elif fault.action == "half-close":
                    self._end(direction)
                elif fault.action == "call":
                    fault.callback(self.number)

    def _end(self, direction: str) -> None:
        """FIN this way, and drop what comes: closing a socket with unread bytes would reset it."""
        self.flows[direction].close()
        self._finish(direction)

    def _onward(self, direction: str) -> socket.socket:
        return self._sockets[TO_CLIENT if direction == TO_SERVER else TO_SERVER]

    def _receive(self, direction: str, now: float) -> None:
        with contextlib.suppress(BlockingIOError):
            self.flows[direction].take(self._sockets[direction].recv(PIECE), now)

    def _send(self, direction: str, data: memoryview | bytes) -> int:
        try:
            return self._onward(direction).send(data)
        except BlockingIOError:
            return 0
        finally:
            if isinstance(data, memoryview):
                # A view keeps the buffer behind it from shrinking.
                data.release()

    def _pass_on_ends(self) -> None:
        """The end of one direction is the end of it at the other side, too; the end of both is that of all."""
        for direction, flow in self.flows.items():
            if not self.over and not self._connecting and flow.drained and not flow.stalled:
                self._finish(direction)
        if not self.over and all(self._finished.values()) and all(flow.ended for flow in self.flows.values()):
            self.close()

    def _finish(self, direction: str) -> None:
        if self._finished[direction]:
            return
        self._finished[direction] = True
        try:
            self._onward(direction).shutdown(socket.SHUT_WR)
        except OSError:
            self.cut()
