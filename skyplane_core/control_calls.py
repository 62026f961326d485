"""The calls of a gateway's control API as values: what is sent, and what an answer means. No I/O."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import quote

import msgspec

from skyplane_core.errors import ErrorRecord, GatewayRefused, SkyplaneError, from_record
from skyplane_core.model import GatewayTransfer
from skyplane_core.spec import Progress, TransferSpec, TransferState

T = TypeVar("T")

MAX_BODY_BYTES = 63 * 1024 * 1024
"""The longest request body that a gateway takes (a message between its processes holds 64 MiB)."""
MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""The longest answer that a client takes; a gateway's answers are a few KiB."""


class PeerAddress(msgspec.Struct, frozen=True):
    """A gateway of the dataplane: where its wire port is dialled. ``connections`` 0: as the gateway sees fit.

    ``dials_out``: nobody can dial it (it is behind a NAT, say), so it dials the others, whichever way the data goes;
    host and port mean nothing then. Two such gateways cannot be neighbours on a route, and the head cannot be one.
    """

    gateway_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    host: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._:%-]{0,253}\Z")] = ""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    connections: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    dials_out: bool = False

    def __post_init__(self) -> None:
        if not self.dials_out and not (self.host and self.port):
            raise ValueError("a gateway that can be dialled has a host and a port")


class GatewayStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a gateway is. ``pids`` by process name, ``counters`` of its data process by name, both only informative."""

    gateway_id: str
    dataplane_id: str
    version: str
    uptime_seconds: float
    expires_in_seconds: float
    pids: dict[str, int] = {}
    transfers: dict[str, TransferState] = {}
    counters: dict[str, int] = {}


class Request(msgspec.Struct, frozen=True):
    """One call. ``path`` is already quoted. A repr shows no body: bodies hold credentials."""

    method: str
    path: str
    body: bytes = b""

    def __repr__(self) -> str:
        return f"Request({self.method} {self.path}, {len(self.body)} bytes)"

    __str__ = __repr__


class Response(msgspec.Struct, frozen=True):
    """What came back: an HTTP status and a JSON body of at most :data:`MAX_ANSWER_BYTES`."""

    status: int
    body: bytes


class Call(msgspec.Struct, Generic[T], frozen=True):
    """A request and the type of its answer. ``kind`` None: the answer says nothing beyond success."""

    request: Request
    kind: Any = None

    def result(self, response: Response, where: str) -> T:
        """The answer as a value; an answer that reports an error raises it. ``where`` names the gateway.

        Raises:
            SkyplaneError: whatever the gateway reported.
            GatewayRefused: it cannot be understood.
        """
        if response.status >= 300:
            raise _error(response, where)
        if self.kind is None:
            return None  # type: ignore[return-value]  # T is None exactly when kind is
        try:
            answer: T = msgspec.json.decode(response.body, type=self.kind)
        except msgspec.MsgspecError as error:
            raise GatewayRefused("the gateway's answer cannot be understood", where=where, why=str(error)) from error
        return answer


def _error(response: Response, where: str) -> SkyplaneError:
    try:
        record = msgspec.json.decode(response.body, type=ErrorRecord)
    except msgspec.MsgspecError:
        return GatewayRefused(f"the gateway answered with HTTP status {response.status} and no reason", where=where)
    if not record.where:
        record = msgspec.structs.replace(record, where=where)
    return from_record(record)


def _transfer(transfer_id: str, action: str = "") -> str:
    return f"/transfers/{quote(transfer_id, safe='')}{action}"


def status() -> Call[GatewayStatus]:
    """How the gateway is."""
    return Call(Request("GET", "/status"), GatewayStatus)


def set_peers(peers: tuple[PeerAddress, ...]) -> Call[None]:
    """Say whom this gateway may dial."""
    return Call(Request("PUT", "/peers", msgspec.json.encode(peers)))


def put_transfer(transfer: GatewayTransfer) -> Call[None]:
    """Create or renew a transfer's part at this gateway."""
    return Call(Request("PUT", _transfer(transfer.transfer_id), msgspec.json.encode(transfer)))


def start(spec: TransferSpec) -> Call[None]:
    """Run a transfer with this gateway as its head."""
    return Call(Request("POST", _transfer(spec.transfer_id, "/start"), msgspec.json.encode(spec)))


def progress(transfer_id: str) -> Call[Progress]:
    """How a transfer stands."""
    return Call(Request("GET", _transfer(transfer_id)), Progress)


def cancel(transfer_id: str) -> Call[None]:
    """Stop a transfer."""
    return Call(Request("POST", _transfer(transfer_id, "/cancel")))


def delete(transfer_id: str) -> Call[None]:
    """Forget a transfer."""
    return Call(Request("DELETE", _transfer(transfer_id)))


def shutdown() -> Call[None]:
    """End the gateway."""
    return Call(Request("POST", "/shutdown"))
