"""Each rule is worth what it catches: the coordinator is broken on purpose, and some schedule has to tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gateway.admission import Admission
from gateway.committer import Committer
from gateway.liveness import Liveness
from skyplane_core.coordinator import journal
from skyplane_core.coordinator.journal import Journal, Recovered
from skyplane_core.coordinator.leases import LeaseTable
from skyplane_core.coordinator.machine import TransferMachine
from skyplane_core.coordinator.objects import ObjectState
from skyplane_core.coordinator.receipt import ReceiptWriter
from skyplane_core.coordinator.tally import Tally
from skyplane_core.coordinator.ways import Traffic
from skyplane_core.model import Attestation, Copied, Stored
from tests.simulation.plans import plan
from tests.simulation.stores import ModelStore
from tests.simulation.world import World, virtual_time

ENOUGH = 10_000
"""Seeds within which each defect must show; most do within ten."""

Break = Callable[[pytest.MonkeyPatch], None]


def parts_before_the_upload_is_durable(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Journal, "record", Journal.note)


def leases_never_expire(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LeaseTable, "expire", lambda self, now: [])


def nothing_counts_as_stuck(patch: pytest.MonkeyPatch) -> None:
    leases_never_expire(patch)
    patch.setattr(Liveness, "stuck", lambda self, movement, now, *, completing: False)


def answers_to_an_earlier_head_are_taken(patch: pytest.MonkeyPatch) -> None:
    take = LeaseTable.__init__
    patch.setattr(LeaseTable, "__init__", lambda self, *args, **more: take(self, *args, **{**more, "first_id": 1}))


def the_source_is_not_pinned(patch: pytest.MonkeyPatch) -> None:
    read = ModelStore.read_into

    def current(self: ModelStore, key: str, version: str, offset: int, buffer: memoryview) -> Any:
        there = self.objects.get(key)
        same = there is not None and key.startswith("p/") and len(there.data) >= offset + len(buffer)
        return read(self, key, there.version if there is not None and same else version, offset, buffer)

    patch.setattr(ModelStore, "read_into", current)


def an_upload_of_another_version_is_continued(patch: pytest.MonkeyPatch) -> None:
    continued = Admission._continue

    def careless(self: Admission, number: int, decision: Any, pieces: Any, size: int) -> Any:
        for found in self._recovered.get((decision.source.key, 0), []):
            found.upload = msgspec.structs.replace(found.upload, source_version=decision.source.version)
        return continued(self, number, decision, pieces, size)

    patch.setattr(Admission, "_continue", careless)


def an_object_is_committed_at_its_first_ack(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ObjectState, "complete", lambda self, destination: bool(self.targets[destination].acks))


def whatever_a_conditional_put_meets_is_ours(patch: pytest.MonkeyPatch) -> None:
    def believing(self: Committer, event: Any) -> None:
        store = self._destinations[0]
        attestation = store.capabilities.attestation
        stored = Stored(store.head(event.key).version, event.part.size, event.crc32c, attestation)
        self._do(lambda: self._machine.committed(event.object, 0, stored, event.crc32c))

    patch.setattr(Committer, "_recognise", believing)


def what_is_not_attested_is_done(patch: pytest.MonkeyPatch) -> None:
    committed = TransferMachine.committed

    def believing(self: TransferMachine, number: int, destination: int, stored: Any, crc32c: int) -> Any:
        believed = msgspec.structs.replace(stored, attestation=stored.attestation or Attestation.PER_PART)
        return committed(self, number, destination, believed, crc32c)

    patch.setattr(TransferMachine, "committed", believing)


def read_back_is_not_compared(patch: pytest.MonkeyPatch) -> None:
    verified = TransferMachine.verified

    def believing(
        self: TransferMachine, number: int, destination: int, stored: Any, crc32c: int, _: int, *, key: str
    ) -> Any:
        return verified(self, number, destination, stored, crc32c, crc32c, key=key)

    patch.setattr(TransferMachine, "verified", believing)


def what_the_source_vouches_for_is_not_compared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ObjectState, "difference", lambda self, destination: "")


def damaged_objects_stay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Committer, "_discard", lambda self, event: None)


def uploads_are_not_aborted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Committer, "_abort", lambda self, event: self._closed(event.upload_id))


def unused_uploads_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Admission, "unused", lambda self: iter(()))


def acked_parts_are_sent_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ObjectState, "wants", lambda self, part: True)


def journalled_acks_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    replay = journal.replay

    def forgetful(records: Any) -> Any:
        found = replay(records)
        return {key: [Recovered(one.upload, {}) for one in uploads] for key, uploads in found.items()}

    patch.setattr("gateway.records.replay", forgetful)


def the_journal_goes_although_it_failed(patch: pytest.MonkeyPatch) -> None:
    close = Journal.close
    patch.setattr(Journal, "close", lambda self, *, discard: close(self, discard=True))


def the_journal_goes_although_an_upload_is_open(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Committer, "left_open", property(lambda self: False, lambda self, value: None), raising=False)


def receipts_of_two_heads_share_their_keys(patch: pytest.MonkeyPatch) -> None:
    build = ReceiptWriter.__init__
    patch.setattr(ReceiptWriter, "__init__", lambda self, put, state, _: build(self, put, state, "one"))


def a_failure_is_not_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tally, "fail", lambda self, key, reason: None)


def a_reader_gets_all_that_it_asks_for(patch: pytest.MonkeyPatch) -> None:
    build = LeaseTable.__init__
    more = {"max_leases": 99, "max_bytes": 10**9}
    patch.setattr(LeaseTable, "__init__", lambda self, *args, **kw: build(self, *args, **{**kw, **more}))


def lost_gateways_are_used(patch: pytest.MonkeyPatch) -> None:
    lose = LeaseTable.lose

    def careless(self: LeaseTable, gateway: str, now: float, why: str = "") -> Any:
        voided = lose(self, gateway, now, why)
        self._lost.clear()
        self.found(gateway, now)
        return voided

    patch.setattr(LeaseTable, "lose", careless)


def leases_over_a_lost_gateway_stay_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LeaseTable, "lose", lambda self, gateway, now, why="": self._lost.add(gateway) or [])


def gateways_that_are_back_stay_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LeaseTable, "found", lambda self, gateway, now: None)


def a_way_that_failed_rests_for_ever(patch: pytest.MonkeyPatch) -> None:
    failed = Traffic.failed

    def buried(self: Traffic, now: float, why: str) -> None:
        failed(self, now, why)
        self._rest_until = float("inf")

    patch.setattr(Traffic, "failed", buried)


def what_the_store_copied_is_not_compared(patch: pytest.MonkeyPatch) -> None:
    copied = TransferMachine.copied

    def believing(self: TransferMachine, asked: Any, word: Any) -> Any:
        believed = msgspec.structs.replace(word.stored, crc32c=asked.info.crc32c)
        return copied(self, asked, Copied(believed, asked.info.crc64nvme))

    patch.setattr(TransferMachine, "copied", believing)


def what_the_store_refuses_to_copy_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    def forgetful(self: TransferMachine, asked: Any, why: str) -> list[Any]:
        del asked, why
        self._copying -= 1
        return []

    patch.setattr(TransferMachine, "copy_refused", forgetful)


def whatever_a_conditional_copy_meets_is_ours(patch: pytest.MonkeyPatch) -> None:
    def believing(store: Any, event: Any, refused: Any) -> Copied:
        del refused
        attestation = store.capabilities.attestation
        stored = Stored(store.head(event.key).version, event.info.size, event.info.crc32c, attestation)
        return Copied(stored, event.info.crc64nvme)

    patch.setattr("gateway.copying._found", believing)


DEFECTS = [
    what_the_store_copied_is_not_compared,
    what_the_store_refuses_to_copy_is_forgotten,
    whatever_a_conditional_copy_meets_is_ours,
    parts_before_the_upload_is_durable,
    leases_never_expire,
    nothing_counts_as_stuck,
    answers_to_an_earlier_head_are_taken,
    the_source_is_not_pinned,
    an_upload_of_another_version_is_continued,
    an_object_is_committed_at_its_first_ack,
    whatever_a_conditional_put_meets_is_ours,
    what_is_not_attested_is_done,
    read_back_is_not_compared,
    what_the_source_vouches_for_is_not_compared,
    damaged_objects_stay,
    uploads_are_not_aborted,
    unused_uploads_are_forgotten,
    acked_parts_are_sent_again,
    journalled_acks_are_forgotten,
    the_journal_goes_although_it_failed,
    the_journal_goes_although_an_upload_is_open,
    receipts_of_two_heads_share_their_keys,
    a_failure_is_not_counted,
    a_reader_gets_all_that_it_asks_for,
    lost_gateways_are_used,
    leases_over_a_lost_gateway_stay_out,
    gateways_that_are_back_stay_lost,
    a_way_that_failed_rests_for_ever,
]


LIKELY: dict[Break, dict[str, Any]] = {
    the_journal_goes_although_an_upload_is_open: {"sizes": (64, 50, 35), "refuse": 0.5, "cancels": 2, "patient": False},
    an_upload_of_another_version_is_continued: {
        "sizes": (64, 50, 35),
        "source_changes": 3,
        "head_crashes": 3,
        "patient": False,
    },
}
"""What makes those likely that one schedule in thousands shows."""


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_defect_shows(defect: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    defect(monkeypatch)
    for seed in range(ENOUGH):
        with virtual_time():
            found = World(plan(seed, **LIKELY.get(defect, {}))).run().violations
        if found:
            print(seed, found)  # noqa: T201 - shown with -s: which rule caught it, and how soon
            return
    pytest.fail(f"no schedule of {ENOUGH} noticed that {defect.__name__.replace('_', ' ')}")
