"""The model of the data path: readers, relays and writers that carry out leases, die, come back, and answer late."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.batch import describe, refused
from gateway.manifest import ManifestPart
from gateway.summed import Summed, Sums
from skyplane_core.errors import LinkLost, SkyplaneError
from skyplane_core.model import Lease, LeaseResult, ObjectAttributes, PartAck, PartFailure, PartLease, PartTarget
from tests.simulation.kernel import Future, Process

if TYPE_CHECKING:
    from tests.simulation.world import World

ANSWER_SECONDS = 25.0
"""After so long without an answer a connection counts as lost."""

Answer = tuple[list[PartAck], list[PartFailure]]


class Gateways:
    """All gateways but the head's coordinator. They outlive it, as gateways on other machines do."""

    def __init__(self, world: World, names: list[str]) -> None:
        self._world = world
        self.processes = {name: Process(name) for name in names}

    def crash(self, name: str, back_after: float) -> None:
        """What it holds is gone; what it had asked a store for still happens there."""
        kernel = self._world.kernel
        kernel.log(f"crash of {name}")
        kernel.kill(self.processes[name])
        self._notice(name)
        kernel.at(back_after, lambda: self.back(name))

    def back(self, name: str) -> None:
        """It is up again, and knows of nothing."""
        self.processes[name] = Process(name)
        self._notice(name)

    def _notice(self, name: str) -> None:
        kernel = self._world.kernel
        kernel.at(kernel.rng.uniform(0.0, 8.0), lambda: self._world.notice(name))

    def receive(self, reader: str, lease: Lease) -> None:
        """A lease arrived. If the reader is down, nobody hears of it, or the head hears that it could not be sent."""
        process = self.processes[reader]
        if process.dead and self._world.kernel.rng.random() < 0.5:
            self._world.deliver(refused(lease, LinkLost("nobody answers", where=reader).record()))
            return
        self._world.kernel.spawn(process, lambda: self._execute(process, lease))

    def _execute(self, process: Process, lease: Lease) -> None:
        parts: list[tuple[ManifestPart, bytes]] = []
        acks: list[PartAck] = []
        failures: list[PartFailure] = []
        sums: dict[tuple[int, int], Summed] = {}
        for part in lease.parts:
            try:
                described, data, sums[part.object, part.part] = self._read(process, part)
                parts.append((described, data))
            except SkyplaneError as error:
                failures.append(PartFailure(part.object, part.part, -1, error.record()))
        if parts and lease.route:
            acks, failed = self._send(process, lease.route, parts)
            failures += failed
        elif parts:
            acks, failed = self._write(process, parts)
            failures += failed
        acks = [msgspec.structs.replace(ack, **sums[ack.object, ack.part]._asdict()) for ack in acks]
        result = LeaseResult(lease.lease_id, lease.transfer_id, tuple(acks), tuple(failures), 1)
        self._world.send("result", lambda: self._world.deliver(result))

    def _read(self, process: Process, part: PartLease) -> tuple[ManifestPart, bytes, Summed]:
        buffer = bytearray(part.size)
        source = self._world.source
        read = self._world.ask(
            process, "read", lambda: source.read_into(part.key, part.version, part.offset, memoryview(buffer))
        )
        self._world.misread(buffer)
        sums = Sums(part, memoryview(buffer), compare=True).judged(read, where=part.key)
        self._world.moved += 1
        return describe(part, sums.crc32c, ObjectAttributes(), keep_attributes=True), bytes(buffer), sums

    def _send(self, process: Process, route: tuple[str, ...], parts: list[tuple[ManifestPart, bytes]]) -> Answer:
        """Along the route and back. A hop that is down, or loses it, is noticed by the silence."""
        world, future = self._world, Future()

        def arrive(hops: tuple[str, ...]) -> None:
            hop = self.processes[hops[0]]
            if hop.dead:
                return
            if hops[1:]:
                world.send("batch", lambda: arrive(hops[1:]))
            else:
                world.kernel.spawn(hop, lambda: answer(self._write(hop, parts)))

        def answer(found: Answer) -> None:
            world.send("answer", lambda: None if future.done() else future.set_result(found))

        world.send("batch", lambda: arrive(route))
        try:
            found: Answer = future.result(ANSWER_SECONDS)
        except TimeoutError:
            lost = LinkLost("the connection broke", where=route[0]).record()
            return [], [
                PartFailure(part.object, part.part, target.destination, lost, part.crc32c)
                for part, _ in parts
                for target in part.targets
            ]
        return found

    def _write(self, process: Process, parts: list[tuple[ManifestPart, bytes]]) -> Answer:
        acks: list[PartAck] = []
        failures: list[PartFailure] = []
        for part, data in parts:
            for target in part.targets:
                try:
                    acks.append(self._put(process, part, target, data))
                except SkyplaneError as error:
                    failures.append(
                        PartFailure(part.object, part.part, target.destination, error.record(), part.crc32c)
                    )
        return acks, failures

    def _put(self, process: Process, part: ManifestPart, target: PartTarget, data: bytes) -> PartAck:
        world = self._world
        store = world.destination
        sent = memoryview(world.damaged(data))
        call: Callable[[], Any]
        if target.upload_id:
            call = lambda: store.put_part(  # noqa: E731 - one of two calls is made, later
                target.key, target.upload_id, part.part, part.object_offset, sent, crc32c=part.crc32c
            )
        else:
            call = lambda: store.put_object(  # noqa: E731 - as above
                target.key,
                sent,
                crc32c=part.crc32c,
                attributes=target.attributes or ObjectAttributes(),
                precondition=target.precondition,
            )
        stored = world.ask(process, "put", call)
        world.moved += 1
        if target.upload_id:
            return PartAck(part.object, part.part, 0, part.size, part.crc32c, stored_part=stored)
        return PartAck(part.object, part.part, 0, part.size, part.crc32c, stored=stored)
