"""The control process: serves the API, watches its children, and ends the gateway when it is time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Mapping

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

import skyplane_core
from gateway.agent_link import HEARSAY_SECONDS, AgentLink
from gateway.api import ControlApi
from gateway.children import Children
from gateway.doorman import Doorman
from gateway.lifetime import Ending, Lifetime
from gateway.threads import log_unexpected
from skyplane_core.control_calls import GatewayStatus
from skyplane_core.provision.bootstrap import Bootstrap

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 1.0
"""How long answers under way may take once the gateway ends."""
CHILD_SECONDS = 3.0
"""How long the other processes may take to end by themselves before they are killed."""


def _server_logger() -> logging.Logger:
    """What aiohttp is to log to: its own texts quote what was sent, which may hold a credential."""

    def reword(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            logger.warning("a request is no HTTP", extra={"reason": type(error).__name__})
        elif isinstance(error, (OSError, RequestPayloadError)):
            # Whoever sent it went away in the middle; who waits for the rest of a body hears of it by this.
            logger.info("a request broke off", extra={"reason": type(error).__name__})
        elif error is not None:
            log_unexpected(error)
        return False

    server = logging.Logger("gateway.server")  # noqa: LOG001 - known to nobody else, so that its filter is not either
    server.addFilter(reword)
    return server


class ControlProcess:
    """One gateway's control process. :meth:`run` once.

    Args:
        listener: a listening socket of the API.
        tls: a server context that asks for client certificates.
        agent: this end of the channel to the agent process.
        children: pid by process name.
        counters: reads the shared counters, by name; must not block.
        announce: called once the API answers.
    """

    def __init__(
        self,
        bootstrap: Bootstrap,
        listener: socket.socket,
        tls: ssl.SSLContext,
        agent: socket.socket,
        children: Mapping[str, int],
        counters: Callable[[], dict[str, int]],
        announce: Callable[[], None],
    ) -> None:
        self._bootstrap = bootstrap
        self._listener = listener
        self._tls = tls
        self._agent_socket = agent
        self._children = Children(children)
        self._pids = {"control": os.getpid(), **children}
        self._counters = counters
        self._announce = announce
        self._started = time.monotonic()

    def run(self) -> int:
        """Serve until the gateway ends; returns its exit code. No child is left."""
        try:
            return asyncio.run(self._run())
        finally:
            self._children.kill()

    async def _run(self) -> int:
        lifetime = Lifetime(self._bootstrap.expiry_seconds)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lifetime.end, Ending("SIGTERM"))
        loop.add_signal_handler(signal.SIGINT, lifetime.end, Ending("SIGINT"))
        loop.add_signal_handler(signal.SIGCHLD, self._reap, lifetime)
        self._reap(lifetime)  # for a child that died before anybody listened

        agent = AgentLink(lifetime, self._bootstrap.gateway_id)
        await agent.open(self._agent_socket)
        receiving = asyncio.create_task(agent.run())

        runner = self._runner(agent, lifetime)
        await runner.setup()
        doorman = Doorman(self._listener, self._tls, self._handler(runner))
        self._announce()
        logger.info("gateway listens", extra={"pids": self._pids})

        ending = await lifetime.ended()
        level = logging.INFO if ending.exit_code == 0 else logging.CRITICAL
        logger.log(level, "gateway ends", extra=ending.fields())
        await doorman.close()
        await runner.cleanup()
        agent.close()
        await self._children.gone(CHILD_SECONDS)
        receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await receiving
        return ending.exit_code

    def _runner(self, agent: AgentLink, lifetime: Lifetime) -> web.AppRunner:
        def status() -> GatewayStatus:
            return GatewayStatus(
                gateway_id=self._bootstrap.gateway_id,
                dataplane_id=self._bootstrap.dataplane_id,
                version=skyplane_core.__version__,
                uptime_seconds=round(time.monotonic() - self._started, 3),
                expires_in_seconds=round(lifetime.remaining(), 3),
                pids=self._pids,
                transfers={name: progress.state for name, progress in agent.transfers().items()},
                counters=self._counters(),
            )

        api = ControlApi(
            self._bootstrap.dataplane_id, agent, status, lambda: lifetime.end(Ending("shutdown was called"))
        )
        # No access log: it would be written for every poll, and holds nothing that the agent's log does not.
        # Nor are bodies decompressed, which no client of ours asks for: a short one may be the form of a very long one.
        return web.AppRunner(
            api.application(),
            access_log=None,
            shutdown_timeout=DRAIN_SECONDS,
            handle_signals=False,
            auto_decompress=False,
            logger=_server_logger(),
        )

    @staticmethod
    def _handler(runner: web.AppRunner) -> Callable[[], asyncio.Protocol]:
        if runner.server is None:
            raise RuntimeError("the runner was not set up")
        return runner.server

    def _reap(self, lifetime: Lifetime) -> None:
        loop = asyncio.get_running_loop()
        for name, status in self._children.reap().items():
            # With an ending under way this is what was asked for, and the first reason holds. A process that ended well
            # did so because another one died, which we may hear of in a moment.
            ending = Ending("a process died", exit_code=1, process=name, status=status)
            loop.call_later(HEARSAY_SECONDS if status == 0 else 0, lifetime.end, ending)
