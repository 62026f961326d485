"""Committing at a store that attests nothing, where everything depends on what is read back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from gateway import copying as by_store
from gateway.agent_store import CalledStore
from gateway.committer import Committer
from gateway.limits import new_machine
from gateway.store_calls import CopyObject, perform
from gateway.uploads import Uploads
from skyplane_core.checksum import crc32c
from skyplane_core.coordinator.events import Acked, Copy, Event, Finished
from skyplane_core.errors import PermissionDenied, PreconditionFailed
from skyplane_core.model import (
    Attestation,
    LeaseResult,
    ObjectAttributes,
    ObjectInfo,
    PartAck,
    PartFailure,
    PartTarget,
    Precondition,
    Stored,
)
from skyplane_core.spec import SOURCE_VERSION_KEY, Outcome, ReceiptLine, Route
from tests.simulation.stores import ModelStore
from tests.unit.gateway.memory_agent import transfer

OURS = b"our bytes"
KEY = "to/a"
NO_UPLOADS = Uploads(transfer(), CalledStore(print, 1), {}, None)  # type: ignore[arg-type]  # no object is sent anew
NO_COPYING: Any = None
MARKED = ObjectAttributes(metadata={SOURCE_VERSION_KEY: "v1"})


class Copying:
    """One object, leased; ``acked`` and ``met`` say what came of its put."""

    def __init__(
        self,
        store: ModelStore,
        cut: Sequence[tuple[int, int, int]] = ((1, 0, len(OURS)),),
        upload_id: str = "",
        precondition: Precondition = Precondition(),
    ) -> None:
        self.machine = new_machine(transfer(), [Route("r")], 1 << 20)
        self.lines: list[ReceiptLine] = []
        agent = CalledStore(lambda call, _: perform(store, call), 1)  # type: ignore[arg-type]
        self._committer = Committer(self.machine, {0: agent}, self._do, lambda upload_id: None, NO_UPLOADS, NO_COPYING)
        info = ObjectInfo("p/a", len(OURS), "v1")
        self._do(lambda: self.machine.admit(1, info, "new", [PartTarget(0, KEY, upload_id, precondition)], cut))
        lease = self.machine.table.take("r", 0.0)
        assert lease is not None
        self.lease_id = lease.lease_id

    def acked(self, version: str) -> None:
        ack = PartAck(1, 1, 0, len(OURS), crc32c(OURS), stored=Stored(version, len(OURS)))
        self.result(LeaseResult(self.lease_id, "t", (ack,)))

    def met(self) -> None:
        error = PreconditionFailed("an object is there").record()
        self.result(LeaseResult(self.lease_id, "t", failures=(PartFailure(1, 1, 0, error, crc32c(OURS)),)))

    def result(self, result: LeaseResult) -> None:
        self._do(lambda: self.machine.on_result(result, 0.0))

    def _do(self, change: Callable[[], list[Event]]) -> None:
        for event in change():
            if isinstance(event, Finished):
                self.lines.append(event.line)
            elif not isinstance(event, Acked):
                self._committer.perform(event)


def striped(store: ModelStore, late: bytes) -> list[ReceiptLine]:
    """An object of two parts; after both acks ``late`` arrives as part 2, from a sending that was given up."""
    upload_id = store.create_upload(KEY, MARKED)
    copying = Copying(store, [(1, 0, 4), (2, 4, 5)], upload_id)
    acks = []
    for number, data in ((1, OURS[:4]), (2, OURS[4:])):
        part = store.put_part(KEY, upload_id, number, 0, memoryview(data), crc32c=crc32c(data))
        acks.append(PartAck(1, number, 0, len(data), crc32c(data), part))
    store.put_part(KEY, upload_id, 2, 4, memoryview(late), crc32c=crc32c(late))
    copying.result(LeaseResult(copying.lease_id, "t", tuple(acks)))
    return copying.lines


def test_a_part_that_a_late_sending_put_again_under_another_id_is_committed_if_the_store_sums_it_alike() -> None:
    store = ModelStore("d", same_id=False)
    assert [line.outcome for line in striped(store, OURS[4:])] == [Outcome.COPIED]
    assert store.objects[KEY].data == OURS


def test_a_part_that_holds_other_bytes_now_is_not_committed() -> None:
    for store in (ModelStore("d", same_id=False), ModelStore("d", same_id=False, attests=False)):
        assert [line.outcome for line in striped(store, b"bytez")] == [Outcome.FAILED]
        assert KEY not in store.objects
        assert not store.uploads


def outcome(copying: Copying) -> Outcome:
    (line,) = copying.lines
    return line.outcome


def test_an_object_that_reads_back_otherwise_is_deleted_since_a_sync_would_believe_its_metadata() -> None:
    store = ModelStore("d", attests=False)
    copying = Copying(store)
    copying.acked(store.write(KEY, b"our bytez", MARKED).version)
    assert outcome(copying) is Outcome.FAILED
    assert KEY not in store.objects


def test_an_object_that_our_own_late_sending_replaced_is_done_at_that_version() -> None:
    store = ModelStore("d", attests=False)
    copying = Copying(store)
    first, second = store.write(KEY, OURS, MARKED), store.write(KEY, OURS, MARKED)
    copying.acked(first.version)
    (line,) = copying.lines
    assert (line.outcome, line.attestation) == (Outcome.COPIED, Attestation.READ_BACK)
    assert line.destination_version == second.version


def test_an_object_that_somebody_else_replaced_has_failed_and_stays() -> None:
    for theirs in (b"theirs...", b"of another size"):
        store = ModelStore("d", attests=False)
        copying = Copying(store)
        first, _ = store.write(KEY, OURS, MARKED), store.write(KEY, theirs)
        copying.acked(first.version)
        assert outcome(copying) is Outcome.FAILED
        assert store.objects[KEY].data == theirs


def test_what_a_conditional_put_met_is_deleted_if_it_says_that_it_is_ours_and_is_damaged() -> None:
    store = ModelStore("d", attests=False)
    copying = Copying(store)
    store.write(KEY, b"our bytez", MARKED)
    copying.met()
    assert outcome(copying) is Outcome.FAILED
    assert KEY not in store.objects


@pytest.mark.parametrize(("attributes", "goes"), [(MARKED, True), (ObjectAttributes(), False)])
def test_what_a_conditional_completion_met_is_deleted_only_if_it_says_that_it_is_ours_and_is_damaged(
    attributes: ObjectAttributes, goes: bool
) -> None:
    """As a copy by the store may have left it, whose answer was lost."""
    store = ModelStore("d")
    upload_id = store.create_upload(KEY, MARKED)
    copying = Copying(store, [(1, 0, 4), (2, 4, 5)], upload_id, Precondition(absent=True))
    acks = []
    for number, data in ((1, OURS[:4]), (2, OURS[4:])):
        part = store.put_part(KEY, upload_id, number, 0, memoryview(data), crc32c=crc32c(data))
        acks.append(PartAck(1, number, 0, len(data), crc32c(data), part))
    store.write(KEY, b"our bytez", attributes)
    copying.result(LeaseResult(copying.lease_id, "t", tuple(acks)))
    assert outcome(copying) is Outcome.FAILED
    assert (KEY not in store.objects) is goes


@pytest.mark.parametrize(
    ("there", "attributes", "goes"),
    [
        (b"our bytez", MARKED, True),
        (b"our", MARKED, True),
        (OURS, MARKED, False),
        (b"our bytez", ObjectAttributes(), False),
        (None, MARKED, True),
    ],
)
def test_what_a_copy_by_the_store_has_left_is_deleted_if_it_failed_and_is_damaged(
    there: bytes | None, attributes: ObjectAttributes, goes: bool
) -> None:
    store, refusals = ModelStore("d"), []

    def refuse(call: Any, _kind: Any) -> Any:
        if isinstance(call, CopyObject):
            raise PermissionDenied("not any more")
        return perform(store, call)  # type: ignore[arg-type]

    if there is not None:
        store.write(KEY, there, attributes)
    machine: Any = SimpleNamespace(
        tally=SimpleNamespace(server_side_refused=""),
        awaits=lambda _asked: True,
        copy_refused=lambda _asked, why: refusals.append(why) or [],
    )
    info = ObjectInfo("p/a", len(OURS), "v1", crc32c=crc32c(OURS))
    agent = CalledStore(refuse, 1)
    asked = by_store.Copying(transfer(), machine, {0: agent}, lambda change: change() and None, lambda _info: {})
    asked.copy(Copy(1, 0, KEY, info, MARKED, Precondition()))
    assert len(refusals) == 1
    assert (KEY not in store.objects) is goes


def test_what_a_conditional_put_met_stays_if_it_is_somebody_elses() -> None:
    store = ModelStore("d", attests=False)
    copying = Copying(store)
    store.write(KEY, b"theirs...")
    copying.met()
    assert outcome(copying) is Outcome.FAILED
    assert store.objects[KEY].data == b"theirs..."
