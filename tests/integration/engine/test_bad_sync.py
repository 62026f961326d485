"""What a sync is asked for and cannot mean is refused by name: no gateway is started, and neither end sees a write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from skyplane_core import settings
from skyplane_core.client import Location, SkyplaneClient
from skyplane_core.errors import UsageError
from skyplane_core.filters import Filters, NameRule
from skyplane_core.provision.local import LocalProvisioner
from skyplane_core.spec import Compare, DeleteCap, KeyMapping, MappingKind, Overwrite, Selection, TransferOptions
from skyplane_core.testing.objectserver import ObjectServer

At = Callable[..., Location]

EXACT = {"compare": Compare.EXACT}
WRONG: list[tuple[str, dict[str, Any], Filters, str]] = [
    ("copy", {"delete": True}, Filters(), "only a sync deletes"),
    ("sync", {"max_delete": DeleteCap(5)}, Filters(), "max_delete is given, and nothing is to be deleted"),
    ("sync", {"delete": True, "max_delete": DeleteCap(-1)}, Filters(), "max_delete cannot be"),
    ("sync", {"delete": True, "max_delete": DeleteCap(None, 101)}, Filters(), "max_delete cannot be"),
    ("sync", {"delete": "yes"}, Filters(), "delete cannot be 'yes'"),
    ("sync", {"delete": True}, Filters(max_objects=5), "delete and max_objects contradict each other"),
    ("sync", {"delete": True}, Filters(max_bytes=5), "delete and max_bytes contradict each other"),
    ("sync", {"delete": True}, Filters(keys=("p/a",)), "delete and a manifest contradict each other"),
    ("sync", {"overwrite": "maybe"}, Filters(), "overwrite cannot be 'maybe'"),
    ("sync", {"compare": "mtime"}, Filters(), "compare cannot be 'mtime'"),
    ("sync", {"compare": Compare.SIZE, "overwrite": Overwrite.NEVER}, Filters(), "compare is 'size' and overwrite"),
    ("copy", {"compare": Compare.MTIME, "overwrite": Overwrite.ALWAYS}, Filters(), r"compare is 'size\+mtime' and"),
    ("sync", {"compare": Compare.NAME, "overwrite": Overwrite.IF_NEWER}, Filters(), "compare is 'name' and overwrite"),
    ("sync", EXACT, Filters(min_size=2, max_size=1), "min_size is 2 and max_size 1"),
    ("sync", EXACT, Filters(modified_since=2, modified_before=2), "modified_since is 2.000000 and modified_before"),
    ("sync", {"delete": True, "move": True}, Filters(), "delete and a move contradict each other"),
    ("copy", EXACT, Filters(min_age=2, max_age=1), "min_age is 2 and max_age 1"),
    ("sync", EXACT, Filters(max_size=-1), "max_size cannot be -1"),
    ("sync", EXACT, Filters(max_objects=-1), "max_objects cannot be -1"),
    ("sync", EXACT, Filters(rules=(NameRule(include=True, pattern="("),), max_age=-1), "max_age cannot be -1"),
    ("sync", EXACT, Filters(rules=(NameRule(include=True, pattern="(", regex=True),)), r"'\(' is not a pattern"),
    ("sync", EXACT, Filters(rules=(NameRule(include=True, pattern=""),)), "empty pattern"),
    (
        "sync",
        EXACT,
        Filters(rules=(NameRule(include=False, pattern="*"), NameRule(include=True, pattern="*.csv"))),
        "comes after one that matches everything",
    ),
    ("sync", EXACT, Filters(keys=("p/a", "q/b")), "the manifest names 'q/b', which is not under the source"),
    ("sync", EXACT, Filters(keys=("p/",)), "the manifest names 'p/', which is not under the source"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_is_provisioned(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: LocalProvisioner, _count: int) -> None:
        raise AssertionError("gateways were started for a transfer that cannot succeed")

    monkeypatch.setattr(LocalProvisioner, "start", refuse)


@pytest.mark.parametrize(("mode", "options", "filters", "told"), WRONG, ids=[case[3] for case in WRONG])
def test_a_contradiction_is_named(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient,
    mode: str, options: dict[str, Any], filters: Filters, told: str,
) -> None:  # fmt: skip
    s3.put("src", "p/a", b"x")
    ends = source("p/"), destination("q/")
    with pytest.raises(UsageError, match=told):
        client.copy(*ends, recursive=True, mode=mode, options=TransferOptions(**options), filters=filters)
    assert gcs.list("dst") == []
    assert not s3.requests


def test_one_object_is_not_filtered(source: At, destination: At, client: SkyplaneClient) -> None:
    with pytest.raises(UsageError, match="filters choose from a tree, and the source is one object"):
        client.copy(source("p/a"), destination("q"), filters=Filters(max_size=5))


def test_words_are_taken_for_values(source: At, destination: At, client: SkyplaneClient) -> None:
    how: dict[str, Any] = {"compare": "size-only", "overwrite": "if-newer", "delete": True, "max_delete": "10%"}
    options = client.prepare(source("p/"), destination("q/"), mode="sync", **how).spec.options
    assert (options.compare, options.overwrite) == (Compare.SIZE, Overwrite.IF_NEWER)
    assert (options.delete, options.max_delete) == (True, DeleteCap(percent=10))
    plain = client.prepare(source("p/"), destination("q/"), mode="sync", delete=True).spec.options
    assert (plain.compare, plain.max_delete) == (Compare.EXACT, DeleteCap(1000, 50))
    for wrong in ({"compare": "mtime"}, {"overwrite": "maybe"}, {"max_delete": "many"}, {"max_delete": 5}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            client.prepare(source("p/"), destination("q/"), mode="sync", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("selection", "mapping"),
    [
        (Selection("p/", tree=True, glob="*.csv"), KeyMapping(MappingKind.PREFIX, "p/", "q/")),
        (Selection("p/", tree=True, delimiter="/"), KeyMapping(MappingKind.PREFIX, "p/", "q/")),
        (Selection("p/"), KeyMapping(MappingKind.APPEND, "p/", "q/")),
        (Selection("p/x", tree=True), KeyMapping(MappingKind.PREFIX, "p/", "q/")),
        (Selection("p/x", single=True), KeyMapping(MappingKind.OBJECT, "p/x", "q/")),
    ],
    ids=str,
)
def test_only_a_whole_tree_is_mirrored(
    source: At, destination: At, client: SkyplaneClient, selection: Selection, mapping: KeyMapping
) -> None:
    with pytest.raises(UsageError, match="only a sync of a whole tree can delete"):
        client.prepare(
            source("p/"), destination("q/"), mode="sync", selection=selection, mapping=mapping,
            options=TransferOptions(compare=Compare.EXACT, delete=True),
        )  # fmt: skip


def test_a_manifest_has_a_limit(
    source: At, destination: At, client: SkyplaneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "MAX_MANIFEST_BYTES", 10)
    with pytest.raises(UsageError, match="the keys of the manifest have 11 bytes, and 10 can be taken"):
        client.prepare(source("p/"), destination(), mode="sync", filters=Filters(keys=("p/" + "a" * 9,)))
