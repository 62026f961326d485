"""What must be true of one coordinator's work, looked at after every step and at its end."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from gateway.head import TransferRun
from skyplane_core.coordinator.journal import UploadRecord
from skyplane_core.coordinator.leases import Out
from skyplane_core.coordinator.receipt import read_receipt
from skyplane_core.errors import SkyplaneError
from skyplane_core.model import Attestation, Lease, PartLease
from skyplane_core.spec import Method, Outcome, Progress, ReceiptLine, TransferState
from tests.simulation.journalled import journalled
from tests.simulation.kernel import Process, threading

if TYPE_CHECKING:
    from tests.simulation.world import World

STATE = "to/.skyplane/t/"


class Incarnation:
    """One coordinator of the transfer, watched."""

    def __init__(self, world: World, number: int, *, last: bool) -> None:
        self.world = world
        self.number = number
        self.last = last
        self.process = Process(f"head{number}")
        self.run: TransferRun | None = None
        self.progress: Progress | None = None
        self.cancelled = self.taken_over = False
        self.readers: dict[int, str] = {}
        self.opened: set[str] = set()
        """Uploads whose id reached it."""
        self.recorded: set[str] = set()
        self.abort_failed: set[str] = set()
        self.acked: set[tuple[int, int]] = set()
        """Parts whose acknowledgement it has been told."""
        self.away: set[str] = set()
        """Gateways that it knows to be down."""
        self._looking = threading.Lock()
        self._sendings: Counter[tuple[int, int]] = Counter()
        self._free: Counter[tuple[int, int]] = Counter()
        """Sendings that a lost gateway or connection cost: they are not the part's fault."""
        self.lines: list[ReceiptLine] = []
        _, _, self._durable_acks = journalled(world.destination, STATE)

    def watch(self) -> None:
        """Put the checks around what it calls."""
        run: Any = self.run
        table, writer, journal = run._machine.table, run._records.receipt, run._records.journal
        grant, lose, again = table.grant, table.lose, run._machine._again
        add, record = writer.add, journal.record

        def checked_grant(now: float) -> Out | None:
            out: Out | None = grant(now)
            if out is not None:
                self.readers[out.lease.lease_id] = out.reader
                self._check_way(out)
                self._check_lease(out.lease, out.reader)
            return out

        def counted_lose(gateway: str, now: float, why: str) -> list[Lease]:
            voided: list[Lease] = lose(gateway, now, why)
            self._free.update((part.object, part.part) for lease in voided for part in lease.parts)
            if any(gateway in (out.reader, *out.lease.route) for out in table.outstanding()):
                self.world.violated(f"leases over {gateway} are out although it is lost")
            self.away.add(gateway)
            return voided

        def counted_again(part: PartLease, attempt: int) -> None:
            self._free[part.object, part.part] += 1
            again(part, attempt)

        def checked_add(lines: list[ReceiptLine]) -> int:
            for line in lines:
                self._check_line(line)
            return int(add(lines))

        def checked_record(entry: UploadRecord) -> None:
            record(entry)
            self.recorded.add(entry.upload_id)
            if entry.upload_id not in self.world.durable_uploads:
                self.world.violated(f"upload {entry.upload_id} counts as recorded and is not durable")

        table.grant, table.lose, run._machine._again = checked_grant, counted_lose, counted_again
        writer.add, journal.record = checked_add, checked_record

    def look(self) -> None:
        """See which gateways are there, one look after the other, and tell the transfer what has changed."""
        run: Any = self.run
        with self._looking:
            for name, process in self.world.gateways.processes.items():
                if process.dead and name not in self.away:
                    run.gateway_lost(name, "it is down")
                elif not process.dead and name in self.away:
                    self.away.discard(name)
                    run.gateway_found(name)

    def sent(self, lease: Lease) -> None:
        """A lease leaves the head."""
        for part in lease.parts:
            for target in part.targets:
                if target.upload_id and target.upload_id not in self.world.durable_uploads:
                    self.world.violated(f"a part of {part.key} is sent before its upload is recorded")

    def _check_way(self, out: Out) -> None:
        """It is one of the plan's, the number on the wire is its own, and nobody on it is known to be down."""
        way = (out.reader, *out.lease.route)
        ways = [(route.reader, *route.path) for route in self.world.plan.routes]
        if way not in ways or ways.index(way) != out.lease.way:
            self.world.violated(f"lease {out.lease.lease_id} goes over {way}, called way {out.lease.way}")
        if self.away & {*way}:
            self.world.violated(f"lease {out.lease.lease_id} goes over {way}, and {self.away} are down")

    def _check_lease(self, lease: Lease, reader: str) -> None:
        run: Any = self.run
        world, table = self.world, run._machine.table
        for part in lease.parts:
            self._sendings[part.object, part.part] += 1
            counted = self._sendings[part.object, part.part] - self._free[part.object, part.part]
            if counted != lease.attempt:
                world.violated(f"sending {counted} of {part.key} is called {lease.attempt}")
            state = run._machine._objects.get(part.object)
            if state is None or not state.wants(part):
                world.violated(f"part {part.part} of {part.key} is leased and nobody wants it")
            if (part.object, part.part) in self.acked:
                world.violated(f"part {part.part} of {part.key} was acknowledged, and is sent again")
            for target in part.targets:
                acked = self._durable_acks.get((target.upload_id, part.part))
                upload = world.destination.uploads.get(target.upload_id)
                held = upload.parts.get(part.part) if upload is not None else None
                lost = (target.upload_id, part.part) in world.forgotten
                if acked is not None and held is not None and held.part.part_id == acked and not lost:
                    world.violated(f"part {part.part} of {part.key} was acknowledged and journalled, and is sent again")
        held_leases = [out.lease for out in table.outstanding() if out.reader == reader]
        size = sum(one.size for one in held_leases)
        # Between gateways the one connection that there may be here has a lease of its own.
        connections = int(any(route.path for route in world.plan.routes))
        if len(held_leases) > 2 * world.plan.concurrency + connections:
            world.violated(f"{reader} holds {len(held_leases)} leases")
        share = 1.25 if connections else 0.75
        if size > int(world.plan.pool_bytes * share) and sum(1 for one in held_leases if one.size) > 1:
            world.violated(f"{reader} holds {size} bytes of leases")

    def _check_line(self, line: ReceiptLine) -> None:
        world = self.world
        self.lines.append(line)
        world.kernel.log(f"{line.key} {line.outcome.value} {line.reason}")
        if sum(1 for one in self.lines if one.key == line.key) > 1:
            world.violated(f"{line.key} has two outcomes")
        if self.progress is not None:
            world.violated(f"{line.key} was settled after the end")
        if line.outcome is Outcome.FAILED:
            return
        ours = world.source.history.get((line.key, line.source_version))
        if line.outcome is Outcome.SKIPPED:
            # It may have been overwritten since it was listed.
            held = [
                (found, data) for found, data in world.destination.history.items() if found[0] == line.destination_key
            ]
            if ours not in [data for _, data in held] and not self._nobody_could_know(held[-1][0]):
                world.violated(f"{line.key} was skipped and was never there")
            return
        theirs = world.destination.history.get((line.destination_key, line.destination_version))
        if ours is None or theirs != ours:
            world.violated(f"{line.key} is called done and the destination never held its bytes")
        if line.size != len(ours or b"") or line.attestation is None:
            world.violated(f"{line.key} is called done without a word for it: {line}")
        read = (line.destination_key, line.destination_version) in world.read_back or not line.size
        if line.attestation is Attestation.READ_BACK and not read:
            world.violated(f"{line.key} is said to be read back and was not")
        if line.method is Method.SERVER_SIDE and (not world.plan.max_copy or line.crc32c is not None):
            world.violated(f"{line.key} is said to be copied by a store that does not, or to have been read")
        if line.attestation is Attestation.WHOLE and not world.plan.attests:
            world.violated(f"{line.key} is attested by a store that attests nothing")

    def _nobody_could_know(self, found: tuple[str, str]) -> bool:
        """Bytes were damaged unseen by a store that sums nothing, and whoever was to read them back died before."""
        plan = self.world.plan
        return (
            plan.corrupt > 0
            and not plan.attests
            and (found not in self.world.read_back or found[0] in self.world.delete_failed)
        )

    def end(self, progress: Progress) -> None:
        """It says that it ended."""
        if self.progress is not None:
            self.world.violated("it ended twice")
        self.progress = progress
        run: Any = self.run
        if "internal error" in progress.error or any("internal error" in line.reason for line in self.lines):
            self.world.violated(f"a defect: {progress.error}")
        if run._machine.in_flight or run._committing:
            self.world.violated("it ended with objects in flight")
        self._check_tally(progress)
        # Nothing fences a head that died off: the summary that it had on its way may replace a later one.
        # Whoever is told of a successor leaves it the receipt, also if only a head that died seems to be one.
        left = self.taken_over and progress.state is TransferState.FAILED
        if progress.receipt and f"{STATE}receipt.json" not in self.world.late and not left:
            self._check_receipt(progress)
        if progress.state is not TransferState.FAILED:
            self._check_uploads()
        if progress.state is TransferState.CANCELLED and not self.cancelled:
            self.world.violated("nobody cancelled it")
        if "has taken this transfer over" in progress.error and not self.taken_over:
            self.world.violated("nobody has taken it over")
        if self.world.plan.patient and progress.state is not TransferState.DONE:
            failed = [line for line in self.lines if line.outcome is Outcome.FAILED]
            if progress.error or any(line.destination_key not in self.world.late for line in failed):
                self.world.violated(f"all that went wrong was passing, and it failed: {progress.error} {failed}")
        if progress.state is TransferState.DONE:
            self._check_done()

    def _check_tally(self, progress: Progress) -> None:
        counts = Counter(line.outcome for line in self.lines)
        told = (progress.objects_copied, progress.objects_skipped, progress.objects_failed)
        if told != (counts[Outcome.COPIED], counts[Outcome.SKIPPED], counts[Outcome.FAILED]):
            self.world.violated(f"the counts {told} are not those of the lines {counts}")
        by_store = [line for line in self.lines if line.method is Method.SERVER_SIDE]
        if (progress.objects_server_side, progress.bytes_server_side) != (
            len(by_store),
            sum(line.size for line in by_store),
        ):
            self.world.violated("what the store is said to have copied is not what the lines say")
        if progress.bytes_copied != sum(line.size for line in self.lines if line.outcome is Outcome.COPIED):
            self.world.violated("the bytes copied are not those of the lines")

    def _check_receipt(self, progress: Progress) -> None:
        def get(key: str) -> bytes:
            return self.world.destination.objects[key].data

        try:
            totals, lines = read_receipt(get, STATE)
            read = list(lines)
        except (KeyError, SkyplaneError) as error:
            self.world.violated(f"the receipt cannot be read: {error!r}")
            return
        if sorted(read, key=lambda line: line.key) != sorted(self.lines, key=lambda line: line.key):
            self.world.violated("the receipt's lines are not what happened")
        if totals.state is not progress.state or totals.objects_copied != progress.objects_copied:
            self.world.violated("the receipt's totals are not what happened")

    def _check_uploads(self) -> None:
        """After DONE or CANCELLED no upload of ours is open, but for one that a surviving journal names."""
        uploads, closed, _ = journalled(self.world.destination, STATE)
        for upload_id, upload in self.world.destination.uploads.items():
            if not upload.ours or (upload_id in uploads and upload_id not in closed):
                continue
            recorded = any(upload_id in head.recorded for head in self.world.heads)
            forgotten = upload_id in self.opened and upload_id not in self.abort_failed
            if recorded or forgotten:
                self.world.violated(f"upload {upload_id} of {upload.key} is open and no journal names it")

    def _check_done(self) -> None:
        if any(line.outcome is Outcome.FAILED for line in self.lines) or self.progress is None:
            self.world.violated("it is DONE and something failed")
        elif self.progress.objects_listed != len(self.lines) or not self.progress.listing_done:
            self.world.violated(
                f"{self.progress.objects_listed} objects were listed, {len(self.lines)} have an outcome"
            )
        if not self.last:
            return
        world = self.world
        if sorted(line.key for line in self.lines) != sorted(world.source.objects):
            world.violated("not every object has an outcome")
        for line in self.lines:
            there = world.destination.objects.get(line.destination_key)
            if there is not None and self._nobody_could_know((line.destination_key, there.version)):
                continue
            if there is None or there.data != world.source.objects[line.key].data:
                world.violated(f"it is DONE and the destination does not hold {line.key}")
