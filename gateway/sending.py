"""One outbound data connection: frames out, answers in."""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from typing import Final, NamedTuple

from gateway.batch import Batch
from gateway.codec import SCRATCH_SIZE, Encoder, compress_bound
from gateway.counters import Counter, Counters
from gateway.crypto import Sealer, open_answer, seal_batch
from gateway.framing import Assembly, seal_message
from gateway.handshake import Session
from gateway.manifest import decode_answer, encode_manifest
from gateway.refusals import Refusals
from gateway.sockets import receive_into, shut
from gateway.tcp_info import TcpInfo, tcp_info
from gateway.threads import as_record
from gateway.wire import (
    ANSWER_SALT_SIZE,
    HEADER_SIZE,
    MAX_RAW,
    TAG_SIZE,
    Codec,
    FrameType,
    Header,
    destination_set,
    pack_header,
    parse_header,
    transfer_tag,
    version_tag,
)
from skyplane_core.errors import FrameCorrupt, LinkLost, ProtocolError, SkyplaneError, from_record

_log = logging.getLogger(__name__)

SMALL_FRAME: Final = 256 * 1024
"""Payload of a frame where connections are many and each is slow: each sender and each receiver holds one in memory."""
_REMEMBERED: Final = 4096
"""Settled batches of a connection whose late or repeated answers are ignored: more than are ever out at once."""


class Scratch:
    """A sender thread's own memory: one frame and the probe's output.

    Args:
        most: payload bytes of a frame.
    """

    def __init__(self, most: int = MAX_RAW) -> None:
        self.most = most
        self.frame = memoryview(bytearray(HEADER_SIZE + compress_bound(most) + TAG_SIZE))
        self.probe = memoryview(bytearray(SCRATCH_SIZE))


class _Unanswered(NamedTuple):
    batch: Batch
    key: bytes
    identity: Header


