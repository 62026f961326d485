"""Writing the parts of a batch to their destinations: the last stage, on a writer or on a reader that writes itself."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence

from gateway.counters import Counter, Counters
from gateway.manifest import Answer, ManifestPart
from gateway.opened import Transfer
from gateway.threads import Workers, as_record
from skyplane_core.errors import ChecksumMismatch, LinkLost
from skyplane_core.fidelity import Fitted, fit_at
from skyplane_core.model import ObjectAttributes, PartAck, PartFailure, PartTarget


class Puts:
    """Runs puts on shared threads.

    Args:
        workers: the put threads.
        counters: BYTES_WRITTEN and PARTS_WRITTEN are kept here.
    """

    def __init__(self, workers: Workers, counters: Counters) -> None:
        self._workers = workers
        self._counters = counters

    def write(
        self,
        transfer: Transfer,
        parts: Sequence[ManifestPart],
        payload: memoryview,
        wanted: Callable[[], bool],
        done: Callable[[Answer], None],
    ) -> None:
        """Write each part to each of its targets; ``done`` gets the answer, in the thread that was last.

        Args:
            payload: the batch's bytes, untouched until ``done`` is called.
            wanted: asked before each put; once nobody waits for the answer, what has not begun is not done any more.
        """
        puts = [(part, target) for part in parts for target in part.targets]
        if not puts:
            done(Answer((), ()))
            return
        gathered = _Gathered(len(puts), done)
        tasks = [functools.partial(self._task, transfer, put, payload, wanted, gathered) for put in puts]
        self._workers.submit(transfer.config.transfer_id, transfer.config.concurrency, tasks)

    def _task(
        self,
        transfer: Transfer,
        put: tuple[ManifestPart, PartTarget],
        payload: memoryview,
        wanted: Callable[[], bool],
        gathered: _Gathered,
    ) -> None:
        part, target = put
        try:
            if not wanted():
                raise LinkLost("the connection that this part came on is gone")
            data = payload[part.payload_offset : part.payload_offset + part.size]
            ack = _put(transfer, part, target, data)
        except Exception as error:  # noqa: BLE001 - becomes the result of the part that it happened to
            failure = PartFailure(part.object, part.part, target.destination, as_record(error), part.crc32c)
            gathered.add(failure)
            return
        self._counters.add(Counter.BYTES_WRITTEN, part.size)
        self._counters.add(Counter.PARTS_WRITTEN)
        gathered.add(ack)


def _put(transfer: Transfer, part: ManifestPart, target: PartTarget, data: memoryview) -> PartAck:
    with transfer.destination(target.destination) as path:
        if target.upload_id:
            stored_part = path.put_part(
                target.key, target.upload_id, part.part, part.object_offset, data, crc32c=part.crc32c
            )
            _compare(transfer, target, part, stored_part.size, stored_part.crc32c)
            return PartAck(part.object, part.part, target.destination, part.size, part.crc32c, stored_part=stored_part)
        fitted = _fitted(transfer, target)
        stored = path.put_object(
            target.key, data, crc32c=part.crc32c, attributes=fitted.attributes, precondition=target.precondition
        )
        _compare(transfer, target, part, stored.size, stored.crc32c)
        return PartAck(
            part.object, part.part, target.destination, part.size, part.crc32c, stored=stored, notes=fitted.notes
        )


def _fitted(transfer: Transfer, target: PartTarget) -> Fitted:
    config = transfer.config.destinations[target.destination]
    attributes = target.attributes or ObjectAttributes()
    return fit_at(attributes, transfer.config.rules, config, config.object_uri(target.key))


def _compare(transfer: Transfer, target: PartTarget, part: ManifestPart, size: int, crc32c: int | None) -> None:
    if size != part.size or crc32c not in (None, part.crc32c):
        store = transfer.config.destinations.get(target.destination)
        raise ChecksumMismatch(
            f"the store reports {size} bytes with crc32c {crc32c}, sent were {part.size} with {part.crc32c}",
            where=store.object_uri(target.key) if store else "",
        )


class _Gathered:
    """Collects the outcomes of a batch's puts."""

    def __init__(self, count: int, done: Callable[[Answer], None]) -> None:
        self._lock = threading.Lock()
        self._left = count
        self._acks: list[PartAck] = []
        self._failures: list[PartFailure] = []
        self._done = done

    def add(self, outcome: PartAck | PartFailure) -> None:
        with self._lock:
            if isinstance(outcome, PartAck):
                self._acks.append(outcome)
            else:
                self._failures.append(outcome)
            self._left -= 1
            if self._left:
                return
        self._done(Answer(tuple(self._acks), tuple(self._failures)))
