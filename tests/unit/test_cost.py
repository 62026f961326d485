"""Prices as data, and estimates from them."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.diff import Action, Decision
from skyplane_core.model import Attestation, ObjectInfo, Precondition, Role, StoreConfig
from skyplane_core.planner.cost import Cost, CostLine, CostMeter
from skyplane_core.planner.plan import Site, plan
from skyplane_core.planner.prices import UNSTATED, Item, Place, place_of, price_lists, quote
from skyplane_core.spec import (
    Compare,
    Destination,
    KeyMapping,
    MappingKind,
    Selection,
    TransferOptions,
    TransferSpec,
    Verification,
)
from skyplane_core.stores.base import MIB, Capabilities

GIB = 1 << 30
LIMITS = Capabilities(Attestation.WHOLE)
AWS = StoreConfig("s3", "a", region="us-east-1")
AWS_ELSEWHERE = StoreConfig("s3", "a", region="eu-west-1")
GCS = StoreConfig("gcs", "b")
R2 = StoreConfig("s3", "c", endpoint_url="https://x.r2.cloudflarestorage.com", region="auto")
DISK = StoreConfig("local", "/data")
STRANGE = StoreConfig("s3", "d", endpoint_url="https://s3.example.com", region="us-east-1")
LOOPBACK = StoreConfig("s3", "e", endpoint_url="http://127.0.0.1:9000", region="us-east-1")
THIS_MACHINE = [Site("g0")]


def cost(
    source: StoreConfig,
    destination: StoreConfig,
    sizes: list[int],
    *,
    sites: list[Site] | None = None,
    skipped: int = 0,
    compare: Compare = Compare.EXACT,
    verify: Verification = Verification.TRANSFERRED,
) -> Cost:
    mapping = KeyMapping(MappingKind.PREFIX, "p", "q")
    spec = TransferSpec(
        "t",
        source,
        Selection("p", tree=True),
        (Destination(destination, mapping),),
        TransferOptions(compare=compare, verify=verify),
        "q/.skyplane/t/",
        0.0,
    )
    meter = CostMeter(spec, plan(spec, sites or THIS_MACHINE), LIMITS, 512 * MIB)
    for size in sizes:
        meter.add(Decision(Action.COPY, ObjectInfo("p/x", size, "v"), "q/x", "new", Precondition(absent=True)))
    for _ in range(skipped):
        meter.add(Decision(Action.SKIP, ObjectInfo("p/y", 1, "v"), "q/y", "same"))
    return meter.cost()


def lines(found: Cost) -> dict[str, CostLine]:
    return {line.what: line for line in (*found.once, *found.monthly)}


def test_every_price_has_a_tier_a_date_and_the_providers_own_page() -> None:
    own = {
        "aws": ("aws.amazon.com", "amazonaws.com"),
        "gcp": ("cloud.google.com",),
        "azure": ("azure.microsoft.com", "prices.azure.com"),
        "r2": ("developers.cloudflare.com",),
    }
    seen = set()
    for known in price_lists():
        assert known.tier
        assert datetime.date.fromisoformat(known.date) > datetime.date(2022, 1, 1)
        assert known.source.startswith("https://")
        assert known.source.split("/")[2].endswith(own[known.provider])
        assert known.usd
        assert all(0 <= usd < 1 for usd in known.usd.values())
        assert (known.provider, known.item) not in seen
        seen.add((known.provider, known.item))
    for provider in own:
        assert {(provider, item) for item in Item} - {(provider, Item.EGRESS_REGION)} <= seen


def test_an_unknown_price_is_none_and_never_free() -> None:
    assert quote(Place("aws", "mars-1"), Item.STORAGE) is None
    assert quote(Place("nobody", "us-east-1"), Item.READ) is None
    assert quote(Place("gcp", "us-central1"), Item.EGRESS_REGION) is None
    assert quote(Place("gcp", "europe-west1"), Item.STORAGE) is None
    free = quote(Place("r2"), Item.EGRESS_INTERNET)
    assert free is not None
    assert free.usd == 0


@pytest.mark.parametrize(
    ("store", "place"),
    [
        (AWS, Place("aws", "us-east-1")),
        (StoreConfig("s3", "a", endpoint_url="https://s3.eu-west-1.amazonaws.com", region="eu-west-1"),
         Place("aws", "eu-west-1")),
        (GCS, Place("gcp")),
        (StoreConfig("gcs", "a", endpoint_url="https://storage.googleapis.com"), Place("gcp")),
        (R2, Place("r2")),
        (DISK, Place("here")),
        (LOOPBACK, Place("here")),
        (StoreConfig("s3", "a", endpoint_url="http://[::1]:9000"), Place("here")),
        (StoreConfig("s3", "a", endpoint_url="http://localhost:9000"), Place("here")),
        (STRANGE, Place("")),
        (StoreConfig("s3", "a", endpoint_url="https://amazonaws.com.example.org"), Place("")),
        (StoreConfig("hdfs", "a"), Place("")),
    ],
)  # fmt: skip
def test_where_a_store_is(store: StoreConfig, place: Place) -> None:
    assert place_of(store) == place


def test_what_stays_on_the_machine_costs_nothing() -> None:
    found = cost(DISK, LOOPBACK, [GIB, 1000], skipped=3)
    assert (found.usd, found.usd_month, found.unknown) == (0, 0, ())


def test_from_aws_to_gcs_over_gateways_that_are_somewhere_else() -> None:
    found = cost(AWS, GCS, [10 * GIB], skipped=1500)
    by = lines(found)
    assert by["egress from the source"].usd == pytest.approx(0.9)
    assert "less if the gateway is in aws us-east-1" in by["egress from the source"].basis
    # 640 parts of 16 MiB: a GET each and one HEAD; the upload is begun and completed; three objects of our own.
    assert by["read requests at the source"].quantity == 641
    assert by["write requests at the destination"].quantity == 640 + 2 + 3
    assert by["write requests at the destination"].usd == pytest.approx(645 * 0.005 / 1000)
    assert by["list requests at the source"].quantity == by["list requests at the destination"].quantity == 2
    # Those that are there are looked at, and the completed upload.
    assert by["read requests at the destination"].quantity == 1501
    assert by["storage at the destination"].usd == pytest.approx(10 * 0.02)
    assert f"{UNSTATED['gcp']}, assumed" in by["storage at the destination"].basis
    assert found.unknown == ("egress from gateway g0",)
    assert found.usd is None
    assert found.usd_known == pytest.approx(sum(line.usd or 0 for line in found.once))
    assert found.usd_month == pytest.approx(0.2)


def test_a_copy_of_all_looks_at_nothing_at_the_destination() -> None:
    by = lines(cost(AWS, GCS, [5, 6], compare=Compare.ALWAYS))
    assert by["read requests at the source"].quantity == 2
    assert by["write requests at the destination"].quantity == 2 + 3
    assert not {"list requests at the destination", "read requests at the destination"} & set(by)


def test_reading_back_is_charged_too() -> None:
    by = lines(cost(DISK, AWS, [GIB], verify=Verification.FULL))
    # 128 pieces of 8 MiB, and the completed upload.
    assert by["read requests at the destination"].quantity == 129
    assert by["egress from the destination, to read back"].usd == pytest.approx(0.09)
    assert "egress from the destination, to read back" not in lines(cost(DISK, AWS, [GIB]))


def test_gateways_beside_the_stores_are_charged_by_region() -> None:
    sites = [
        Site("r", "ssh", "aws:us-east-1", loopback=False, role=Role.READER),
        Site("w", "ssh", "aws:eu-west-1", loopback=False, role=Role.WRITER),
    ]
    by = lines(cost(AWS, AWS_ELSEWHERE, [GIB], sites=sites))
    assert {what for what in by if what.startswith("egress")} == {"egress from gateway r"}
    assert by["egress from gateway r"].usd == pytest.approx(0.02)


def test_a_gateway_whose_place_is_not_known_has_no_price() -> None:
    sites = [Site("far", "ssh", "somewhere", loopback=False)]
    found = cost(AWS, GCS, [GIB], sites=sites)
    assert found.unknown == ("egress from gateway far",)


def test_one_provider_without_a_region_is_not_taken_for_the_same_region() -> None:
    sites = [Site("g", "ssh", "gcp:us-central1", loopback=False)]
    found = cost(GCS, DISK, [GIB], sites=sites)
    assert "whether both are in the same region" in lines(found)["egress from the source"].basis
    assert found.usd is None


def test_r2_charges_no_egress_and_an_unknown_server_everything_it_likes() -> None:
    assert lines(cost(R2, DISK, [GIB]))["egress from the source"].usd == 0
    found = cost(STRANGE, STRANGE, [GIB])
    assert {"egress from the source", "write requests at the destination", "storage at the destination"} <= {
        *found.unknown
    }


@given(
    st.lists(st.integers(0, 1 << 42), max_size=20), st.integers(0, 20), st.sampled_from([AWS, GCS, R2, STRANGE, DISK])
)
def test_an_estimate_is_never_negative_grows_with_the_work_and_hides_no_unknown(
    sizes: list[int], skipped: int, source: StoreConfig
) -> None:
    found, more = (cost(source, AWS, [*sizes, *extra], skipped=skipped) for extra in ([], [1 << 20]))
    assert all(line.quantity >= 0 and (line.usd is None or line.usd >= 0) for line in (*found.once, *found.monthly))
    assert more.usd_known >= found.usd_known
    assert (found.usd is None) == any(line.usd is None for line in found.once)
    assert set(found.unknown) <= set(more.unknown)
    if source == STRANGE and sum(sizes):
        assert found.usd is None
