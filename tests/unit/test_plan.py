from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.errors import UsageError
from skyplane_core.model import Role, StoreConfig
from skyplane_core.planner.layout import Layout
from skyplane_core.planner.plan import Plan, Price, Site, Via, direct, plan, single
from skyplane_core.spec import (
    Destination,
    KeyMapping,
    MappingKind,
    Route,
    Selection,
    TransferOptions,
    TransferSpec,
)

S3 = StoreConfig("s3", "src", endpoint_url="http://127.0.0.1:9000")
GCS = StoreConfig("gcs", "dst", endpoint_url="http://localhost:4443")
LOCAL = StoreConfig("local", "/data")


def spec(source: StoreConfig, *destinations: StoreConfig) -> TransferSpec:
    mapping = KeyMapping(MappingKind.PREFIX, "in", "out")
    to = tuple(Destination(store, mapping) for store in destinations)
    return TransferSpec("t1", source, Selection("in", tree=True), to, TransferOptions(), ".skyplane/t1/", 0.0)


def test_one_gateway_reads_and_writes() -> None:
    made = plan(spec(S3, GCS), [Site("g1")])
    assert made.kind == "single"
    assert made.routes == (Route("g1"),)
    assert made.throughput is None


def test_two_gateways_read_and_write() -> None:
    made = plan(spec(S3, GCS, LOCAL), [Site("g1"), Site("g2")])
    assert made.kind == "direct"
    assert made.routes == (Route("g1", ("g2",), 0), Route("g1", ("g2",), 1))
    assert made.source == "s3://src/in"
    assert made.destinations == ("gs://dst/out", "file:///data/out")


@pytest.mark.parametrize("count", [0, 4])
def test_other_numbers_are_refused(count: int) -> None:
    with pytest.raises(UsageError, match=f"{count} gateways"):
        plan(spec(S3, GCS), [Site(f"g{n}") for n in range(count)])


def test_a_gateway_does_not_send_to_itself() -> None:
    with pytest.raises(UsageError, match="same gateway"):
        direct(spec(S3, GCS), Site("g1"), Site("g1"))


@pytest.mark.parametrize(
    ("source", "destination", "site", "price"),
    [
        (LOCAL, LOCAL, Site("g"), Price(0.0, "local, no egress")),
        (S3, GCS, Site("g"), Price(0.0, "local, no egress")),
        (StoreConfig("s3", "src"), LOCAL, Site("g"), Price(None, "requests and egress may be billed for s3://src")),
        (
            LOCAL,
            StoreConfig("gcs", "x", endpoint_url="http://10.0.0.1"),
            Site("g"),
            Price(None, "requests and egress may be billed for gs://x"),
        ),
        (LOCAL, LOCAL, Site("g", "ssh", "lab", loopback=False), Price(None, "gateways are not on this machine: g")),
        (LOCAL, LOCAL, Site("g", loopback=False), Price(None, "gateways are not on this machine: g")),
    ],
)
def test_nothing_is_free_unless_it_is_known_to_be(
    source: StoreConfig, destination: StoreConfig, site: Site, price: Price
) -> None:
    assert single(spec(source, destination), site).price == price


def test_a_plan_is_a_value_that_can_be_kept() -> None:
    made = plan(spec(S3, GCS), [Site("g1"), Site("g2", "aws", "eu-west-1", loopback=False)])
    assert msgspec.json.decode(msgspec.json.encode(made), type=Plan) == made


def test_a_plan_is_shown_as_text() -> None:
    assert plan(spec(S3, GCS), [Site("g1"), Site("g2", "aws", "eu-west-1", loopback=False)]).render() == [
        "Plan: direct, 2 gateways",
        "  from s3://src/in",
        "  to   gs://dst/out",
        "  gateway g1: local",
        "  gateway g2: aws eu-west-1",
        "  route to destination 0: g1 -> g2, 100%",
        "  predicted throughput: unknown",
        "  price: unknown (gateways are not on this machine: g2)",
    ]
    lines = msgspec.structs.replace(single(spec(S3, GCS), Site("g1")), throughput=1.25e9).render()
    assert lines[0] == "Plan: single, 1 gateway"
    assert "  route to destination 0: g1 (reads and writes), 100%" in lines
    assert lines[-2:] == ["  predicted throughput: 10.00 Gbit/s", "  price: $0.00 (local, no egress)"]


