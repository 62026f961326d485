"""A gateway's control API, as a client sees it: one typed call each, over whatever transport reaches the gateway.

:class:`ControlChannel` and :class:`AsyncControlChannel` are twins. How bytes get there is the :class:`Transport`'s
matter (:mod:`skyplane_core.control_tls` dials directly); what they mean is said once, in ``control_calls``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, TypeVar

from skyplane_core import control_calls as calls
from skyplane_core.control_calls import GatewayStatus, PeerAddress, Request, Response
from skyplane_core.model import GatewayTransfer
from skyplane_core.spec import Progress, TransferSpec

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "AsyncControlChannel",
    "AsyncTransport",
    "ControlChannel",
    "GatewayStatus",
    "PeerAddress",
    "ThreadedTransport",
    "Transport",
]

T = TypeVar("T")


class Transport(Protocol):
    """Carries requests to one gateway whose identity it has verified. Safe to use from several threads."""

    @property
    def where(self) -> str:
        """Gateway and address, for messages."""

    def send(self, request: Request) -> Response:
        """Send a request and wait for its answer, whatever its HTTP status.

        Raises:
            GatewayUnreachable: no answer; the call may or may not have been carried out, and may be repeated.
            GatewayRefused: the other side is not, or does not accept, who it should.
        """

    def close(self) -> None:
        """Drop the connection."""


class AsyncTransport(Protocol):
    """The twin of :class:`Transport` for one event loop."""

    @property
    def where(self) -> str:
        """As :attr:`Transport.where`."""

    async def send(self, request: Request) -> Response:
        """As :meth:`Transport.send`."""

    async def close(self) -> None:
        """As :meth:`Transport.close`."""


class ThreadedTransport:
    """An :class:`AsyncTransport` over a :class:`Transport`, whose calls wait in threads while the loop goes on."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def where(self) -> str:
        """As :attr:`Transport.where`."""
        return self._transport.where

    async def send(self, request: Request) -> Response:
        """As :meth:`Transport.send`."""
        return await asyncio.to_thread(self._transport.send, request)

    async def close(self) -> None:
        """As :meth:`Transport.close`."""
        await asyncio.to_thread(self._transport.close)


class ControlChannel:
    """Calls to one gateway, blocking. Every call may be repeated.

    Each raises GatewayUnreachable (retry), GatewayRefused, or the very error that the gateway reported.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def status(self) -> GatewayStatus:
        """How the gateway is; answered at once, whatever it is busy with."""
        return self._do(calls.status())

    def set_peers(self, peers: tuple[PeerAddress, ...]) -> None:
        """Say which gateways this one may dial; replaces what was said before."""
        self._do(calls.set_peers(peers))

    def put_transfer(self, transfer: GatewayTransfer) -> None:
        """Give the gateway what its roles in this transfer need, or renew the credentials in it."""
        self._do(calls.put_transfer(transfer))

    def start(self, spec: TransferSpec) -> None:
        """Have this gateway, as the head, run the transfer. Starting one that runs already changes nothing."""
        self._do(calls.start(spec))

    def progress(self, transfer_id: str) -> Progress:
        """How the transfer stands, at most a fraction of a second old.

        Raises:
            TransferNotFound: this gateway is not its head, or it was deleted.
        """
        return self._do(calls.progress(transfer_id))

    def cancel(self, transfer_id: str) -> None:
        """Stop the transfer and abort its uploads; watch :meth:`progress` for the end."""
        self._do(calls.cancel(transfer_id))

    def delete(self, transfer_id: str) -> None:
        """Forget the transfer, its keys and its credentials."""
        self._do(calls.delete(transfer_id))

    def shutdown(self) -> None:
        """End the gateway. It answers before it ends."""
        self._do(calls.shutdown())

    def close(self) -> None:
        """Close the connection; the gateway goes on."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _do(self, call: calls.Call[T]) -> T:
        return call.result(self._transport.send(call.request), self._transport.where)


class AsyncControlChannel:
    """The twin of :class:`ControlChannel` for an event loop; same calls, same errors."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def status(self) -> GatewayStatus:
        """As :meth:`ControlChannel.status`."""
        return await self._do(calls.status())

    async def set_peers(self, peers: tuple[PeerAddress, ...]) -> None:
        """As :meth:`ControlChannel.set_peers`."""
        await self._do(calls.set_peers(peers))

    async def put_transfer(self, transfer: GatewayTransfer) -> None:
        """As :meth:`ControlChannel.put_transfer`."""
        await self._do(calls.put_transfer(transfer))

    async def start(self, spec: TransferSpec) -> None:
        """As :meth:`ControlChannel.start`."""
        await self._do(calls.start(spec))

    async def progress(self, transfer_id: str) -> Progress:
        """As :meth:`ControlChannel.progress`."""
        return await self._do(calls.progress(transfer_id))

    async def cancel(self, transfer_id: str) -> None:
        """As :meth:`ControlChannel.cancel`."""
        await self._do(calls.cancel(transfer_id))

    async def delete(self, transfer_id: str) -> None:
        """As :meth:`ControlChannel.delete`."""
        await self._do(calls.delete(transfer_id))

    async def shutdown(self) -> None:
        """As :meth:`ControlChannel.shutdown`."""
        await self._do(calls.shutdown())

    async def close(self) -> None:
        """As :meth:`ControlChannel.close`."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def _do(self, call: calls.Call[T]) -> T:
        return call.result(await self._transport.send(call.request), self._transport.where)
