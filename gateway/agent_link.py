"""The control process's end of its channel to the agent process.

The framing is that of :mod:`gateway.ipc`, here on asyncio: the control process must never block, least of all on an
agent that does not read.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket

import msgspec

from gateway.ipc import MAX_MESSAGE
from gateway.lifetime import Ending, Lifetime
from gateway.messages import Call, Forgotten, FromAgent, Renew, Reply, Report
from skyplane_core.errors import GatewayUnreachable, ProtocolError, from_record
from skyplane_core.spec import Progress

logger = logging.getLogger(__name__)

CALL_SECONDS = 75.0
"""How long an agent may take for a call. The longest is the deletion of a transfer that has to be cancelled first."""

HEARSAY_SECONDS = 0.2
"""How long the consequence of a process's death may be known before the death itself."""


class AgentLink:
    """Calls to the agent, and the last that it reported of each transfer.

    Args:
        lifetime: renewed when the agent says that a transfer progressed; ended when the agent hangs up.
        gateway_id: for messages.
    """

    def __init__(self, lifetime: Lifetime, gateway_id: str) -> None:
        self._lifetime = lifetime
        self._where = f"gateway {gateway_id}"
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._progress: dict[str, Progress] = {}
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[FromAgent] = msgspec.msgpack.Decoder(FromAgent)
        self._send_turn = asyncio.Lock()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self, agent_socket: socket.socket) -> None:
        """Take over the socket; it is closed by :meth:`close`."""
        self._reader, self._writer = await asyncio.open_unix_connection(sock=agent_socket)

    def progress(self, transfer_id: str) -> Progress | None:
        """The last report about a transfer; None if there is none."""
        return self._progress.get(transfer_id)

    def transfers(self) -> dict[str, Progress]:
        """The last report about each transfer."""
        return dict(self._progress)

    async def call(self, method: str, transfer_id: str = "", body: bytes = b"") -> bytes:
        """Have the agent do something; returns its answer's JSON.

        Raises:
            SkyplaneError: whatever the agent reported.
            GatewayUnreachable: it did not answer within :data:`CALL_SECONDS`, or it is gone.
        """
        call_id = next(self._ids)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = answer
        try:
            call = Call(call_id, method, transfer_id, body)
            return await asyncio.wait_for(self._exchange(call, answer), CALL_SECONDS)
        except (asyncio.TimeoutError, ConnectionError) as error:
            raise GatewayUnreachable(
                f"the gateway's agent process did not answer {method} within {CALL_SECONDS:.0f} s",
                where=self._where,
                why=str(error),
                next_step="The call may be repeated; the gateway's log says what its agent is busy with.",
            ) from error
        finally:
            del self._waiting[call_id]

    async def run(self) -> None:
        """Take the agent's messages until it hangs up, which ends the gateway."""
        reason = "the agent process closed its channel"
        try:
            while (message := await self._receive()) is not None:
                self._take(message)
        except (ProtocolError, msgspec.MsgspecError, OSError) as error:
            logger.critical("agent channel failed", exc_info=error)
            reason = "the agent process sent what is not a message"
        gone = GatewayUnreachable("the gateway is ending", where=self._where, why=reason)
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(gone)
        # A process that dies closes its channels before its parent hears of its death, which is what should be logged.
        await asyncio.sleep(HEARSAY_SECONDS)
        self._lifetime.end(Ending(reason, exit_code=1))

    def close(self) -> None:
        """Hang up, which tells the agent to end."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def _exchange(self, call: Call, answer: asyncio.Future[bytes]) -> bytes:
        writer = self._writer
        if writer is None or writer.is_closing():
            raise ConnectionResetError("the agent process is gone")
        data = self._encoder.encode(call)
        async with self._send_turn:
            writer.write(len(data).to_bytes(4, "big"))
            writer.write(data)
            await writer.drain()
        return await answer

    async def _receive(self) -> FromAgent | None:
        reader = self._reader
        if reader is None:
            raise ProtocolError("the channel to the agent is not open")
        try:
            size = int.from_bytes(await reader.readexactly(4), "big")
            if size > MAX_MESSAGE:
                raise ProtocolError(f"a message of {size} bytes between processes of one gateway")
            return self._decoder.decode(await reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return None

    def _take(self, message: FromAgent) -> None:
        if isinstance(message, Reply):
            answer = self._waiting.get(message.call_id)
            if answer is None or answer.done():
                # Its caller has given up on it, and was told so.
                logger.warning("late answer of the agent", extra={"call": message.call_id})
            elif message.error is not None:
                answer.set_exception(from_record(message.error))
            else:
                answer.set_result(message.body)
        elif isinstance(message, Report):
            self._progress[message.progress.transfer_id] = message.progress
        elif isinstance(message, Forgotten):
            self._progress.pop(message.transfer_id, None)
        elif isinstance(message, Renew):
            self._lifetime.renew()
