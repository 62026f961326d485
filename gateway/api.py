"""The control API: HTTPS with mutual TLS, for this dataplane's client and nobody else.

What is asked about is answered here, from what the agent last reported; what is to be done goes to the agent.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from gateway.agent_link import AgentLink
from skyplane_core.control_calls import MAX_BODY_BYTES, GatewayStatus
from skyplane_core.errors import (
    ErrorRecord,
    GatewayRefused,
    GatewayUnreachable,
    SkyplaneError,
    TransferNotFound,
    UsageError,
)
from skyplane_core.tls import is_dataplane_client

logger = logging.getLogger(__name__)

_STATUSES: tuple[tuple[type[SkyplaneError], int], ...] = (
    (TransferNotFound, 404),
    (UsageError, 400),
    (GatewayRefused, 409),
    (GatewayUnreachable, 503),
)
_TRANSFER = "/transfers/{transfer_id:[A-Za-z0-9._~-]{1,128}}"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ControlApi:
    """The routes. Holds no state of its own.

    Args:
        status: makes the answer to ``GET /status``; must not block.
        shutdown: called for ``POST /shutdown``, before it is answered.
    """

    def __init__(
        self, dataplane_id: str, agent: AgentLink, status: Callable[[], GatewayStatus], shutdown: Callable[[], None]
    ) -> None:
        self._dataplane_id = dataplane_id
        self._agent = agent
        self._status = status
        self._shutdown = shutdown

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY_BYTES)
        app.add_routes(
            [
                web.get("/status", self._get_status, allow_head=False),
                web.put("/peers", self._forward("peers.put")),
                web.get(_TRANSFER, self._get_transfer, allow_head=False),
                web.put(_TRANSFER, self._forward("transfer.put")),
                web.post(_TRANSFER + "/start", self._forward("transfer.start")),
                web.post(_TRANSFER + "/cancel", self._forward("transfer.cancel")),
                web.delete(_TRANSFER, self._forward("transfer.delete")),
                web.post("/shutdown", self._post_shutdown),
            ]
        )
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        # The handshake has proved a certificate of this CA; gateways hold such too, and are not clients.
        peer = request.transport.get_extra_info("peercert") if request.transport is not None else None
        if not is_dataplane_client(peer, self._dataplane_id):
            logger.warning("refused a peer that is not the client", extra={"peer": request.remote})
            return _failure(403, GatewayRefused("only the client of this dataplane may call").record())
        try:
            return await handler(request)
        except SkyplaneError as error:
            status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
            return _failure(status, error.record())
        except web.HTTPException as error:
            return _failure(error.status, GatewayRefused(f"{request.method} of this path: {error.reason}").record())

    async def _get_status(self, _request: web.Request) -> web.StreamResponse:
        return _success(msgspec.json.encode(self._status()))

    async def _get_transfer(self, request: web.Request) -> web.StreamResponse:
        transfer_id = request.match_info["transfer_id"]
        progress = self._agent.progress(transfer_id)
        if progress is None:
            raise TransferNotFound(
                f"no transfer {transfer_id} runs here",
                next_step="Ask the gateway that it was started on (the head).",
            )
        return _success(msgspec.json.encode(progress))

    async def _post_shutdown(self, _request: web.Request) -> web.StreamResponse:
        self._shutdown()
        return _success(b"{}")

    def _forward(self, method: str) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            return _success(await self._agent.call(method, request.match_info.get("transfer_id", ""), body))

        return handle


def _success(body: bytes) -> web.Response:
    return web.Response(body=body or b"{}", content_type="application/json")


def _failure(status: int, record: ErrorRecord) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(record), content_type="application/json")
