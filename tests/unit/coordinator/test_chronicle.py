"""What is noted of a transfer's course stays small, and is true."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.coordinator.chronicle import MAX_REASONS, MAX_SAMPLES, OTHER, Chronicle, Reasons, Samples
from skyplane_core.coordinator.tally import Tally
from skyplane_core.diff import Action, Decision
from skyplane_core.history import Sample, WayUse, rates
from skyplane_core.model import Attestation, ObjectInfo, StoreConfig
from skyplane_core.planner.cost import CostMeter
from skyplane_core.planner.plan import Site, plan
from skyplane_core.spec import (
    Destination,
    KeyMapping,
    MappingKind,
    Outcome,
    ReceiptLine,
    Route,
    Selection,
    TransferOptions,
    TransferSpec,
)
from skyplane_core.stores.base import Capabilities

STEPS = st.lists(st.tuples(st.floats(0, 100), st.integers(0, 10**12)), min_size=1, max_size=600)


@given(STEPS)
def test_samples_are_few_rise_and_end_with_the_end(steps: list[tuple[float, int]]) -> None:
    samples, moment, size = Samples(), 0.0, 0
    for passed, more in steps:
        moment, size = moment + passed, size + more
        samples.take(moment, size, 1)
    kept = samples.until(moment, size, 7)
    assert len(kept) <= MAX_SAMPLES
    assert (kept[-1].seconds, kept[-1].bytes, kept[-1].objects) == (round(moment, 3), size, 7)
    times, sizes = [sample.seconds for sample in kept], [sample.bytes for sample in kept]
    assert times == sorted(times)
    assert sizes == sorted(sizes)
    # Nothing that was moved is missing from the rates, if there was time to move it.
    moved = sum((until - began) * rate for began, until, rate in rates(kept))
    instant = sum(b.bytes - a.bytes for a, b in itertools.pairwise(kept) if a.seconds == b.seconds)
    assert moved == pytest.approx(size - instant)


def test_samples_of_a_long_transfer_are_spread_over_all_of_it() -> None:
    samples = Samples()
    for tick in range(100_000):
        samples.take(tick * 0.2, tick, 0)
    kept = samples.until(20_000.0, 100_000, 0)
    gaps = [after.seconds - before.seconds for before, after in itertools.pairwise(kept[:-1])]
    assert MAX_SAMPLES / 2 <= len(kept) <= MAX_SAMPLES
    # The last doubling leaves wider gaps behind it than before it, and never more than twice as wide.
    assert max(gaps) <= 2.1 * min(gaps)


@given(st.lists(st.tuples(st.sampled_from(["copied", "skipped"]), st.integers(0, 60), st.integers(0, 9)), max_size=300))
def test_reasons_are_few_and_count_everything(objects: list[tuple[str, int, int]]) -> None:
    reasons = Reasons()
    for number, (outcome, why, size) in enumerate(objects):
        reasons.add(outcome, f"reason {why}", size, f"key{number}")
    most = reasons.most()
    assert len(most) <= MAX_REASONS + 2
    assert sum(reason.objects for reason in most) == len(objects)
    assert sum(reason.bytes for reason in most) == sum(size for _, _, size in objects)
    assert [reason.objects for reason in most] == sorted((reason.objects for reason in most), reverse=True)
    assert all(1 <= len(reason.examples) <= 3 for reason in most)
    kinds = {(outcome, why) for outcome, why, _ in objects}
    assert any(reason.reason == OTHER for reason in most) is (len(kinds) > MAX_REASONS)


def test_the_cost_is_that_of_a_dry_run_with_the_same_decisions() -> None:
    source, there = StoreConfig("s3", "src", region="us-east-1"), StoreConfig("gcs", "dst")
    spec = TransferSpec(
        "t",
        source,
        Selection("", tree=True),
        (Destination(there, KeyMapping(MappingKind.PREFIX, "", "")),),
        TransferOptions(),
        ".skyplane/t/",
        0.0,
    )
    found = plan(spec, [Site("g0")])
    limits = Capabilities(Attestation.WHOLE)
    decided = [Decision(Action.COPY, ObjectInfo(f"k{number}", 2**30, "v"), f"k{number}", "new") for number in range(9)]
    meter = CostMeter(spec, found, limits, 2**29)
    for decision in decided:
        meter.add(decision)
    submitted = msgspec.structs.replace(spec, routes=found.routes, gateways=found.gateways)
    chronicle = Chronicle(submitted, found.routes, 0.0)
    assert list(chronicle.metered(decided, limits, 2**29)) == decided
    cost = chronicle.history(1.0, Tally()).cost
    assert cost == meter.cost()
    assert cost is not None
    assert cost.usd_known > 0.5
    # Nothing is known of gateways that no plan named.
    unplanned = Chronicle(spec, found.routes, 0.0)
    assert list(unplanned.metered(decided, limits, 2**29)) == decided
    assert unplanned.history(1.0, Tally()).cost is None


def test_a_history_names_both_ends_its_ways_and_why_but_not_failures() -> None:
    source, there = StoreConfig("s3", "src"), StoreConfig("gcs", "dst")
    routes = (Route("g0", ("g1",), 0, 0.5), Route("g0", ("r", "g1"), 0, 0.5))
    spec = TransferSpec(
        "t",
        source,
        Selection("data/", tree=True),
        (Destination(there, KeyMapping(MappingKind.PREFIX, "data/", "in/")),),
        TransferOptions(),
        "in/.skyplane/t/",
        0.0,
        routes,
    )
    chronicle, tally = Chronicle(spec, routes, 100.0), Tally(copied=1, skipped=1, failed=1, bytes_acked=30)
    tally.carried(0, 10)
    tally.carried(1, 20)
    tally.carried(-1, 5)
    lines = [
        ReceiptLine("data/a", 0, "in/a", 30, "v", Outcome.COPIED, "new"),
        ReceiptLine("data/b", 0, "in/b", 7, "v", Outcome.SKIPPED, "same-version"),
        ReceiptLine("data/c", 0, "in/c", 8, "v", Outcome.FAILED, "no such key: data/c"),
        ReceiptLine("", 0, "in/old", 9, "", Outcome.DELETED, "extraneous"),
    ]
    chronicle.settled(lines)
    chronicle.look(101.0, tally)
    history = chronicle.history(102.5, tally)
    assert (history.source, history.destinations) == ("s3://src/data/", ("gs://dst/in/",))
    assert history.ways == (WayUse(("g0", "g1"), 10), WayUse(("g0", "r", "g1"), 20))
    assert {(found.outcome, found.reason, found.examples) for found in history.reasons} == {
        ("copied", "new", ("data/a",)),
        ("skipped", "same-version", ("data/b",)),
        ("deleted", "extraneous", ("in/old",)),
    }
    assert history.samples == (Sample(0.0, 0, 0), Sample(1.0, 30, 3), Sample(2.5, 30, 3))
