"""A client that does nothing but remember, for the command line to call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skyplane_core.cli.context import Context
from skyplane_core.cli.program import run
from skyplane_core.diff import Decision
from skyplane_core.dry_run import DryRun
from skyplane_core.model import Attestation, ObjectInfo
from skyplane_core.planner.cost import CostMeter
from skyplane_core.planner.plan import Plan, Site, plan
from skyplane_core.prepare import Prepared, prepare
from skyplane_core.provision.base import DataplaneReference, GatewayAddress
from skyplane_core.spec import Outcome, Progress, ReceiptLine, TransferState
from skyplane_core.stores.base import Capabilities
from skyplane_core.tracker import Result

Captured = pytest.CaptureFixture[str]
Step = Progress | BaseException
"""What a tracker reports next, or what happens instead."""


def reference(name: str) -> DataplaneReference:
    return DataplaneReference(name, "local", (GatewayAddress("g1", "127.0.0.1", 1, 2),), "00")


@dataclasses.dataclass
class FakeClient:
    """``events`` is what was done, in order."""

    steps: list[Step] = dataclasses.field(default_factory=list)
    decisions: list[Decision] = dataclasses.field(default_factory=list)
    stopped: list[str] = dataclasses.field(default_factory=list)
    lines: list[ReceiptLine] | Exception = dataclasses.field(default_factory=list)
    provisions: BaseException | None = None
    deprovisions: BaseException | None = None
    alive: bool = True
    gateways: int = 0
    layout: str = ""
    via: str = ""
    events: list[str] = dataclasses.field(default_factory=list)
    prepared: list[Prepared] = dataclasses.field(default_factory=list)

    def prepare(self, source: Any, destination: Any, *, mode: str, recursive: bool, **how: Any) -> Prepared:
        self.prepared.append(prepare(source, destination, recursive=recursive or mode == "sync", **how))
        return self.prepared[-1]

    def dry_run(self, prepared: Prepared) -> tuple[Plan, DryRun]:
        return self.dataplane().plan(prepared), DryRun(prepared.spec, iter(self.decisions), self.stopped)

    def cost_meter(self, prepared: Prepared) -> CostMeter:
        plan = self.dataplane().plan(prepared)
        return CostMeter(prepared.spec, plan, Capabilities(Attestation.READ_BACK), prepared.pool_bytes)

    def dataplane(self) -> FakeDataplane:
        return FakeDataplane(self, reference("dp-new"))

    def attach(self, found: DataplaneReference) -> FakeDataplane:
        return FakeDataplane(self, found)


@dataclasses.dataclass
class FakeDataplane:
    client: FakeClient
    reference: DataplaneReference
    notes: tuple[str, ...] = ()

    def plan(self, prepared: Prepared) -> Plan:
        return plan(prepared.spec, [Site(f"g{number}") for number in range(self.client.gateways)])

    def provision(self) -> None:
        self.client.events.append("provision")
        if self.client.provisions is not None:
            raise self.client.provisions

    def deprovision(self) -> None:
        self.client.events.append(f"deprovision {self.reference.dataplane_id}")
        if self.client.deprovisions is not None:
            raise self.client.deprovisions

    def alive(self) -> bool:
        return self.client.alive

    def submit(self, prepared: Prepared) -> FakeTracker:
        self.client.events.append("submit")
        return FakeTracker(self.client, prepared.spec.transfer_id)


@dataclasses.dataclass
class FakeTracker:
    client: FakeClient
    transfer_id: str

    def cancel(self) -> None:
        self.client.events.append("cancel")

    def wait(self, on_progress: Callable[[Progress], None], timeout: float | None = None) -> Result:
        del timeout
        while True:
            step = self.client.steps.pop(0)
            if isinstance(step, BaseException):
                raise step
            on_progress(step)
            if step.state.ended:
                return Result(step, step.receipt, self._lines)

    def _lines(self) -> Iterator[ReceiptLine]:
        if isinstance(self.client.lines, Exception):
            raise self.client.lines
        return iter(self.client.lines)


LINE = ReceiptLine("a", 0, "in/a", 1, "v", Outcome.COPIED, "new")
NEW = ObjectInfo("a", 1, "v")
RUNNING = Progress("t", TransferState.RUNNING, objects_selected=1)
DONE = Progress("t", TransferState.DONE, objects_selected=1, objects_copied=1, listing_done=True)
CANCELLED = Progress("t", TransferState.CANCELLED, objects_selected=1)
FAILED = Progress("t", TransferState.FAILED, objects_selected=1, objects_failed=1, failures=(("a", "no"),))


@dataclasses.dataclass
class Shell:
    """Runs commands with a fake client, in a directory of their own with a directory ``src`` and a file ``file``."""

    client: FakeClient
    checked: list[Prepared]
    home: Path

    def __call__(self, *argv: str) -> int:
        def make_client(gateways: int, hosts: tuple[Any, ...], layout: str, via: str) -> Any:
            self.client.gateways, self.client.layout, self.client.via = len(hosts) or gateways, layout, via
            return self.client

        return run(list(argv), Context(make_client))
