"""The agent process of a gateway: store agents, control links, and on the head the coordinators.

Blocking threads around the stores' calls. It holds the transfers' credentials for control calls, hands each transfer
on to the data process, and answers the control process.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from gateway.agent_store import CalledStore, DirectStore
from gateway.agent_transfers import AgentTransfers
from gateway.counters import Counter, Counters
from gateway.fleet import Fleet
from gateway.head import TransferRun
from gateway.ipc import Channel
from gateway.link import Caller, ExecuteLeases, LeasesDone, Pulse, RenewExpiry, Request, StoreRequest
from gateway.links import Links
from gateway.messages import (
    Call,
    CloseTransfer,
    Execute,
    Executed,
    Forgotten,
    FromData,
    LinkAccepted,
    OpenTransfer,
    Peer,
    Renew,
    Reply,
    Report,
    SetPeers,
    Stop,
)
from gateway.results import Results
from gateway.store_calls import StoreCall, perform
from gateway.store_failover import FailingOver
from gateway.threads import log_unexpected
from skyplane_core.control import PeerAddress
from skyplane_core.coordinator.ways import ways_of
from skyplane_core.errors import GatewayRefused, SkyplaneError, TransferNotFound, UsageError
from skyplane_core.model import GatewayTransfer, Lease
from skyplane_core.provision.bootstrap import Bootstrap
from skyplane_core.spec import Progress, Route, TransferSpec

log = logging.getLogger(__name__)

T = TypeVar("T")

CANCEL_SECONDS = 60.0

# Made once and here: msgspec works out a type on its first use, and crashes if two threads do so at once.
_PEERS = msgspec.json.Decoder(list[PeerAddress])
_TRANSFER = msgspec.json.Decoder(GatewayTransfer)
_SPEC = msgspec.json.Decoder(TransferSpec)


class Agent:
    """Answers calls of the control process and results of the data process until either goes away."""

    def __init__(
        self, bootstrap: Bootstrap, control: Channel[Call], data: Channel[FromData], pulse: Callable[[], int]
    ) -> None:
        self._bootstrap = bootstrap
        self._control = control
        self._data = data
        self._pulse = pulse
        self._transfers = AgentTransfers()
        self._links = Links(bootstrap.gateway_id, bootstrap.wire_secret, self._serve_peer, self._link_broken)
        self._fleet = Fleet(self._links, self._transfers.key)
        self._results = Results(self._links, self._transfers.key)
        self._workers = ThreadPoolExecutor(16, thread_name_prefix="call")
        self._runs: dict[str, TransferRun] = {}
        self._lock = threading.Lock()
        self._ending = False
        self._methods: dict[str, Callable[[Call], Any]] = {
            "peers.put": self._put_peers,
            "transfer.put": self._put_transfer,
            "transfer.start": self._start,
            "transfer.cancel": self._cancel,
            "transfer.delete": self._delete,
        }

    def run(self) -> None:
        """Serve until the control process closes its channel."""
        threading.Thread(target=self._receive_data, name="from-data", daemon=True).start()
        while (call := self._control.receive()) is not None:
            self._workers.submit(self._answer, call)
        self._ending = True
        self._data.send(Stop())
        self._fleet.close()
        self._results.close()
        self._links.close()

    # --- calls of the control process --------------------------------------------------------------------------------

    def _answer(self, call: Call) -> None:
        try:
            method = self._methods.get(call.method)
            if method is None:
                raise GatewayRefused("no such call", where=call.method)
            reply = Reply(call.call_id, msgspec.json.encode(method(call)))
        except SkyplaneError as error:
            reply = Reply(call.call_id, error=error.record())
        except Exception as bug:  # noqa: BLE001 - a bug of ours must reach the client as an error, not as silence
            # Its text stays here: that of a UnicodeError, for one, quotes what may be a credential.
            log_unexpected(bug)
            why = f"{type(bug).__name__} in {call.method}"
            reply = Reply(call.call_id, error=GatewayRefused("internal error in the gateway", why=why).record())
        self._control.send(reply)

    def _put_peers(self, call: Call) -> None:
        addresses = _decode(call, _PEERS)
        me = self._bootstrap.gateway_id
        peers = tuple(
            Peer(address.gateway_id, address.host, address.port, address.connections, address.dials_out)
            for address in addresses
            if address.gateway_id != me
        )
        dial_out = any(address.dials_out for address in addresses if address.gateway_id == me)
        self._links.set_peers(peers, dial_out=dial_out)
        self._data.send(SetPeers(peers, dial_out))

    def _put_transfer(self, call: Call) -> None:
        transfer = _decode(call, _TRANSFER)
        _check_id(call, transfer.transfer_id)
        known = self._transfers.put(transfer)
        # The receipt is the agent's to write; its credentials have no business where the bytes are.
        self._data.send(OpenTransfer(msgspec.structs.replace(known, receipt=None)))

    def _start(self, call: Call) -> None:
        spec = _decode(call, _SPEC)
        _check_id(call, spec.transfer_id)
        me = self._bootstrap.gateway_id
        routes = spec.routes or tuple(Route(me, (), index) for index in range(len(spec.destinations)))
        _check_routes(routes, len(spec.destinations))
        with self._lock:
            if call.transfer_id in self._runs:
                return  # a repeated start, for instance because the first answer was lost
            run = TransferRun(
                spec,
                routes,
                DirectStore(lambda: self._transfers.source(spec.transfer_id), spec.options.max_attempts),
                {index: self._destination(spec, routes, index) for index in range(len(spec.destinations))},
                pool_bytes=self._bootstrap.pool_bytes,
                execute=self._execute,
                report=self._report,
                renew=self._renew,
                pulse=lambda: self._pulse() + self._fleet.pulse(),
                receipt=lambda: self._transfers.receipt(spec.transfer_id),
            )
            self._runs[call.transfer_id] = run
        others = {gateway for way in ways_of(routes) for gateway in way.gateways} - {me}
        self._fleet.join(spec.transfer_id, run, others)
        run.start()

    def _execute(self, reader: str, lease: Lease) -> None:
        if reader == self._bootstrap.gateway_id:
            self._data.send(Execute(lease))
        else:
            self._fleet.execute(reader, lease)

    def _report(self, progress: Progress) -> None:
        expiry = self._transfers.credentials_expire_at(progress.transfer_id)
        self._control.send(Report(msgspec.structs.replace(progress, credentials_expire_at=expiry)))
        if progress.state.ended:
            self._fleet.leave(progress.transfer_id)

    def _destination(self, spec: TransferSpec, routes: Sequence[Route], index: int) -> CalledStore:
        attempts = spec.options.max_attempts
        writers = dict.fromkeys(route.writer for route in routes if route.destination == index)
        if self._bootstrap.gateway_id in writers:
            return DirectStore(lambda: self._transfers.destination(spec.transfer_id, index), attempts)

        def call(writer: str, request: StoreCall) -> bytes:
            key = self._transfers.key(spec.transfer_id)
            return self._links.call(writer, StoreRequest(spec.transfer_id, index, request), key=key, attempts=1)

        def hopeless() -> bool:
            run = self._runs.get(spec.transfer_id)
            return run is not None and run.stopping

        patience = spec.options.progress_timeout
        calls = FailingOver(call, tuple(writers), patience, hopeless)
        return CalledStore(calls, attempts, lambda: calls.trouble)

    def _cancel(self, call: Call) -> None:
        self._run_of(call.transfer_id).cancel()

    def _delete(self, call: Call) -> None:
        """Forget a transfer, cancelling it first where it still runs. May be repeated."""
        with self._lock:
            run = self._runs.get(call.transfer_id)
        if run is not None:
            run.cancel()
            if not run.join(CANCEL_SECONDS):
                raise GatewayRefused("the transfer does not end", where=call.transfer_id, next_step="Try again.")
        with self._lock:
            self._runs.pop(call.transfer_id, None)
        self._results.forget(call.transfer_id)
        self._data.send(CloseTransfer(call.transfer_id))
        self._transfers.drop(call.transfer_id)
        self._control.send(Forgotten(call.transfer_id))

    def _run_of(self, transfer_id: str) -> TransferRun:
        with self._lock:
            run = self._runs.get(transfer_id)
        if run is None:
            raise TransferNotFound("this gateway runs no such transfer", where=transfer_id)
        return run

    # --- the data process and the peers ------------------------------------------------------------------------------

    def _receive_data(self) -> None:
        while (message := self._data.receive()) is not None:
            if isinstance(message, Executed):
                with self._lock:
                    run = self._runs.get(message.result.transfer_id)
                if run is not None:
                    run.deliver(message.result)
                else:
                    self._results.put(message.result)
            elif isinstance(message, LinkAccepted):
                sock = socket.socket(fileno=self._data.take_fd())
                self._links.adopt(sock, message.peer, message.send_key, message.receive_key)
        if self._ending:
            return
        log.error("the data process is gone")
        # Without it nothing can move; the control process sees this exit and ends the gateway.
        os._exit(1)

    def _serve_peer(self, caller: Caller, request: Request) -> bytes:
        match request:
            case StoreRequest():
                caller.check(self._transfers.key(request.transfer_id))
                store = self._transfers.destination(request.transfer_id, request.destination)
                return msgspec.msgpack.encode(perform(store, request.call))
            case RenewExpiry():
                self._control.send(Renew())
            case Pulse():
                return msgspec.msgpack.encode(self._pulse())
            case ExecuteLeases():
                caller.check(self._transfers.key(request.transfer_id))
                self._results.expect(request.transfer_id, caller.peer)
                for lease in request.leases:
                    self._data.send(Execute(msgspec.structs.replace(lease, transfer_id=request.transfer_id)))
            case LeasesDone():
                caller.check(self._transfers.key(request.transfer_id))
                with self._lock:
                    run = self._runs.get(request.transfer_id)
                if run is not None:
                    for result in request.results:
                        run.deliver(msgspec.structs.replace(result, transfer_id=request.transfer_id))
        return b""

    def _link_broken(self, peer: str) -> None:
        self._fleet.broken(peer)

    def _renew(self) -> None:
        self._control.send(Renew())
        self._links.renew()


def _decode(call: Call, decoder: msgspec.json.Decoder[T]) -> T:
    """A request's body. Raises GatewayRefused if it is no such thing."""
    try:
        return decoder.decode(call.body)
    except msgspec.MsgspecError as error:
        raise GatewayRefused("the request is malformed", where=call.method, why=str(error)) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise GatewayRefused("the request is malformed", where=call.method, why=type(error).__name__) from error


def _check_id(call: Call, transfer_id: str) -> None:
    if transfer_id != call.transfer_id:
        raise GatewayRefused("the transfer id in the address is not the one in the body", where=call.transfer_id)


def run(bootstrap: Bootstrap, control: socket.socket, data: socket.socket, counters: Counters) -> None:
    """The agent process: serve until the control process goes away."""
    agent = Agent(bootstrap, Channel(control, Call), Channel(data, FromData), lambda: _moved(counters))
    agent.run()


def _check_routes(routes: Sequence[Route], destinations: int) -> None:
    missing = set(range(destinations)) - {route.destination for route in routes}
    if missing:
        raise UsageError(f"no route leads to destination {min(missing)}")


def _moved(counters: Counters) -> int:
    return sum(
        counters[counter]
        for counter in (
            Counter.BYTES_READ,
            Counter.BYTES_SENT,
            Counter.BYTES_RECEIVED,
            Counter.BYTES_WRITTEN,
            Counter.WIRE_BYTES_RELAYED,
        )
    )