def sites(readers: int, relays: int, writers: int) -> list[Site]:
    roles = [Role.READER] * readers + [Role.RELAY] * relays + [Role.WRITER] * writers
    return [Site(f"g{number}", role=role) for number, role in enumerate(roles)]


def test_three_gateways_have_a_relay_in_the_middle() -> None:
    made = plan(spec(S3, GCS), [Site("g1"), Site("g2"), Site("g3")])
    assert (made.kind, made.routes) == ("relayed", (Route("g1", ("g2", "g3")),))


@given(st.integers(1, 4), st.integers(0, 3), st.integers(1, 4), st.integers(1, 3), st.sampled_from(Via), st.randoms())
def test_every_gateway_is_used_as_its_role_says_and_shares_add_up(
    readers: int, relays: int, writers: int, destinations: int, via: Via, shuffle: Random
) -> None:
    given_sites = sites(readers, relays, writers)
    shuffle.shuffle(given_sites)
    asked = spec(S3, *[GCS] * destinations)
    if (via is Via.BOTH and not relays) or (via is Via.DIRECT and relays):
        with pytest.raises(UsageError, match="relay"):
            plan(asked, given_sites, via=via)
        return
    made = plan(asked, given_sites, via=via, relayed_share=0.7)
    role = {site.gateway_id: site.role for site in given_sites}
    for index in range(destinations):
        routes = [route for route in made.routes if route.destination == index]
        assert sum(route.share for route in routes) == pytest.approx(1)
        assert len({(route.reader, route.path) for route in routes}) == len(routes)
        for route in routes:
            assert (role[route.reader], role[route.writer]) == (Role.READER, Role.WRITER)
            assert [role[relay] for relay in route.relays] in ([], [Role.RELAY])
        used = {gateway for route in routes for gateway in (route.reader, *route.path)}
        assert used == role.keys()
        over = sum(route.share for route in routes if route.relays)
        assert over == pytest.approx(0 if not relays else 0.7 if via is Via.BOTH else 1)
    first = next(site for site in given_sites if site.role is Role.READER)
    assert made.gateways[0] == first
    assert msgspec.json.decode(msgspec.json.encode(made), type=Plan) == made


@pytest.mark.parametrize(
    ("given_sites", "words"),
    [
        ([Site("a", role=Role.READER), Site("b")], "some gateways have a role"),
        ([Site("a", role=Role.READER)], "no writer"),
        ([Site("a", role=Role.WRITER), Site("b", role=Role.RELAY)], "no reader"),
        (sites(1, 0, 1) + sites(1, 0, 0), "same gateway"),
    ],
)
def test_roles_that_make_no_route_are_refused(given_sites: list[Site], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan(spec(S3, GCS), given_sites)


def test_a_share_is_a_part() -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        plan(spec(S3, GCS), sites(1, 1, 1), via=Via.BOTH, relayed_share=1.0)


@pytest.mark.parametrize(("text", "layout"), [("2:1:2", (2, 1, 2)), ("3:4", (3, 0, 4)), (" 1:0:1 ", (1, 0, 1))])
def test_a_layout_is_read_and_shown(text: str, layout: tuple[int, int, int]) -> None:
    found = Layout.parse(text)
    assert found == layout
    assert Layout.parse(str(found)) == found
    assert len(found.roles) == sum(layout)


@pytest.mark.parametrize("text", ["", "2", "0:1:1", "1:1:0", "1:2:3:4", "-1:1:1", "a:b", "30:30:30"])
def test_what_is_no_layout_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Layout.parse(text)


def test_gateways_that_nobody_can_dial_are_no_neighbours() -> None:
    four = [msgspec.structs.replace(site, dials_out=site.gateway_id in ("g1", "g3")) for site in sites(2, 0, 2)]
    made = plan(spec(S3, GCS), four)
    assert [(route.reader, route.path) for route in made.routes] == [("g0", ("g2",)), ("g0", ("g3",)), ("g1", ("g2",))]
    assert sum(route.share for route in made.routes) == pytest.approx(1)
    with pytest.raises(UsageError, match="no route leads over g1"):
        plan(spec(S3, GCS), [msgspec.structs.replace(site, dials_out=site != four[0]) for site in sites(2, 0, 1)])
    with pytest.raises(UsageError, match="head"):
        plan(spec(S3, GCS), [Site("g0", dials_out=True), Site("g1")])
