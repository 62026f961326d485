"""The life of gateways and transfers, as calls of the hook: each blocking, and each for an event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from airflow_provider_skyplane.engine import Engine, FanOut, Request, Run
    from airflow_provider_skyplane.outline import Outline
    from skyplane_core.spec import Progress

T = TypeVar("T")

CANCEL_SECONDS = 15.0


class Lifecycle:
    """What a hook with an engine can do. Nothing is kept: what :meth:`provision` returns says where gateways are.

    A ``dataplane`` is a reference that holds no secret: :meth:`provision`'s, or a run's ``reference``. Who uses it
    needs the ``skyplane`` connection by which it was made. Each call raises what the engine raises
    (:class:`skyplane_core.errors.SkyplaneError`). The twins whose names begin with ``a`` wait in threads, and may be
    awaited in a triggerer.
    """

    @property
    def engine(self) -> Engine:
        """The engine's client."""
        raise NotImplementedError

    def plan(self, request: Request | FanOut) -> list[Outline]:
        """A dry run: routes, counts and price for each destination. Starts nothing and writes nothing."""
        return self.engine.outlines(request)

    def provision(self) -> str:
        """Start gateways that transfers can share, and return their dataplane. Left alone they end by their expiry."""
        return self.engine.provision()

    def submit(self, request: Request | FanOut, dataplane: str | None = None) -> Run:
        """Start a transfer, on gateways that are there already or else on its own, and return at once."""
        return self.engine.start(request) if dataplane is None else self.engine.submit(request, dataplane)

    def status(self, dataplane: str, transfer_id: str) -> Progress:
        """How a transfer stands."""
        run = self.engine.attach(dataplane, transfer_id)
        try:
            return run.progress()
        finally:
            run.leave()

    def cancel(self, dataplane: str, transfer_id: str, seconds: float = CANCEL_SECONDS) -> None:
        """Stop a transfer and give it so long to abort its uploads; its gateways stay. May be repeated."""
        run = self.engine.attach(dataplane, transfer_id)
        try:
            run.cancel(seconds)
        finally:
            run.leave()

    def deprovision(self, dataplane: str) -> None:
        """End gateways, and with them whatever still runs there. May be repeated."""
        self.engine.deprovision(dataplane)

    async def aplan(self, request: Request | FanOut) -> list[Outline]:
        """As :meth:`plan`."""
        return await _in_thread(self.plan, request)

    async def aprovision(self) -> str:
        """As :meth:`provision`."""
        return await _in_thread(self.provision)

    async def asubmit(self, request: Request | FanOut, dataplane: str | None = None) -> Run:
        """As :meth:`submit`."""
        return await _in_thread(self.submit, request, dataplane)

    async def astatus(self, dataplane: str, transfer_id: str) -> Progress:
        """As :meth:`status`."""
        return await _in_thread(self.status, dataplane, transfer_id)

    async def acancel(self, dataplane: str, transfer_id: str, seconds: float = CANCEL_SECONDS) -> None:
        """As :meth:`cancel`."""
        await _in_thread(self.cancel, dataplane, transfer_id, seconds)

    async def adeprovision(self, dataplane: str) -> None:
        """As :meth:`deprovision`."""
        await _in_thread(self.deprovision, dataplane)


async def _in_thread(call: Callable[..., T], *arguments: Any) -> T:
    # Not asyncio.to_thread: Airflow 3.0 to 3.2 look connections up on the loop that asgiref knows of.
    from asgiref.sync import sync_to_async

    return await sync_to_async(call, thread_sensitive=False)(*arguments)
