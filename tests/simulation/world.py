"""One schedule: the real coordinator on model stores, a model wire and a virtual clock, with whatever goes wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import gateway.admission
import gateway.agent_store
import gateway.head
import gateway.limits
import gateway.records
from gateway.agent_store import CalledStore
from gateway.head import TransferRun
from gateway.store_calls import (
    AbortUpload,
    CreateUpload,
    Delete,
    Head,
    ListPage,
    PutBytes,
    ReadBack,
    StoreCall,
    perform,
)
from skyplane_core import read_ahead
from skyplane_core.coordinator import decide, journal, queues, receipt
from skyplane_core.coordinator.journal import UploadRecord, decode
from skyplane_core.errors import PermissionDenied, SkyplaneError, StoreUnavailable, Throttled
from skyplane_core.model import Lease, LeaseResult, ObjectAttributes, StoreConfig
from skyplane_core.spec import (
    Compare,
    Destination,
    KeyMapping,
    MappingKind,
    Progress,
    Selection,
    TransferOptions,
    TransferSpec,
    TransferState,
)
from skyplane_core.stores.base import ObjectStore
from skyplane_core.stores.paging import Page
from tests.simulation import kernel as virtual
from tests.simulation.gateways import Gateways
from tests.simulation.invariants import Incarnation
from tests.simulation.kernel import Future, Kernel, Process
from tests.simulation.plans import PART_SIZE, Plan
from tests.simulation.stores import Held, ModelStore

STATE = "to/.skyplane/t/"
CHAOS_SECONDS = 300.0
"""Until then things go wrong; afterwards every call and message arrives."""
LEASE_SECONDS = 60.0
BOUND_SECONDS = 20_000.0
"""An incarnation that is left alone ends within this, or it hangs."""


@contextmanager
def virtual_time() -> Iterator[None]:
    """The coordinator's modules on the virtual clock and its tasks, with limits small enough to be reached."""
    replaced: list[tuple[Any, dict[str, Any]]] = [
        (gateway.head, {"threading": virtual.threading, "time": virtual.time, "ROOM_PARTS": 6, "REPORT_SECONDS": 1.0}),
        (gateway.head, {"ThreadPoolExecutor": virtual.ThreadPoolExecutor}),
        (gateway.admission, {"threading": virtual.threading, "OPENING_AT_ONCE": 2}),
        (gateway.admission, {"ThreadPoolExecutor": virtual.ThreadPoolExecutor}),
        (gateway.records, {"time": virtual.time, "ThreadPoolExecutor": virtual.ThreadPoolExecutor}),
        (gateway.agent_store, {"time": virtual.time, "random": virtual.seeded, "PAGE": 3}),
        (gateway.limits, {"random": virtual.seeded, "LEASE_SECONDS": LEASE_SECONDS, "MOST": 1}),
        (journal, {"threading": virtual.threading, "Future": virtual.Future}),
        (journal, {"ThreadPoolExecutor": virtual.ThreadPoolExecutor}),
        (gateway.admission, {"SKIPPED_AT_ONCE": 2}),
        (read_ahead, {"threading": virtual.threading, "ThreadPoolExecutor": virtual.ThreadPoolExecutor}),
        (read_ahead, {"AT_ONCE": 3, "EACH": 1}),
        (receipt, {"threading": virtual.threading, "SEGMENT_LINES": 3, "LINES_AT_ONCE": 2}),
        (decide, {"ThreadPoolExecutor": virtual.ThreadPoolExecutor, "LOOKUPS": 2}),
        (queues, {"SMALL_PART": PART_SIZE, "MAX_BATCH": 3}),
    ]
    patches = [mock.patch.multiple(module, **names) for module, names in replaced]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in reversed(patches):
            patch.stop()


def _no_receipt() -> ObjectStore:
    raise AssertionError("no receipt was asked for")


