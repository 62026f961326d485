"""Reaching a gateway's control API directly: HTTPS with mutual TLS 1.3."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import ssl
import threading
import time
from collections.abc import Iterator
from typing import TypedDict

import httpx

from skyplane_core.control import AsyncControlChannel, ControlChannel, Transport
from skyplane_core.control_calls import MAX_ANSWER_BYTES, Request, Response
from skyplane_core.errors import GatewayError, GatewayRefused, GatewayUnreachable
from skyplane_core.identity import CLIENT_LIFETIME_SECONDS, DataplaneIdentity
from skyplane_core.tls import client_context, load_pair

TIMEOUT = httpx.Timeout(connect=10.0, read=90.0, write=30.0, pool=10.0)
"""Seconds. The gateway itself gives up on a call after 75, with an error that says more than a timeout does."""
_LIMITS = httpx.Limits(max_connections=8, max_keepalive_connections=2)
_RENEW_SECONDS = CLIENT_LIFETIME_SECONDS / 2


_calling = contextvars.ContextVar("calling", default=False)


class _Quiet(logging.Filter):
    """Drops httpx's note of each request of ours: polls would bury what a task's log is read for."""

    def filter(self, _record: logging.LogRecord) -> bool:
        return not _calling.get()


logging.getLogger("httpx").addFilter(_Quiet())


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    token = _calling.set(True)
    try:
        yield
    finally:
        _calling.reset(token)


class _CallArguments(TypedDict):
    method: str
    url: str
    content: bytes | None
    headers: dict[str, str]
    extensions: dict[str, str]


def connect(identity: DataplaneIdentity, gateway_id: str, host: str, control_port: int) -> ControlChannel:
    """A channel to this gateway at this address. Nothing is dialled before the first call."""
    return ControlChannel(transport_to(identity, gateway_id, host, control_port))


def transport_to(
    identity: DataplaneIdentity, gateway_id: str, host: str, control_port: int, *, where: str = ""
) -> Transport:
    """What :func:`connect` speaks over. ``where``: what messages call it, if the address is a tunnel's."""
    return _DirectTransport(_Target(identity, gateway_id, host, control_port, where))


def connect_async(identity: DataplaneIdentity, gateway_id: str, host: str, control_port: int) -> AsyncControlChannel:
    """The twin of :func:`connect` for an event loop."""
    return AsyncControlChannel(_AsyncDirectTransport(_Target(identity, gateway_id, host, control_port)))


class _Target:
    """Whom to dial, who must answer there, and how failures are told."""

    def __init__(self, identity: DataplaneIdentity, gateway_id: str, host: str, port: int, where: str = "") -> None:
        self.where = where or f"gateway {gateway_id} at {host}:{port}"
        self._identity = identity
        self._url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        # Checked in place of the address, which may be a tunnel's or anybody's.
        self._server_name = identity.server_name(gateway_id)
        self.context = client_context(identity.ca_pem, identity.client_certificate())
        self._certified_at = time.time()

    def renew(self) -> None:
        """Put a new client certificate into the context before the one in it expires.

        Must not run while another thread connects: OpenSSL reads the context without a lock.
        """
        # Wall-clock time, because that is what certificates go by.
        if not 0 <= time.time() - self._certified_at < _RENEW_SECONDS:
            load_pair(self.context, self._identity.client_certificate())
            self._certified_at = time.time()

    def call(self, request: Request) -> _CallArguments:
        # No compressed answers: a hostile gateway could make a small one huge.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if request.body:
            headers["Content-Type"] = "application/json"
        return {
            "method": request.method,
            "url": self._url + request.path,
            "content": request.body or None,
            "headers": headers,
            "extensions": {"sni_hostname": self._server_name},
        }

    def collect(self, body: bytearray, chunk: bytes) -> None:
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise GatewayRefused(f"the answer is longer than {MAX_ANSWER_BYTES} bytes", where=self.where)

    def error(self, request: Request, error: Exception) -> GatewayError:
        refusal = _refusal(error)
        if refusal is not None:
            return GatewayRefused(
                "the TLS handshake failed",
                where=self.where,
                why=str(refusal),
                next_step="Check that the control secret is the one that this dataplane was started with.",
            )
        return GatewayUnreachable(
            f"{request.method} {request.path} got no answer",
            where=self.where,
            why=f"{type(error).__name__}: {error}".rstrip(": "),
            next_step="Check that the gateway still runs (it ends itself when nothing moves) and can be reached.",
        )


def _refusal(error: BaseException) -> ssl.SSLError | None:
    """The verdict of TLS about an identity, if that is what is behind ``error``; None for a mere lost connection."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return seen
        # An alert is what the gateway says about our certificate; TLS 1.3 delivers it with the first read.
        if isinstance(seen, ssl.SSLError) and "ALERT" in (getattr(seen, "reason", None) or ""):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


class _DirectTransport:
    """Calls from several threads take turns."""

    def __init__(self, target: _Target) -> None:
        self._target = target
        self._turn = threading.Lock()
        self._client = httpx.Client(verify=target.context, trust_env=False, timeout=TIMEOUT, limits=_LIMITS)

    @property
    def where(self) -> str:
        return self._target.where

    def send(self, request: Request) -> Response:
        with self._turn:
            self._target.renew()
            try:
                with _quietly(), self._client.stream(**self._target.call(request)) as answer:
                    body = bytearray()
                    for chunk in answer.iter_raw():
                        self._target.collect(body, chunk)
                    return Response(answer.status_code, bytes(body))
            except (httpx.HTTPError, ssl.SSLError) as error:
                raise self._target.error(request, error) from error

    def close(self) -> None:
        with self._turn:
            self._client.close()


class _AsyncDirectTransport:
    def __init__(self, target: _Target) -> None:
        self._target = target
        self._client = httpx.AsyncClient(verify=target.context, trust_env=False, timeout=TIMEOUT, limits=_LIMITS)

    @property
    def where(self) -> str:
        return self._target.where

    async def send(self, request: Request) -> Response:
        self._target.renew()
        try:
            with _quietly():
                async with self._client.stream(**self._target.call(request)) as answer:
                    body = bytearray()
                    async for chunk in answer.aiter_raw():
                        self._target.collect(body, chunk)
                    return Response(answer.status_code, bytes(body))
        except (httpx.HTTPError, ssl.SSLError) as error:
            raise self._target.error(request, error) from error

    async def close(self) -> None:
        await self._client.aclose()
