"""Accepting connections of the control API: TLS handshakes under way are few, and each has an end.

asyncio's own server would start any number of them. Each holds 256 KiB of buffers besides OpenSSL's own, before anybody
has shown a certificate.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

from gateway.strangers import MOST_STRANGERS, Strangers

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.1


class Doorman:
    """Serves one listening socket.

    Args:
        listener: a listening socket; closed by :meth:`close`.
        tls: a server context.
        protocols: makes the protocol of a connection that has authenticated.
    """

    def __init__(self, listener: socket.socket, tls: ssl.SSLContext, protocols: Callable[[], asyncio.Protocol]) -> None:
        self._listener = listener
        self._tls = tls
        self._protocols = protocols
        self._strangers: Strangers[socket.socket] = Strangers()
        self._handshakes: set[asyncio.Task[None]] = set()
        listener.settimeout(0)
        self._accepting = asyncio.create_task(self._accept())

    async def close(self) -> None:
        """Accept nobody any more; handshakes under way are dropped, connections past theirs stay."""
        ending = [self._accepting, *self._handshakes]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        self._listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(self._listener)
            except OSError as error:
                # Out of descriptors, or the stranger's own network error (accept(2)): later ones may fare better.
                logger.warning("connection not accepted", extra={"reason": str(error)})
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            while len(self._handshakes) >= MOST_STRANGERS:
                self._evict()
                await asyncio.wait(self._handshakes, return_when=asyncio.FIRST_COMPLETED)
            self._strangers.add(sock, str(address[0]))
            task = asyncio.create_task(self._greet(sock))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    def _evict(self) -> None:
        oldest = self._strangers.evict()
        if oldest is not None:
            logger.debug("too many connections without a certificate")
            try:
                # Its transport owns the descriptor, and closes it when it reads this end.
                oldest.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                logger.debug("connection was already down", extra={"reason": str(error)})

    async def _greet(self, sock: socket.socket) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocols, sock, ssl=self._tls, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except (OSError, asyncio.TimeoutError) as error:
            logger.debug("connection refused", extra={"reason": str(error)})
            sock.close()
            # The future that it came from and the frames that it went through hold each other, and with them the
            # connection's buffers; a flood fills hundreds of MB with such before the collector looks.
            error.__traceback__ = error.__context__ = error.__cause__ = None
        finally:
            self._strangers.discard(sock)
