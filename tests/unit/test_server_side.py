"""When a store is asked to copy by itself, and what that costs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.diff import Action, Decision
from skyplane_core.errors import UsageError
from skyplane_core.model import Attestation, ObjectInfo, Precondition, StoreConfig
from skyplane_core.planner.cost import Cost, CostMeter
from skyplane_core.planner.plan import Plan, Site, plan
from skyplane_core.server_side import copies, one_service, takes_parts, wanted
from skyplane_core.settings import checked_options
from skyplane_core.spec import (
    Compare,
    Destination,
    KeyMapping,
    MappingKind,
    Selection,
    ServerSideCopy,
    TransferOptions,
    TransferSpec,
    Verification,
)
from skyplane_core.stores.base import MIB, Capabilities
from skyplane_core.stores.gcs import CAPABILITIES as GCS_LIMITS
from skyplane_core.stores.s3_servers import AWS, MOTO, R2, SWIFT, UNKNOWN

GIB = 1 << 30
HERE = StoreConfig("s3", "a", region="us-east-1")
FAR = StoreConfig("s3", "b", region="eu-west-1")
GCS = StoreConfig("gcs", "b")
OWN = StoreConfig("s3", "c", endpoint_url="https://s3.example.com")


def spec(source: StoreConfig, destination: StoreConfig, **options: object) -> TransferSpec:
    mapping = KeyMapping(MappingKind.PREFIX, "p", "q")
    chosen = msgspec.structs.replace(TransferOptions(compare=Compare.EXACT), **options)
    return TransferSpec(
        "t", source, Selection("p", tree=True), (Destination(destination, mapping),), chosen, "q/.skyplane/t/", 0.0
    )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (HERE, FAR, True),
        (GCS, StoreConfig("gcs", "else", project="p"), True),
        (OWN, StoreConfig("s3", "d", endpoint_url="https://s3.example.com/"), True),
        (HERE, GCS, False),
        (HERE, OWN, False),
        (StoreConfig("s3", "r", endpoint_url="https://x", service="r2"), StoreConfig("s3", "r", "https://x"), False),
        (StoreConfig("local", "/a"), StoreConfig("local", "/b"), False),
        (StoreConfig("azure", "a/b"), StoreConfig("azure", "a/c"), False),
    ],
)
def test_both_ends_must_be_of_one_service(one: StoreConfig, other: StoreConfig, same: bool) -> None:
    assert one_service(one, other) is one_service(other, one) is same
    assert wanted(spec(one, other)) is same
    assert not wanted(spec(one, other, server_side_copy=ServerSideCopy.NEVER))


def test_servers_that_nobody_has_seen_copy_are_not_asked() -> None:
    assert [server.capabilities.max_copy for server in (UNKNOWN, R2, SWIFT)] == [0, 0, 0]
    assert [server.capabilities.max_copy for server in (AWS, MOTO)] == [5 * GIB, 5 * GIB]


@pytest.mark.parametrize(
    ("size", "sums", "limits", "verify", "expected"),
    [
        (1, {"crc32c": 1}, AWS.capabilities, "transferred", True),
        (1, {"crc64nvme": 1}, AWS.capabilities, "transferred", True),
        (1, {"other_checksum": "CRC32:x"}, AWS.capabilities, "transferred", True),
        (1, {"other_checksum": "CRC32:x"}, AWS.capabilities, "full", False),
        (1, {"other_checksum": "CRC32:x"}, MOTO.capabilities, "transferred", False),
        (5 * GIB + 1, {"other_checksum": "CRC32:x"}, AWS.capabilities, "transferred", False),
        (1, {}, AWS.capabilities, "transferred", False),
        (1, {}, AWS.capabilities, "none", True),
        (1, {"crc64nvme": 1}, AWS.capabilities, "full", False),
        (1, {"crc32c": 1}, AWS.capabilities, "full", True),
        (5 * GIB, {"crc64nvme": 1}, AWS.capabilities, "transferred", True),
        (5 * GIB + 1, {"crc64nvme": 1}, AWS.capabilities, "transferred", False),
        (5 * GIB + 1, {"crc32c": 1}, AWS.capabilities, "transferred", True),
        (5 * GIB + 1, {}, AWS.capabilities, "none", True),
        (100 * GIB, {"crc32c": 1}, GCS_LIMITS, "full", True),
        (1, {"crc64nvme": 1}, MOTO.capabilities, "transferred", False),
        (1, {"crc32c": 1}, MOTO.capabilities, "transferred", True),
        (5 * GIB + 1, {"crc32c": 1}, MOTO.capabilities, "none", False),
        (1, {"crc32c": 1}, UNKNOWN.capabilities, "none", False),
    ],
)
def test_a_copy_has_to_be_one_that_can_be_compared(
    size: int,
    sums: dict[str, Any],
    limits: Capabilities,
    verify: str,
    expected: bool,
) -> None:
    assert copies(ObjectInfo("k", size, "v", **sums), limits, Verification(verify)) is expected


@given(
    size=st.integers(0, 6 * GIB),
    crc32c=st.none() | st.integers(0, 9),
    crc64nvme=st.none() | st.integers(0, 9),
    attestation=st.sampled_from(Attestation),
    max_copy=st.sampled_from((0, 1, GIB)),
    parts=st.booleans(),
    verify=st.sampled_from(Verification),
)
def test_whoever_asks_for_less_gets_no_fewer_copies(
    size: int,
    crc32c: int | None,
    crc64nvme: int | None,
    attestation: Attestation,
    max_copy: int,
    parts: bool,
    verify: Verification,
) -> None:
    info = ObjectInfo("k", size, "v", crc32c=crc32c, crc64nvme=crc64nvme)
    limits = Capabilities(attestation, max_copy=max_copy, copies_parts=parts)
    if copies(info, limits, verify):
        assert max_copy > 0
        assert copies(info, limits, Verification.NONE)
        assert parts or not takes_parts(size, limits)
        assert verify is Verification.NONE or (crc32c, crc64nvme) != (None, None)


def planned(source: StoreConfig, destination: StoreConfig, **options: object) -> Plan:
    return plan(spec(source, destination, **options), [Site("g0")])


def test_the_plan_says_it() -> None:
    assert planned(HERE, FAR).server_side
    assert any("copies by itself" in line for line in planned(HERE, FAR).render())
    assert not any("by itself" in line for line in planned(HERE, GCS).render())


def cost(
    source: StoreConfig, destination: StoreConfig, limits: Capabilities, sizes: list[int], **options: object
) -> Cost:
    asked = spec(source, destination, **options)
    meter = CostMeter(asked, plan(asked, [Site("g0")]), limits, 512 * MIB)
    for size in sizes:
        meter.add(Decision(Action.COPY, ObjectInfo("p/x", size, "v"), "q/x", "new", Precondition(absent=True)))
    return meter.cost()


def test_it_costs_requests_and_no_egress_but_to_another_region() -> None:
    found = {line.what: line for line in cost(HERE, HERE, AWS.capabilities, [GIB, GIB]).once}
    assert not any("egress" in what for what in found)
    assert found["write requests at the destination"].quantity == 2 + 3
    assert found["read requests at the source"].quantity == 2
    assert cost(HERE, HERE, AWS.capabilities, [GIB]).usd is not None
    far = {line.what: line for line in cost(HERE, FAR, AWS.capabilities, [GIB, GIB]).once}
    (between,) = [line for what, line in far.items() if "egress" in what]
    assert (between.what, between.quantity) == ("egress within the store, which copies by itself", 2 * GIB)
    never = cost(HERE, HERE, AWS.capabilities, [GIB], server_side_copy=ServerSideCopy.NEVER)
    assert any("egress from the source" in line.what for line in never.once)


def test_what_the_store_does_not_copy_is_priced_as_ever() -> None:
    large = {line.what: line for line in cost(HERE, HERE, AWS.capabilities, [6 * GIB, GIB]).once}
    assert large["egress from the source"].quantity == 6 * GIB


def test_other_words_are_refused() -> None:
    with pytest.raises(UsageError, match="server_side_copy cannot be 'always': expected one of auto, never"):
        checked_options(TransferOptions(server_side_copy="always"))  # type: ignore[arg-type]
