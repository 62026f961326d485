"""What each gateway is told about a transfer, and what it is not."""

from __future__ import annotations

import dataclasses

from skyplane_core.hand_out import parcels
from skyplane_core.model import AttributeRules, Credentials, StoreConfig, TransferKeys
from skyplane_core.planner.layout import Layout
from skyplane_core.planner.plan import Site, plan
from skyplane_core.prepare import Prepared
from skyplane_core.spec import Destination, KeyMapping, MappingKind, Route, Selection, TransferOptions, TransferSpec

SOURCE = StoreConfig("s3", "src", credentials=Credentials("id", "source-secret"))
TO = [StoreConfig("gcs", f"dst-{n}", credentials=Credentials(token=f"token-{n}")) for n in range(2)]
KEYS = TransferKeys(bytes(32))
RULES = AttributeRules(metadata={"project": "of nobody else's business"})


def prepared(count: int) -> Prepared:
    mapping = KeyMapping(MappingKind.PREFIX, "in", "out")
    to = tuple(Destination(StoreConfig("gcs", config.bucket), mapping) for config in TO[:count])
    spec = TransferSpec(
        "t", StoreConfig("s3", "src"), Selection("in"), to, TransferOptions(attributes=RULES), ".skyplane/t/", 0.0
    )
    return Prepared(spec, SOURCE, tuple(TO[:count]))


def test_each_role_gets_what_it_needs_and_a_relay_neither_key_nor_credentials() -> None:
    asked = prepared(1)
    sites = [Site(f"g{number}", role=role) for number, role in enumerate(Layout.parse("2:1:2").roles)]
    given = parcels(asked, plan(asked.spec, sites).routes, KEYS)
    assert list(given) == ["g0", "g2", "g3", "g4", "g1"]
    for reader in (given["g0"], given["g1"]):
        assert (reader.source, reader.destinations, reader.keys, reader.onward) == (SOURCE, {}, KEYS, {})
    for writer in (given["g3"], given["g4"]):
        assert (writer.source, writer.destinations, writer.keys, writer.onward) == (None, {0: TO[0]}, KEYS, {})
        assert writer.rules == RULES
    relay = given["g2"]
    assert relay.rules == given["g0"].rules == AttributeRules()
    assert (relay.source, relay.destinations, relay.keys) == (None, {}, None)
    assert relay.onward == {0: "g3", 1: "g4", 2: "g3", 3: "g4"}


def test_a_writer_gets_the_credentials_of_its_own_destinations_only() -> None:
    given = parcels(prepared(2), [Route("r", ("a",), 0), Route("r", ("b",), 1)], KEYS)
    assert {name: parcel.destinations for name, parcel in given.items()} == {"r": {}, "a": {0: TO[0]}, "b": {1: TO[1]}}


def test_one_gateway_that_reads_and_writes_gets_both() -> None:
    (parcel,) = parcels(prepared(1), [Route("g")], KEYS).values()
    assert (parcel.source, parcel.destinations, parcel.keys) == (SOURCE, {0: TO[0]}, KEYS)


def test_only_the_head_gets_the_store_of_the_receipt() -> None:
    receipt = StoreConfig("s3", "log", credentials=Credentials("id", "log-secret"))
    asked = dataclasses.replace(prepared(1), receipt=receipt)
    sites = [Site(f"g{number}", role=role) for number, role in enumerate(Layout.parse("2:1:2").roles)]
    given = parcels(asked, plan(asked.spec, sites).routes, KEYS)
    assert {name: parcel.receipt for name, parcel in given.items()} == {
        "g0": receipt, "g1": None, "g2": None, "g3": None, "g4": None,
    }  # fmt: skip
