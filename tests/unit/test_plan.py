import msgspec
import pytest

from skyplane_core.errors import UsageError
from skyplane_core.model import StoreConfig
from skyplane_core.planner.plan import Plan, Price, Route, Site, direct, plan, single
from skyplane_core.spec import Destination, KeyMapping, MappingKind, Selection, TransferOptions, TransferSpec

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


@pytest.mark.parametrize("count", [0, 3])
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
