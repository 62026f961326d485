"""Transfers that move, that take several selections along, and whose source is a version or a glob."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import pytest

from skyplane_core.client import Location, SkyplaneClient
from skyplane_core.errors import TransferFailed, UsageError
from skyplane_core.filters import Filters
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.spec import KeyMapping, MappingKind, Outcome, Pick, Selection, TransferOptions
from skyplane_core.store_options import StoreOptions
from skyplane_core.testing.objectserver import ObjectServer

At = Callable[..., Location]
MIB = 1024 * 1024
BODIES = {"p/a": b"a", "p/b/c": b"c" * 3000, "p/large": bytes(12 * MIB)}


@pytest.fixture(params=["s3", "gcs"])
def versioned(request: pytest.FixtureRequest) -> Iterator[tuple[ObjectServer, StoreConfig]]:
    """A bucket ``v`` that keeps versions."""
    with ObjectServer(request.param, buckets=["v"], versioning=True) as server:
        keys = Credentials(access_key="AK", secret_key="SK") if request.param == "s3" else Credentials()
        yield (
            server,
            StoreConfig(
                request.param, "v", endpoint_url=server.endpoint_url, path_style=True, region="r", credentials=keys
            ),
        )


def test_a_move_leaves_nothing_behind(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    for key, body in {**BODIES, "other": b"o"}.items():
        s3.put("src", key, body)
    options = TransferOptions(move=True, part_size=5 * MIB, multipart_threshold=6 * MIB)
    result = client.copy(source("p/"), destination("q/"), recursive=True, options=options)
    assert {line.key for line in result.lines() if line.outcome is Outcome.COPIED} == set(BODIES)
    assert s3.list("src") == ["other"]
    assert {key.replace("q/", "p/"): gcs.get("dst", key) for key in gcs.list("dst", "q/") if "/." not in key} == BODIES


def test_a_move_of_which_something_fails_deletes_nothing(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    for key in ("p/a", "p/" + "long" * 255):
        s3.put("src", key, b"x")
    with pytest.raises(TransferFailed, match="1 of 2 objects"):
        client.copy(source("p/"), destination("q" * 30), recursive=True, options=TransferOptions(move=True))
    assert len(s3.list("src")) == 2


def test_several_picks_are_one_transfer(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    for key in ("a/1", "a/2", "b/x/3", "b/4", "c"):
        s3.put("src", key, key.encode())
    result = client.copy(
        source(),
        destination(),
        selection=Selection("a/"),
        mapping=KeyMapping(MappingKind.REPLACE, "a/", "out/"),
        also=[
            Pick(Selection("b/"), KeyMapping(MappingKind.FLATTEN, "", "flat/")),
            Pick(Selection("none/"), KeyMapping(MappingKind.APPEND, "", "")),
            Pick(Selection("", filters=Filters(keys=("a/1", "c"))), KeyMapping(MappingKind.APPEND, "", "by/")),
        ],
    )
    copied = sorted((line.key, line.destination_key) for line in result.lines())
    assert copied == [
        ("a/1", "by/a/1"), ("a/1", "out/1"), ("a/2", "out/2"),
        ("b/4", "flat/4"), ("b/x/3", "flat/3"), ("c", "by/c"),
    ]  # fmt: skip
    assert all(gcs.get("dst", to) == key.encode() for key, to in copied)


def test_two_picks_do_not_meet_at_one_name(
    s3: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    for key in ("a/1", "b/1"):
        s3.put("src", key, b"x")
    prepared = client.prepare(
        source(),
        destination(),
        selection=Selection("a/"),
        mapping=KeyMapping(MappingKind.REPLACE, "a/", "out/"),
        also=[Pick(Selection("b/"), KeyMapping(MappingKind.REPLACE, "b/", "out/"))],
    )
    _, planned = client.dry_run(prepared)
    assert [(decision.source.key, decision.action.value) for decision in planned] == [
        ("a/1", "copy"),
        ("b/1", "refuse"),
    ]


@pytest.mark.parametrize(
    ("options", "how", "told"),
    [
        (TransferOptions(move=True), {"resume": True, "transfer_id": "0" * 32}, "a move cannot be continued"),
        (TransferOptions(move_same=True), {}, "move_same is given, and nothing is to be moved"),
        (TransferOptions(move=True, delete=True), {"mode": "sync"}, "delete and a move contradict each other"),
        (
            TransferOptions(delete=True),
            {"mode": "sync", "also": [Pick(Selection("b"), KeyMapping(MappingKind.APPEND, "", ""))]},
            "only a sync of a whole tree|delete and several picks contradict each other",
        ),
    ],
)
def test_what_contradicts_a_move_or_several_picks_is_refused(
    source: At, destination: At, client: SkyplaneClient, options: TransferOptions, how: dict[str, object], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        client.prepare(source("p/"), destination("q/"), recursive=True, options=options, **how)  # type: ignore[arg-type]


def test_an_older_version_is_copied(
    versioned: tuple[ObjectServer, StoreConfig], gcs: ObjectServer, destination: At, client: SkyplaneClient
) -> None:
    server, store = versioned
    old = server.put("v", "k", b"old", attributes={"content-type": "text/old"})
    server.put("v", "k", b"newer", attributes={"content-type": "text/new"})
    version = f"{old['generation']:032x}" if store.kind == "s3" else str(old["generation"])
    pinned = msgspec.structs.replace(store, object_version=version)
    result = client.copy(Location(pinned, "k"), destination("k"))
    assert gcs.get("dst", "k") == b"old"
    assert gcs.head("dst", "k")["attributes"]["content-type"] == "text/old"
    assert [version in line.source_version for line in result.lines()] == [True]
    with pytest.raises(UsageError, match="object_version is for a source that is one object"):
        client.prepare(Location(pinned, ""), destination(), recursive=True)


def test_gcs_itself_matches_a_glob(gcs: ObjectServer, destination: At, client: SkyplaneClient) -> None:
    for key in ("a/x.csv", "a/b/y.csv", "a/z.txt"):
        gcs.put("dst", key, b"x")
    here = destination("a/")
    for glob, expected in (
        ("a/*.csv", ["a/x.csv"]),
        ("**.csv", ["a/b/y.csv", "a/x.csv"]),
        ("a/[yz].{txt,md}", ["a/z.txt"]),
    ):
        source = Location(StoreOptions(match_glob=glob).applied(here.store), "a/")
        _, planned = client.dry_run(client.prepare(source, destination("q/"), recursive=True))
        assert [decision.source.key for decision in planned] == expected