class Connection:
    """A live connection to one peer. ``send`` from one thread, ``read_answers`` from another, the rest from any.

    ``answered`` says whether it has brought any batch home: then what ended it does not speak against the next one.
    """

    def __init__(self, sock: socket.socket, session: Session, counters: Counters) -> None:
        self._sock = sock
        self._peer = session.peer
        self._refusals = Refusals(session.receive_key)
        self._counters = counters
        self._lock = threading.Lock()
        self._unanswered: dict[bytes, _Unanswered] = {}
        self._settled: deque[bytes] = deque(maxlen=_REMEMBERED)
        self._error: SkyplaneError | None = None
        self.answered = False

    @property
    def lost(self) -> bool:
        return self._error is not None

    def tcp_info(self) -> TcpInfo | None:
        """What the kernel knows about it; None if that is nothing, or it is closed."""
        return tcp_info(self._sock)

    def send(self, batch: Batch, scratch: Scratch) -> None:
        """Send a whole batch and release its buffer. Whatever goes wrong ends up in the batch's result."""
        try:
            key = batch.transfer.key()
            sealer = seal_batch(key)
            identity = _identity(batch, sealer.salt)
            payload = batch.payload[: sum(part.size for part in batch.parts)]
            message = encode_manifest(batch.parts)
            manifest = seal_message(identity, message, sealer, last=not payload)
            following = identity._replace(type=FrameType.DATA, frame=-(-len(message) // MAX_RAW))
        except Exception as error:  # noqa: BLE001 - becomes the result of the part that it happened to
            batch.release()
            batch.fail(as_record(error))
            return
        try:
            self._expect(sealer.salt, _Unanswered(batch, key, identity))
            # Counted before they are sent, since the answer may be here before send returns.
            batch.wire_bytes += len(manifest)
            # MSG_MORE: a small batch leaves as one packet, manifest and payload.
            self._sock.sendall(manifest, socket.MSG_MORE if payload else 0)
            self._counters.add(Counter.WIRE_BYTES_SENT, len(manifest))
            if payload:
                self._send_payload(batch, following, payload, sealer, scratch)
        except Exception as error:  # noqa: BLE001 - becomes the result of the part that it happened to
            # Half a batch is on the wire: this connection is of no more use, whatever the reason.
            if isinstance(error, OSError):
                error = LinkLost("the connection broke", where=self._peer, why=str(error))
            batch.fail(as_record(error))
            self.lose(LinkLost("a batch could not be sent whole", where=self._peer, why=type(error).__name__))
        finally:
            batch.release()

    def read_answers(self) -> None:
        """Until the connection ends, give each answer to its batch."""
        try:
            while True:
                self._answer()
        except SkyplaneError as error:
            self.lose(LinkLost("the connection to the writer was lost", where=self._peer, why=error.what))
        finally:
            self._sock.close()

    def lose(self, error: SkyplaneError) -> None:
        """End the connection; what is not answered fails with ``error``."""
        with self._lock:
            first = self._error is None
            if first:
                self._error = error
            waiting, self._unanswered = list(self._unanswered.values()), {}
        if first:
            _log.info("data connection lost", extra={"peer": self._peer, "batches": len(waiting), "reason": error.why})
        shut(self._sock)
        for entry in waiting:
            entry.batch.fail(error.record())

    def forget(self, transfer_id: str, error: SkyplaneError) -> None:
        """Fail what is not answered of one transfer; its answers are ignored when they come."""
        with self._lock:
            salts = [salt for salt, item in self._unanswered.items() if item.batch.lease.transfer_id == transfer_id]
            waiting = [self._unanswered.pop(salt) for salt in salts]
            self._settled.extend(salts)
        for entry in waiting:
            entry.batch.fail(error.record())

    def _expect(self, salt: bytes, entry: _Unanswered) -> None:
        with self._lock:
            if self._error is not None:
                raise from_record(self._error.record())
            self._unanswered[salt] = entry

    def _send_payload(self, batch: Batch, first: Header, payload: memoryview, sealer: Sealer, scratch: Scratch) -> None:
        encoder = Encoder(batch.transfer.config.compression, scratch.probe, stays_here=batch.stays_here)
        batch.encoder = encoder
        frame, clear = scratch.frame, scratch.frame[:HEADER_SIZE]
        for number, offset in enumerate(range(0, len(payload), scratch.most), start=first.frame):
            raw = payload[offset : offset + scratch.most]
            length = encoder.encode_into(raw, frame[HEADER_SIZE : len(frame) - TAG_SIZE])
            body = raw if length is None else frame[HEADER_SIZE : HEADER_SIZE + length]
            size = len(body) + TAG_SIZE
            header = first._replace(
                codec=Codec.RAW if length is None else Codec.LZ4,
                last=offset + len(raw) == len(payload),
                frame=number,
                offset=offset,
                raw_length=len(raw),
                wire_length=size,
            )
            pack_header(clear, header)
            sealer.seal_into(number, body, clear, frame[HEADER_SIZE:])
            batch.wire_bytes += HEADER_SIZE + size
            self._sock.sendall(frame[: HEADER_SIZE + size])
            self._counters.add(Counter.WIRE_BYTES_SENT, HEADER_SIZE + size)
            self._counters.add(Counter.BYTES_SENT, len(raw))

    def _answer(self) -> None:
        """Read one answer or refusal whole, and settle its batch."""
        header, clear, body = self._frame()
        if header.type is FrameType.REFUSE:
            self._refusal(header, clear, body)
            return
        entry = self._entry(header)
        assembly = Assembly(FrameType.ACK)
        failure: SkyplaneError | None = None
        while True:
            assembly.order.check(header)
            if entry is not None and failure is None:
                try:
                    opener = open_answer(entry.key, header.salt, bytes(body[:ANSWER_SALT_SIZE]))
                    assembly.add(header, clear, body[ANSWER_SALT_SIZE:], opener)
                except FrameCorrupt as error:
                    failure = error
            if assembly.order.complete:
                break
            header, clear, body = self._frame()
        if entry is None:
            return
        with self._lock:
            # Forgotten or lost meanwhile: its batch has its result.
            if self._unanswered.pop(header.salt, None) is None:
                return
            self._settled.append(header.salt)
        try:
            if failure is not None:
                raise failure
            entry.batch.answered(decode_answer(assembly.message))
            self.answered = True
        except (FrameCorrupt, ProtocolError) as error:
            entry.batch.fail(error.record())

    def _refusal(self, header: Header, clear: memoryview, body: memoryview) -> None:
        record = self._refusals.read(header, clear, body)
        entry = self._entry(header)
        with self._lock:
            known = self._unanswered.pop(header.salt, None)
            self._settled.append(header.salt)
        if entry is not None and known is not None:
            known.batch.fail(record)

    def _entry(self, header: Header) -> _Unanswered | None:
        """What this answers; None if nobody waits for it any more.

        Raises:
            ProtocolError: it answers nothing that was sent here: a salt was damaged on the way, there or back.
        """
        with self._lock:
            entry = self._unanswered.get(header.salt)
            strange = entry is None and header.salt not in self._settled and self._error is None
        if strange:
            raise ProtocolError("an answer names a batch that was not sent on this connection")
        if entry is not None and entry.identity.batch != header.batch:
            raise ProtocolError("an answer names another batch than the one that it answers")
        return entry

    def _frame(self) -> tuple[Header, memoryview, memoryview]:
        clear = memoryview(bytearray(HEADER_SIZE))
        receive_into(self._sock, clear)
        header = parse_header(clear)
        if header.type not in (FrameType.ACK, FrameType.REFUSE):
            raise ProtocolError(f"a frame of type {header.type.name} came from a writer")
        body = memoryview(bytearray(header.wire_length))
        receive_into(self._sock, body)
        return header, clear, body


def _identity(batch: Batch, salt: bytes) -> Header:
    first = batch.parts[0]
    versions = {(part.object, part.part): part.version for part in batch.lease.parts}
    return Header(
        type=FrameType.MANIFEST,
        codec=Codec.RAW,
        last=False,
        transfer=transfer_tag(batch.lease.transfer_id),
        object=first.object,
        part=first.part,
        attempt=min(batch.lease.attempt, 2**16 - 1),
        destinations=destination_set(target.destination for part in batch.parts for target in part.targets),
        version_tag=version_tag(versions[part.object, part.part] for part in batch.parts),
        frame=0,
        offset=0,
        raw_length=0,
        wire_length=0,
        salt=salt,
        way=batch.lease.way,
    )
