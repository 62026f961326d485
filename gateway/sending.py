"""An outbound data connection, and others that help it: frames out, answers in."""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.batch import Batch
from gateway.counters import Counter, Counters
from gateway.course import Course, Scratch
from gateway.crypto import open_answer, seal_batch
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
    Codec,
    FrameType,
    Header,
    destination_set,
    parse_header,
    transfer_tag,
    version_tag,
)
from skyplane_core.errors import FrameCorrupt, LinkLost, ProtocolError, SkyplaneError, from_record

_log = logging.getLogger(__name__)

_REMEMBERED: Final = 4096
"""Settled batches of a connection whose late or repeated answers are ignored: more than are ever out at once."""


class _Unanswered(NamedTuple):
    batch: Batch
    key: bytes
    identity: Header


class Connection:
    """A live connection to one peer. ``send`` from one thread, ``read_answers`` from another, the rest from any.

    Others may help it with its batches (:meth:`help`): their sockets are its own from then on, and when one of them
    ends all do.

    Args:
        shared: whether that may be, also in the middle of a batch.

    ``answered`` says whether it has brought any batch home: then what ended it does not speak against the next one.
    """

    def __init__(self, sock: socket.socket, session: Session, counters: Counters, *, shared: bool = False) -> None:
        self._sock = sock
        self._shared = shared
        self._peer = session.peer
        self._refusals = Refusals(session.receive_key)
        self._counters = counters
        self._lock = threading.Lock()
        self._unanswered: dict[bytes, _Unanswered] = {}
        self._settled: deque[bytes] = deque(maxlen=_REMEMBERED)
        self._error: SkyplaneError | None = None
        self._helped = threading.Condition()
        self._helpers: set[socket.socket] = set()
        self._course: Course | None = None
        self.answered = False

    @property
    def lost(self) -> bool:
        return self._error is not None

    def tcp_infos(self) -> dict[socket.socket, TcpInfo | None]:
        """What the kernel knows about it and its helpers; None if that is nothing, or one is closed."""
        with self._helped:
            socks = [self._sock, *self._helpers]
        return {sock: tcp_info(sock) for sock in socks}

    def help(self, sock: socket.socket, scratch: Scratch, wanted: Callable[[], bool]) -> None:
        """Send frames of this connection's batches over one more, until either ends.

        Args:
            sock: an authenticated connection to the same peer that nothing was sent on; the caller closes it.
            wanted: asked before each frame, or else it waits for the next batch.
        """
        with self._helped:
            self._helpers.add(sock)
        try:
            while (course := self._next_course(wanted)) is not None:
                course.helped = True
                frame, size = course.seal(scratch)
                if size:
                    self._pass_on(sock, frame, size)
                else:
                    self._done_with(course)
        except OSError as error:
            self.lose(LinkLost("a connection broke that helped another", where=self._peer, why=str(error)))
        finally:
            with self._helped:
                self._helpers.discard(sock)

    def watch(self, sock: socket.socket) -> None:
        """Wait for the end of a connection that helps this one, which is the end of this one."""
        why = "the peer closed it"
        try:
            if sock.recv(1):
                why = "an answer came on it"
        except OSError as error:
            why = str(error)
        self.lose(LinkLost("a connection ended that helped another", where=self._peer, why=why))

    def _next_course(self, wanted: Callable[[], bool]) -> Course | None:
        with self._helped:
            while not self.lost:
                if self._course is not None and wanted():
                    return self._course
                self._helped.wait()
            return None

    def _done_with(self, course: Course) -> None:
        with self._helped:
            if self._course is course:
                self._course = None

    def send(self, batch: Batch, scratch: Scratch) -> None:
        """Send a whole batch and release its buffer. Whatever goes wrong ends up in the batch's result."""
        try:
            key = batch.transfer.key()
            sealer = seal_batch(key)
            payload = batch.payload[: sum(part.size for part in batch.parts)]
            identity = _identity(batch, sealer.salt)._replace(scattered=self._shared and len(payload) > scratch.most)
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
            if payload:
                self._send_payload(Course(batch, following, payload, sealer, scratch.probe), manifest, scratch)
            else:
                self._pass_on(self._sock, manifest, 0)
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
        with self._helped:
            socks = [self._sock, *self._helpers]
            self._helped.notify_all()
        for sock in socks:
            shut(sock)
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

    def _send_payload(self, course: Course, manifest: bytearray, scratch: Scratch) -> None:
        """Send its frames, with the help of others if there are any."""
        try:
            course.helped = bool(self._helpers)
            # This one belongs on this connection in any case; with it the writer takes memory for the batch.
            first = course.seal(scratch)
            if course.scattered:
                # Before it is sent: that takes until this connection has sent what it holds, and others would be idle.
                self._offer(course)
            # MSG_MORE: a small batch leaves as one packet, manifest and payload.
            self._pass_on(self._sock, manifest, 0, socket.MSG_MORE)
            self._pass_on(self._sock, *first)
            while (sealed := course.seal(scratch))[1]:
                self._pass_on(self._sock, *sealed)
        finally:
            course.stop()
            self._offer(None)

    def _offer(self, course: Course | None) -> None:
        with self._helped:
            self._course = course
            self._helped.notify_all()

    def _pass_on(self, sock: socket.socket, frame: memoryview | bytearray, size: int, flags: int = 0) -> None:
        sock.sendall(frame, flags)
        self._counters.add(Counter.WIRE_BYTES_SENT, len(frame))
        self._counters.add(Counter.BYTES_SENT, size)

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
