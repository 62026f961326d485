"""What a provisioner makes, and how a dataplane is found again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from skyplane_core.control import ControlChannel
from skyplane_core.model import Role


class GatewayAddress(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where one gateway runs. ``pid`` and its start time (clock ticks since boot) are 0 where it is another machine.

    A client reaches it at ``host``, other gateways at :attr:`dialled`. On an SSH host, ``ssh`` is ``user@address:port``
    and ``directory`` the one that holds all that the gateway has there. ``region`` is for the plan.

    ``dials_out``: its wire port cannot be reached (see :class:`skyplane_core.control.PeerAddress`). ``role`` None: its
    place among the others says what it does (see :func:`skyplane_core.planner.plan.plan`).
    """

    gateway_id: str
    host: str
    control_port: int
    wire_port: int
    pid: int = 0
    pid_start_time: int = 0
    wire_host: str = ""
    ssh: str = ""
    directory: str = ""
    region: str = ""
    role: Role | None = None
    dials_out: bool = False

    @property
    def dialled(self) -> str:
        """Where the other gateways dial its wire port."""
        return self.wire_host or self.host


class DataplaneReference(msgspec.Struct, frozen=True):
    """How a dataplane is found again, as kept in a trigger's row or the command line's state. Holds no secret.

    ``provisioner`` names the kind that can stop it. The first gateway is the head. ``ca_fingerprint`` is what the right
    control secret leads to (:meth:`skyplane_core.identity.DataplaneIdentity.ca_fingerprint`).
    """

    dataplane_id: str
    provisioner: str
    gateways: tuple[GatewayAddress, ...]
    ca_fingerprint: str


class Provisioner(Protocol):
    """Makes and destroys the gateways of one dataplane. Made with its identity and settings, and holds nothing else."""

    @property
    def notes(self) -> Sequence[str]:
        """What a user may want to know about the last :meth:`start`: a sentence each."""

    def start(self, count: int) -> tuple[GatewayAddress, ...]:
        """Start ``count`` gateways and return when all of them answer.

        Raises:
            ProvisionFailed: one did not start; the others are stopped again.
        """

    def stop(self, gateways: Sequence[GatewayAddress]) -> None:
        """End these gateways. Those that have ended already are left alone; may be repeated.

        Raises:
            GatewayError: one could not be ended; the others were.
        """

    def reference(self, gateways: Sequence[GatewayAddress]) -> DataplaneReference:
        """How these gateways are found again."""

    def channel(self, gateway: GatewayAddress) -> ControlChannel:
        """A channel to this gateway. Nothing is dialled before the first call."""

    def logs(self, gateways: Sequence[GatewayAddress]) -> dict[str, str]:
        """The end of each gateway's log, by gateway id.

        Raises:
            GatewayError: one cannot be fetched any more.
        """
