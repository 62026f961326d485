"""Messages between a gateway's own processes: control, agent and data.

Both sides decode with these types (msgpack over a socket pair made before the fork), so a malformed message is an
error at the edge. Part bytes never travel this way, only words about them.
"""

from __future__ import annotations

import msgspec

from skyplane_core.errors import ErrorRecord
from skyplane_core.model import GatewayTransfer, Lease, LeaseResult
from skyplane_core.spec import Progress


class OpenTransfer(msgspec.Struct, frozen=True, tag=True):
    """Agent to data: create or update (credentials) the transfer in this process."""

    transfer: GatewayTransfer


class CloseTransfer(msgspec.Struct, frozen=True, tag=True):
    """Agent to data: drop the transfer's keys, stores and queued leases."""

    transfer_id: str


class Peer(msgspec.Struct, frozen=True):
    """Another gateway of this dataplane, as dialled: advertised host and wire port.

    ``connections`` is how many data connections to open; 0: as many as help (see gateway.fanout). ``dials_out``: it
    cannot be dialled and opens connections itself, also those that are sent on to it.
    """

    gateway_id: str
    host: str
    port: int
    connections: int = 0
    dials_out: bool = False


class SetPeers(msgspec.Struct, frozen=True, tag=True):
    """Agent to data: the other gateways. ``dial_out``: this one cannot be dialled, so it dials them."""

    peers: tuple[Peer, ...]
    dial_out: bool = False


class Execute(msgspec.Struct, frozen=True, tag=True):
    """Agent to data, on a reader: read these parts and send (or write) them."""

    lease: Lease


class Executed(msgspec.Struct, frozen=True, tag=True):
    """Data to agent, on a reader: what became of a lease. Exactly one for each Execute, whatever happens."""

    result: LeaseResult


class LinkAccepted(msgspec.Struct, frozen=True, tag=True):
    """Data to agent: a control link of ``peer`` was authenticated; its socket follows as a file descriptor.

    ``session`` is the keying material that the handshake derived (see gateway.handshake).
    """

    peer: str
    send_key: bytes
    receive_key: bytes


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Agent to data: finish nothing, close everything, end the process."""


class Call(msgspec.Struct, frozen=True, tag=True):
    """Control to agent: one API request. ``body`` is its JSON, which the agent decodes with the method's own type."""

    call_id: int
    method: str
    transfer_id: str = ""
    body: bytes = b""


class Reply(msgspec.Struct, frozen=True, tag=True):
    """Agent to control: the answer to a Call. ``body`` is JSON; ``error`` is set instead when it failed."""

    call_id: int
    body: bytes = b""
    error: ErrorRecord | None = None


class Report(msgspec.Struct, frozen=True, tag=True):
    """Agent to control: how a transfer stands, pushed a few times a second, so that a status request asks nobody."""

    progress: Progress


class Forgotten(msgspec.Struct, frozen=True, tag=True):
    """Agent to control: this transfer is deleted; drop what was reported of it."""

    transfer_id: str


class Renew(msgspec.Struct, frozen=True, tag=True):
    """Agent to control: a transfer made progress; the gateway's expiry starts anew."""


ToAgent = Call
FromAgent = Reply | Report | Forgotten | Renew
ToData = OpenTransfer | CloseTransfer | SetPeers | Execute | Stop
FromData = Executed | LinkAccepted
