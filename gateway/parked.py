"""Connections that peers opened to us for us to send on: where a peer cannot be dialled, it dials."""

from __future__ import annotations

import socket
import threading
import time
from typing import Final

from gateway.handshake import Session
from gateway.sockets import shut
from skyplane_core.errors import LinkLost

MOST_PARKED: Final = 16
"""Unused connections of one peer; it keeps a few and no more."""


class Parked:
    """Authenticated connections that wait to be sent on, by peer. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[str, list[tuple[socket.socket, Session]]] = {}
        self._closed = False

    def put(self, sock: socket.socket, session: Session) -> None:
        """Keep a connection, which is ours from here on."""
        with self._changed:
            waiting = self._waiting.setdefault(session.peer, [])
            # The oldest goes first: what its peer has given up shows only when somebody looks.
            surplus = [waiting.pop(0)] if len(waiting) >= MOST_PARKED else []
            if self._closed:
                surplus.append((sock, session))
            else:
                waiting.append((sock, session))
            self._changed.notify_all()
        for old, _session in surplus:
            old.close()

    def take(self, peer: str, seconds: float) -> tuple[socket.socket, Session]:
        """A living connection of ``peer``.

        Raises:
            LinkLost: none came in ``seconds``.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            while not self._closed:
                waiting = self._waiting.get(peer, [])
                while waiting:
                    sock, session = waiting.pop()
                    if _lives(sock):
                        return sock, session
                    sock.close()
                if not self._changed.wait(deadline - time.monotonic()):
                    break
        raise LinkLost(
            "a gateway that has to dial this one has not done so",
            where=peer,
            next_step="Its log says why its connections fail.",
        )

    def close(self) -> None:
        with self._changed:
            self._closed = True
            waiting, self._waiting = [each for some in self._waiting.values() for each in some], {}
            self._changed.notify_all()
        for sock, _session in waiting:
            shut(sock)
            sock.close()


def _lives(sock: socket.socket) -> bool:
    """Whether the other side is still there, as far as it is known here; it has nothing to say yet."""
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