class World:
    """Runs one schedule to its end. ``violations`` says what of it must never have happened.

    A transfer that is not DONE is started again under its id, as a client does. The last start is in a world in
    which nothing goes wrong any more: that one has to bring everything over.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.kernel = Kernel(plan.seed, plan.preempt)
        self.violations: list[str] = []
        self.moved = 0
        self.calm = False
        self.ended: list[Progress] = []
        self.heads: list[Incarnation] = []
        self.late: set[str] = set()
        """Keys at which something that a dead head had asked for happened afterwards."""
        self.theirs: set[tuple[str, str]] = set()
        self.seen: set[tuple[str, str]] = set()
        """What somebody else wrote to the destination, and what a head was shown of it."""
        self.forgotten: set[tuple[str, int]] = set()
        self.read_back: set[tuple[str, str]] = set()
        self.delete_failed: set[str] = set()
        self.durable_uploads: set[str] = set()
        self._restarting = False
        self.source = ModelStore(
            "s",
            attests=plan.source_attests,
            versioned=plan.source_versioned,
            attributes_listed=plan.attributes_listed,
            wide=plan.source_wide,
        )
        self.destination = ModelStore("d", attests=plan.attests, same_id=plan.same_id, max_copy=plan.max_copy)
        self.destination.beside, self.destination.copying = self.source, self._copying
        self.destination.replacing = self._check_replaced
        names = sorted({name for route in plan.routes for name in (route.reader, *route.path)})
        self.gateways = Gateways(self, names)
        self._furnish()

    def violated(self, what: str) -> None:
        """Something that must not be was seen."""
        self.kernel.log(f"VIOLATION {what}")
        self.violations.append(what)

    def run(self) -> World:
        """From the first start to the last end."""
        Kernel.current = self.kernel
        self._disturb()
        self._start()
        self.kernel.run(lambda: bool(self.violations), CHAOS_SECONDS)
        self.calm = True
        if not self.kernel.run(self._settled, BOUND_SECONDS):
            self.violated(f"hang: {self._standing()}")
        if not self.violations and not self._all_there():
            # What earlier gateways still do is over before the last one starts.
            self.kernel.run(lambda: False, 500.0)
            self.gateways_back()
            for _ in range(2 if self.plan.corrupt and not self.plan.attests else 1):
                # Twice where an upload that is continued may hold parts that were damaged unseen: what they become is
                # read back, deleted, and to be sent by the run after that.
                if not self.violations and not self._all_there():
                    self._start(last=True)
                    if not self.kernel.run(self._settled, BOUND_SECONDS):
                        self.violated(f"hang: {self._standing()}")
            if not self.violations and not self._all_there():
                self.violated(f"left alone, it did not bring everything over: {self.ended[-1]}")
        if not self.violations:
            self._check_foreign()
        for process in [*self.gateways.processes.values(), *(head.process for head in self.heads)]:
            self.kernel.kill(process)
        return self

    @property
    def digest(self) -> str:
        """Equal for equal schedules."""
        return hashlib.sha256("\n".join(self.kernel.trace).encode()).hexdigest()

    # --- the wire ----------------------------------------------------------------------------------------------------

    def chance(self, rate: float) -> bool:
        return not self.calm and rate > 0 and self.kernel.rng.random() < rate

    def delay(self) -> float:
        """Seconds that one way takes: little, and now and then so much that whoever waits gives up before."""
        rng = self.kernel.rng
        return rng.uniform(10.0, 130.0) if self.chance(self.plan.slow) else rng.uniform(0.0, 0.5)

    def send(self, what: str, arrive: Callable[[], None]) -> None:
        """A message: it may get lost, come twice, or overtake others."""
        if self.chance(self.plan.drop):
            self.kernel.log(f"{what} lost")
            return
        self.kernel.at(self.delay(), arrive)
        if self.chance(self.plan.repeat):
            self.kernel.log(f"{what} comes twice")
            self.kernel.at(self.delay(), arrive)

    def ask(self, process: Process, what: str, act: Callable[[], Any]) -> Any:
        """A store call: asked, done, answered. It is done although whoever asked died meanwhile."""
        future = Future()
        fate = self._fate()

        def settle(value: Any, error: BaseException | None) -> None:
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)

        def happen() -> None:
            error: BaseException | None = fate if isinstance(fate, SkyplaneError) else None
            value = None
            if error is None:
                try:
                    value = act()
                except SkyplaneError as refusal:
                    error = refusal
                self.kernel.log(f"{process.name} {what} {type(error).__name__ if error else 'done'}")
            if fate == "lost":
                error = StoreUnavailable("no answer came", where=what)
            self.kernel.at(20.0 if fate == "lost" else self.delay(), lambda: settle(value, error))

        self.kernel.at(self.delay(), happen)
        return future.result()

    def damaged(self, data: bytes) -> bytes:
        """What arrives at the store instead of ``data``."""
        if data and self.chance(self.plan.corrupt):
            self.kernel.log("a byte is damaged on its way to the store")
            return bytes([data[0] ^ 1]) + data[1:]
        return data

    def _copying(self, data: bytes) -> bytes:
        """What the store writes when it copies ``data`` by itself."""
        if self.chance(self.plan.copy_refused):
            self.kernel.log("the store refuses to copy")
            raise PermissionDenied("the store refuses to copy")
        return self.damaged(data)

    def misread(self, data: bytearray) -> None:
        """Damage what came from the source, where the source lets that be found."""
        if data and self.plan.source_attests and self.chance(self.plan.misread):
            self.kernel.log("a byte is damaged on its way from the source")
            data[-1] ^= 1

    def _fate(self) -> SkyplaneError | str | None:
        if self.chance(self.plan.refuse):
            return StoreUnavailable("the store is down")
        if self.chance(self.plan.throttle):
            return Throttled("slow down", retry_after=self.kernel.rng.choice((None, 3.0)))
        return "lost" if self.chance(self.plan.lose) else None

    # --- the head ----------------------------------------------------------------------------------------------------

    @property
    def head(self) -> Incarnation:
        return self.heads[-1]

    def deliver(self, result: LeaseResult) -> None:
        """A result reaches whoever is the head now: perhaps not the one that had given the lease out."""
        head = self.head
        if not head.process.dead and head.run is not None:
            run = head.run
            self.kernel.log(f"result of lease {result.lease_id}: {len(result.acks)} acks")

            def receive() -> None:
                run.deliver(result)
                if result.lease_id in head.readers:
                    head.acked |= {(ack.object, ack.part) for ack in result.acks}

            self.kernel.spawn(head.process, receive)

    def _start(self, *, last: bool = False) -> None:
        head = Incarnation(self, len(self.heads) + 1, last=last)
        self.heads.append(head)
        self.kernel.log(f"head {head.number} starts")

        def boot() -> None:
            head.run = TransferRun(
                self.spec(last=last),
                self.plan.routes,
                CalledStore(lambda call, _: self._call(head, self.source, call), self._attempts(last=last)),
                {0: CalledStore(lambda call, _: self._call(head, self.destination, call), self._attempts(last=last))},
                pool_bytes=self.plan.pool_bytes,
                execute=lambda reader, lease: self._execute(head, reader, lease),
                report=lambda progress: self._report(head, progress),
                renew=lambda: None,
                pulse=lambda: self.moved,
                receipt=_no_receipt,
            )
            head.watch()
            head.run.start()
            head.look()

        self.kernel.spawn(head.process, boot)

    def _call(self, head: Incarnation, store: ModelStore, call: StoreCall) -> Any:
        name = type(call).__name__

        def act() -> Any:
            if head.process.dead:
                self.late.add(getattr(call, "key", ""))
            done = perform(store, call)  # type: ignore[arg-type]  # the model has all that perform asks for
            if store is self.destination and isinstance(call, ListPage | Head):
                found = done.objects if isinstance(done, Page) else [done]
                self.seen |= {(info.key, info.version) for info in found}
            if isinstance(call, PutBytes) and "/journal-" in call.key:
                self.durable_uploads |= {r.upload_id for r in decode(call.data) if isinstance(r, UploadRecord)}
            return done

        try:
            value = self.ask(head.process, name, act)
        except SkyplaneError:
            if isinstance(call, AbortUpload):
                head.abort_failed.add(call.upload_id)
            elif isinstance(call, Delete):
                self.delete_failed.add(call.key)
            raise
        if isinstance(call, ReadBack):
            self.read_back.add((call.key, call.version))
        if isinstance(call, CreateUpload):
            head.opened.add(value)
        return value

    def notice(self, gateway: str) -> None:
        """The head finds out, somewhat later, whether a gateway is there: it watches them all."""
        head = self.head
        self.kernel.log(f"head {head.number} looks for {gateway}")
        if not head.process.dead and head.run is not None:
            self.kernel.spawn(head.process, head.look)

    def _execute(self, head: Incarnation, reader: str, lease: Lease) -> None:
        self.kernel.log(f"lease {lease.lease_id} to {reader}: {[(part.key, part.part) for part in lease.parts]}")
        head.sent(lease)
        self.send("lease", lambda: self.gateways.receive(reader, lease))

    def _report(self, head: Incarnation, progress: Progress) -> None:
        if not progress.state.ended:
            return
        self.kernel.log(f"head {head.number} ended {progress.state.value} {progress.error}")
        head.end(progress)
        self.ended.append(progress)
        if not self.calm and progress.state is not TransferState.DONE:
            self._again()

    def _again(self) -> None:
        if self._restarting:
            return
        self._restarting = True

        def start() -> None:
            self._restarting = False
            self._start()

        self.kernel.at(self.kernel.rng.uniform(0.0, 30.0), start)

    def _attempts(self, *, last: bool) -> int:
        return 100 if self.plan.patient or last else 4

    def spec(self, *, last: bool = False) -> TransferSpec:
        """The transfer. Its last start has the patience that is due where nothing goes wrong."""
        options = TransferOptions(
            compare=Compare.EXACT if self.plan.exact else Compare.ALWAYS,
            part_size=PART_SIZE,
            multipart_threshold=2 * PART_SIZE,
            concurrency=self.plan.concurrency,
            record_source=self.plan.record_source,
            progress_timeout=5000.0 if self.plan.patient or last else 150.0,
            max_attempts=self._attempts(last=last),
        )
        to = Destination(StoreConfig("s3", "there"), KeyMapping(MappingKind.PREFIX, "p/", "to/"))
        return TransferSpec("t", StoreConfig("s3", "here"), Selection("p/", tree=True), (to,), options, STATE, 0.0)

    # --- what happens ------------------------------------------------------------------------------------------------

    def _furnish(self) -> None:
        rng = self.kernel.rng
        for number, size in enumerate(self.plan.sizes):
            self.source.write(f"p/{number}", rng.randbytes(size), ObjectAttributes(content_type="text/plain"))
        for number in range(min(self.plan.already_there, len(self.plan.sizes))):
            same = rng.random() < 0.5
            data = self.source.objects[f"p/{number}"].data if same else rng.randbytes(12)
            self.destination.write(f"to/{number}", data)
        self._foreign = self.destination.create_upload("to/0", ObjectAttributes(), ours=False)
        self.destination.put_part("to/0", self._foreign, 1, 0, memoryview(b"theirs"), crc32c=virtual_crc(b"theirs"))

    def _disturb(self) -> None:
        rng, plan = self.kernel.rng, self.plan
        names = list(self.gateways.processes)
        # Most of it while things move: a transfer of these sizes is over within seconds if nothing holds it up.
        troubles: list[tuple[int, Callable[[], None]]] = [
            (plan.gateway_crashes, lambda: self.gateways.crash(rng.choice(names), rng.uniform(0.0, 40.0))),
            (plan.head_crashes, self._crash_head),
            (plan.cancels, self._cancel),
            (plan.source_changes, self._change_source),
            (plan.foreign_writes, self._write_foreign),
            (plan.clock_jumps, self._jump),
            (plan.recalls, self._recall),
        ]
        for count, trouble in troubles:
            for _ in range(count):
                when = rng.expovariate(1 / 8.0) if rng.random() < 0.8 else rng.uniform(0.0, CHAOS_SECONDS)
                self.kernel.at(min(when, CHAOS_SECONDS), trouble)

    def _crash_head(self) -> None:
        if self.head.progress is None and not self.head.process.dead:
            self.kernel.log(f"crash of head {self.head.number}")
            self.kernel.kill(self.head.process)
            ours = [name for name, upload in self.destination.uploads.items() if upload.ours and upload.parts]
            if self.plan.forgetful and ours:
                # As a disk does in a power cut.
                upload_id = self.kernel.rng.choice(ours)
                parts = self.destination.uploads[upload_id].parts
                number = self.kernel.rng.choice(sorted(parts))
                del parts[number]
                self.forgotten.add((upload_id, number))
            self._again()

    def _cancel(self) -> None:
        run, process = self.head.run, self.head.process
        if run is not None and not process.dead:
            self.kernel.log("cancel")
            self.head.cancelled = True
            self.kernel.spawn(process, run.cancel)

    def _recall(self) -> None:
        """Somebody who cannot reach the head leaves word for it, which an earlier or a later one must not heed."""
        if self.head.run is not None and self.head.progress is None and not self.head.process.dead:
            hand_over = self.kernel.rng.random() < 0.5
            self.kernel.log(f"recall, hand over: {hand_over}")
            self.head.cancelled |= not hand_over
            self.head.taken_over |= hand_over
            journal.recall(self.destination.write, STATE, f"{self.kernel.now}", hand_over=hand_over)

    def _change_source(self) -> None:
        rng = self.kernel.rng
        key = f"p/{rng.randrange(len(self.plan.sizes))}"
        self.kernel.log(f"{key} changes")
        if key in self.source.objects and rng.random() < 0.3:
            self.source.delete(key)
        else:
            size = rng.choice((len(self.source.objects[key].data) if key in self.source.objects else 5, 15, 33))
            self.source.write(key, rng.randbytes(size), ObjectAttributes(content_type="text/plain"))

    def _write_foreign(self) -> None:
        key = f"to/{self.kernel.rng.randrange(len(self.plan.sizes))}"
        self.kernel.log(f"somebody else writes {key}")
        source = self.source.objects.get(key.replace("to/", "p/"))
        size = self.kernel.rng.choice((7, len(source.data) if source is not None else 7))
        self.theirs.add((key, self.destination.write(key, self.kernel.rng.randbytes(size)).version))

    def _jump(self) -> None:
        rng = self.kernel.rng
        self.kernel.wall_offset += rng.uniform(-4000.0, 4000.0)
        if rng.random() < 0.5:
            self.kernel.monotonic_offset += rng.choice((1.0, LEASE_SECONDS, 200.0))
        self.kernel.log("the clock jumps")

    def gateways_back(self) -> None:
        """Whoever was down is up again."""
        for name, process in self.gateways.processes.items():
            if process.dead:
                self.gateways.back(name)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _settled(self) -> bool:
        return bool(self.violations) or (not self._restarting and self.head.progress is not None)

    def _all_there(self) -> bool:
        return self.head.progress is not None and self.head.progress.state is TransferState.DONE

    def _standing(self) -> str:
        run = self.head.run
        if run is None:
            return "it never began"
        return f"{run._machine.tally}, in flight {run._machine.in_flight_keys()}, committing {run._committing}"

    def _check_replaced(self, key: str, there: Held | None) -> None:
        """Whoever compares first replaces only what it has compared with."""
        if self.plan.exact and there is not None and (key, there.version) in self.theirs - self.seen:
            self.violated(f"what somebody else wrote to {key} was replaced unseen")

    def _check_foreign(self) -> None:
        theirs = self.destination.uploads.get(self._foreign)
        if theirs is None or set(theirs.parts) != {1} or theirs.parts[1].data != b"theirs":
            self.violated("somebody else's upload was touched")


def virtual_crc(data: bytes) -> int:
    from skyplane_core.checksum import crc32c

    return crc32c(data)
