"""A sensor for a transfer that another task, another DAG or another program has started."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_skyplane.compat import AirflowFailException, PokeReturnValue
from airflow_provider_skyplane.ends import is_literal
from airflow_provider_skyplane.finished import Finished
from airflow_provider_skyplane.hooks.skyplane import DEFAULT_CONN_ID, SkyplaneHook
from airflow_provider_skyplane.reference import TransferReference
from airflow_provider_skyplane.rendered import refuse_nothing
from airflow_provider_skyplane.sensors.base import SkyplaneBaseSensor
from airflow_provider_skyplane.several import as_one, separate
from skyplane_core.errors import GatewayUnreachable, TransferNotFound, UsageError
from skyplane_core.units import counted
from skyplane_core.uri import parse

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_skyplane.compat import Context
    from airflow_provider_skyplane.pace import Pace
    from skyplane_core.spec import Progress

SILENCE_SECONDS = 60.0
"""How long nobody may know of a transfer before it counts as lost: it may be about to begin, or a network away."""
ASK_AGAIN_SECONDS = 2.0


class SkyplaneTransferSensor(SkyplaneBaseSensor):
    """Waits until a transfer has ended; it fails, without another try, if the transfer did not end well.

    It asks the transfer's gateways. When they are gone, or not known, the receipt at the destination tells, and as long
    as there is none it waits on. It never ends a transfer: whoever started it does.

    Args:
        transfer: the transfer: what its task has left in XCom, its return value or ``skyplane_run``, which is there as
            soon as the transfer has been started; or its id. (templated)
        destination: where the transfer writes to, as it was told, or a list of all its destinations: with it, the
            receipt is found whatever gateways there are. Not needed for what has a ``receipt``, as an operator's return
            value. (templated)
        destination_conn_id: connection for the destination; default as for :class:`SkyplaneOperator`. (templated)
        skyplane_conn_id: connection with the control secret that the transfer was started with. (templated)

    The other arguments are those of :class:`SkyplaneBaseSensor`. Returns the transfer's summary, as SkyplaneOperator
    does.

    Raises:
        UsageError: at construction, for a literal argument that cannot be right.
    """

    template_fields: Sequence[str] = ("transfer", "destination", "destination_conn_id", "skyplane_conn_id")
    ui_color = "#f3d9a4"

    def __init__(
        self,
        *,
        transfer: str | Mapping[str, Any],
        destination: str | Sequence[str] | None = None,
        destination_conn_id: str | None = None,
        skyplane_conn_id: str | None = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if is_literal(transfer):
            TransferReference.of(transfer)
        if is_literal(destination):
            parse(str(destination))
        self.transfer = transfer
        self.destination = destination
        self.destination_conn_id = destination_conn_id
        self.skyplane_conn_id = skyplane_conn_id

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002  # Airflow's signature
        """Whether the transfer has ended, well; then its summary is the value.

        Raises:
            AirflowFailException: it did not end well, or is lost.
            SkyplaneError: it cannot be told.
        """
        reference = self._reference()
        finished = Finished(**self._told["finished"]) if self._told is not None else self._finished(reference)
        if finished is None:
            return PokeReturnValue(is_done=False)
        if len(reference.destinations) > 1 and all(reference.destinations):
            finished = finished.named(reference.destinations)
        if finished.failed:
            raise AirflowFailException(f"Transfer {finished.transfer_id} did not end well: {finished.failure_text()}")
        return PokeReturnValue(is_done=True, xcom_value=finished.summary())

    def _reference(self) -> TransferReference:
        """The transfer, with the destinations that the sensor was given, if any."""
        named = ("destination", "destination_conn_id", "skyplane_conn_id")
        refuse_nothing({name: getattr(self, name) for name in named})
        found = TransferReference.of(self.transfer)
        if not self.destination:
            return found
        given = (self.destination,) if isinstance(self.destination, str) else tuple(self.destination)
        if len(given) != len(found.destinations):
            raise UsageError(
                f"the sensor was given {counted(len(given), 'destination')}, the task has {len(found.destinations)}",
                where=found.transfer_id,
                next_step="Give all destinations, in the order in which the task has them.",
            )
        return dataclasses.replace(found, destinations=given)

    def _finished(self, reference: TransferReference) -> Finished | None:
        progress = self._progress(reference)
        return Finished.of(progress) if progress is not None and progress.state.ended else None

    def _progress(self, reference: TransferReference) -> Progress | None:
        placed = all(reference.destinations)
        if not reference.dataplane or not self._hook.reachable_later:
            if not placed:
                raise UsageError(
                    f"nothing tells how transfer {reference.transfer_id} stands",
                    why="neither its gateways are known here, with the control secret that they were started with, nor "
                    "its destination",
                    next_step="Give the sensor the transfer's destination.",
                )
            return self._left(reference)
        began = time.monotonic()
        while True:
            try:
                return self._asked(reference)
            except (GatewayUnreachable, TransferNotFound) as error:
                ended = self._left(reference) if placed else None
                # Silent gateways may be those of another machine, and a retry of their task may have started others.
                if ended is not None or (placed and isinstance(error, GatewayUnreachable)):
                    return ended
                if time.monotonic() - began > SILENCE_SECONDS:
                    raise AirflowFailException(
                        f"Transfer {reference.transfer_id} cannot be found: its gateways do not know it or do not "
                        "answer, and no receipt of it is known. Give the sensor the transfer's destination, or run the "
                        f"transfer's task again. ({error})"
                    ) from error
                time.sleep(ASK_AGAIN_SECONDS)

    def _asked(self, reference: TransferReference) -> Progress:
        run = self._hook.engine.attach(reference.dataplane, reference.transfer_id)
        try:
            return run.progress()
        finally:
            run.leave()

    def _left(self, reference: TransferReference) -> Progress | None:
        """How it ended, as its receipts say; None if one is not there."""
        from skyplane_core.afterwards import left_by

        ended = []
        for transfer_id, place in zip(separate(reference.transfer_id), reference.destinations, strict=True):
            left = left_by(transfer_id, self._hook.place(place, self.destination_conn_id))
            if left.ended is None:
                state = "has begun and left no receipt" if left.begun else "has left nothing"
                self.log.info("Transfer %s %s at %s.", transfer_id, state, place)
                return None
            ended.append(left.ended)
        return as_one(ended)

    @cached_property
    def _hook(self) -> SkyplaneHook:
        return SkyplaneHook(self.skyplane_conn_id)

    def _trigger(self, pace: Pace) -> BaseTrigger:
        from airflow_provider_skyplane.triggers.transfer_sensor import SkyplaneTransferSensorTrigger

        reference = self._reference()
        return SkyplaneTransferSensorTrigger(
            dataplane=reference.dataplane if self._hook.reachable_later else "",
            transfer_id=reference.transfer_id,
            skyplane_conn_id=str(self.skyplane_conn_id),
            pace=dataclasses.asdict(pace),
        )
