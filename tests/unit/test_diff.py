import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.compare import Rule, rule_of
from skyplane_core.diff import HELD, Action, Decision, Lookups, apart, copy_all, look_up_each, mapped, merge
from skyplane_core.errors import StoreRejected, StoreUnavailable, UsageError
from skyplane_core.keys import check_key
from skyplane_core.listing import ordered
from skyplane_core.model import Attestation, ObjectAttributes, ObjectInfo, Precondition
from skyplane_core.spec import SOURCE_VERSION_KEY, Compare, KeyMapping, MappingKind, Overwrite, TransferOptions
from skyplane_core.stores.base import Capabilities

TREE = KeyMapping(MappingKind.PREFIX, "s", "d")
ABSENT = Precondition(absent=True)


def info(key: str, size: int = 1, version: str = "v", crc: int | None = None, of: str | None = None) -> ObjectInfo:
    attributes = None if of is None else ObjectAttributes(metadata={SOURCE_VERSION_KEY: of} if of else {})
    return ObjectInfo(key, size, version, crc32c=crc, attributes=attributes)


def never(_: str) -> ObjectInfo | None:
    raise AssertionError("nobody should look")


def one(source: ObjectInfo, there: ObjectInfo | None, compare: Compare, **lookups: Any) -> Decision:
    asked = Lookups(lookups["lookup"]) if lookups else None
    [decision] = merge([(source, "k")], [there] if there else [], Rule(compare), lookups=asked)
    return decision


# --- listings -------------------------------------------------------------------------------------------------------


def test_an_ordered_listing_passes_unchanged() -> None:
    listing = [info("a"), info("a/b"), info("b"), info("é"), info("\uffff"), info("\U0001f600")]
    assert list(ordered(listing, "s3://b")) == listing


@pytest.mark.parametrize(("keys", "said"), [("aba", "order"), ("aa", "repeats")])
def test_a_listing_out_of_order_is_refused(keys: str, said: str) -> None:
    with pytest.raises(StoreRejected, match=f"{said}.*s3://b"):
        list(ordered([info(key) for key in keys], "s3://b"))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True))
def test_the_order_is_that_of_utf8_bytes(keys: list[str]) -> None:
    keys.sort(key=str.encode)
    assert [entry.key for entry in ordered(map(info, keys), "s3://b")] == keys


# --- one pair -------------------------------------------------------------------------------------------------------

CASES = [
    (Compare.ALWAYS, info("k"), info("k", version="w"), Action.COPY, "always"),
    (Compare.NAME, info("k", 5), info("k", 6), Action.SKIP, "exists"),
    (Compare.SIZE, info("k", 5), info("k", 6, "w"), Action.COPY, "changed-size"),
    (Compare.SIZE, info("k", 5), info("k", 5), Action.SKIP, "same-size"),
    (Compare.EXACT, info("k", 5), info("k", 6, "w", of="v"), Action.COPY, "changed-size"),
    (Compare.EXACT, info("k", crc=7), info("k", crc=7), Action.SKIP, "same"),
    (Compare.EXACT, info("k", crc=7), info("k", crc=7, of="older"), Action.SKIP, "same"),
    (Compare.EXACT, info("k", crc=7), info("k", crc=8, version="w", of="v"), Action.COPY, "changed-checksum"),
    (Compare.EXACT, info("k"), info("k", of="v"), Action.SKIP, "same"),
    (Compare.EXACT, info("k"), info("k", version="w", of="older"), Action.COPY, "changed-version"),
    (Compare.EXACT, info("k"), info("k", version="w", of=""), Action.COPY, "unknown"),
    (Compare.EXACT, info("k", crc=7), info("k", version="w"), Action.COPY, "unknown"),
    (Compare.EXACT, info("k"), info("k", crc=7, version="w"), Action.COPY, "unknown"),
    (Compare.EXACT, info("k/", 0), info("k/", 0), Action.SKIP, "same"),
    (Compare.EXACT, info("k/", 0, of="older"), info("k/", 0, of="oldest"), Action.SKIP, "same"),
    (Compare.EXACT, info("k/", 1), info("k/", 1, "w"), Action.COPY, "unknown"),
    (Compare.EXACT, info("k/", 0), info("k/", 1, "w"), Action.COPY, "changed-size"),
    (Compare.ALWAYS, info("k/", 0), info("k/", 0, "w"), Action.COPY, "always"),
]


@pytest.mark.parametrize(("compare", "source", "there", "action", "reason"), CASES)
def test_what_counts_as_unchanged(
    compare: Compare, source: ObjectInfo, there: ObjectInfo, action: Action, reason: str
) -> None:
    [decision] = merge([(source, there.key)], [there], Rule(compare))
    assert (decision.action, decision.reason) == (action, reason)
    assert decision.precondition == (Precondition(version="w") if action is Action.COPY else Precondition(version="v"))


@pytest.mark.parametrize("compare", Compare)
def test_what_is_not_there_is_copied_only_as_long_as_it_is_not_there(compare: Compare) -> None:
    assert one(info("s"), None, compare, lookup=never) == Decision(Action.COPY, info("s"), "k", "new", ABSENT)


@pytest.mark.parametrize(
    ("compare", "source", "there"),
    [
        (Compare.SIZE, info("k"), info("k")),
        (Compare.NAME, info("k"), info("k")),
        (Compare.ALWAYS, info("k"), info("k")),
        (Compare.EXACT, info("k", 1), info("k", 2)),
        (Compare.EXACT, info("k", crc=7), info("k", crc=8)),
        (Compare.EXACT, info("k"), info("k", of="older")),
        (Compare.EXACT, info("k/", 0), info("k/", 0)),
        (Compare.EXACT, info("k", crc=7), info("k", of="v")),
    ],
)
def test_nobody_looks_where_the_listing_tells_enough(compare: Compare, source: ObjectInfo, there: ObjectInfo) -> None:
    list(merge([(source, there.key)], [there], Rule(compare), lookups=Lookups(never)))


@pytest.mark.parametrize(
    ("source", "there", "answer", "action", "reason", "precondition"),
    [
        (info("s"), info("k"), info("k", of="v"), Action.SKIP, "same", Precondition(version="v")),
        (info("s", crc=7), info("k"), info("k", crc=7, of=""), Action.SKIP, "same", Precondition(version="v")),
        (info("s", crc=7), info("k", of=""), info("k", crc=7), Action.SKIP, "same", Precondition(version="v")),
        (info("s"), info("k"), info("k", 2, "w"), Action.COPY, "changed-size", Precondition(version="w")),
        (info("s"), info("k"), None, Action.COPY, "new", ABSENT),
    ],
)
def test_a_closer_look_decides_and_is_what_the_precondition_names(
    source: ObjectInfo,
    there: ObjectInfo,
    answer: ObjectInfo | None,
    action: Action,
    reason: str,
    precondition: Precondition,
) -> None:
    decision = one(source, there, Compare.EXACT, lookup={"k": answer}.get)
    assert (decision.action, decision.reason, decision.precondition) == (action, reason, precondition)


def test_an_error_of_a_look_is_not_swallowed() -> None:
    def fails(key: str) -> ObjectInfo | None:
        raise StoreUnavailable("no answer", where=key)

    with pytest.raises(StoreUnavailable):
        one(info("s"), info("k"), Compare.EXACT, lookup=fails)


# --- two streams ----------------------------------------------------------------------------------------------------


def test_only_what_a_source_maps_to_is_looked_at() -> None:
    source = [info("s/a"), info("s/c"), info("s/c/x")]
    there = [info("d/"), info("d/.skyplane/j"), info("d/b"), info("d/c"), info("d/z")]
    decisions = list(merge(mapped(source, TREE), there, Rule(Compare.NAME)))
    assert [(d.action, d.destination_key, d.reason) for d in decisions] == [
        (Action.COPY, "d/a", "new"),
        (Action.SKIP, "d/c", "exists"),
        (Action.COPY, "d/c/x", "new"),
    ]


def test_the_marker_of_the_root_has_no_counterpart() -> None:
    source = mapped([info("s/"), info("s/a")], KeyMapping(MappingKind.PREFIX, "s", ""))
    check = partial(check_key, capabilities=Capabilities(Attestation.WHOLE))
    decisions = list(merge(source, [], Rule(Compare.EXACT), check=check))
    assert [(d.action, d.reason) for d in decisions] == [(Action.SKIP, "root-marker"), (Action.COPY, "new")]


def test_a_key_that_cannot_exist_is_refused_by_name_and_the_others_go_on() -> None:
    check = partial(check_key, capabilities=Capabilities(Attestation.WHOLE, max_key_bytes=4))
    source = list(mapped([info("s/long"), info("s/x")], TREE))
    there = [info("d/long"), info("d/x", of="v")]
    for decisions in (
        merge(source, there, Rule(Compare.EXACT), check=check, lookups=Lookups(never)),
        copy_all(source, check=check),
        look_up_each(source, Lookups({"d/x": info("d/x")}.__getitem__), Rule(Compare.ALWAYS), check=check),
    ):
        refused, other = decisions
        assert refused.action is Action.REFUSE
        assert "6 bytes" in refused.reason
        assert other.action is not Action.REFUSE


def test_copying_all_asks_nobody() -> None:
    [decision] = copy_all(mapped([info("s/a")], TREE))
    assert decision == Decision(Action.COPY, info("s/a"), "d/a", "always", Precondition())


def test_a_mapping_out_of_order_is_an_error_and_not_a_missed_object() -> None:
    mapping = KeyMapping(MappingKind.REPLACE, "x", "")
    source = [info("ax"), info("xa")]
    with pytest.raises(UsageError, match="order"):
        list(merge(mapped(source, mapping), [], Rule(Compare.NAME)))


def test_a_destination_out_of_order_is_an_error_and_not_a_missed_object() -> None:
    with pytest.raises(StoreRejected, match="gs://d"):
        list(merge([(info("s"), "z")], [info("b"), info("a")], Rule(Compare.NAME), where="gs://d"))


@pytest.mark.parametrize("window", [1, 2, 10])
def test_without_an_order_each_object_is_looked_up_and_none_overwrites_another(window: int) -> None:
    mapping = KeyMapping(MappingKind.REPLACE, "x", "")
    source = mapped([info("ax"), info("b", 5), info("xa")], mapping)
    decisions = list(look_up_each(source, Lookups({"b": info("b", 5)}.get, window=window), Rule(Compare.SIZE)))
    assert [d.action for d in decisions] == [Action.COPY, Action.SKIP, Action.REFUSE]
    assert "same destination key" in decisions[2].reason


def test_where_the_name_alone_counts_the_first_of_one_name_is_there_already() -> None:
    source = list(mapped([info("a/x"), info("b/x"), info("c/")], KeyMapping(MappingKind.FLATTEN, "", "d/")))
    decisions = list(look_up_each(source, Lookups({}.get), Rule(Compare.NAME)))
    assert [(d.action, d.reason) for d in decisions] == [
        (Action.COPY, "new"), (Action.SKIP, "exists"), (Action.SKIP, "root-marker"),
    ]  # fmt: skip
    assert [d.action for d in look_up_each(source, Lookups({}.get), Rule(Compare.ALWAYS))] == [
        Action.COPY, Action.REFUSE, Action.SKIP,
    ]  # fmt: skip


@pytest.mark.parametrize("compare", list(Compare))
def test_the_first_of_one_destination_key_can_win_whatever_is_compared(compare: Compare) -> None:
    source = [(info("a"), "k"), (info("b"), "l"), (info("c"), "k"), (info("d", 0), ""), (info("e", 0), "")]
    decisions = list(look_up_each(source, Lookups({}.get), Rule(compare), first_wins=True))
    assert [(d.source.key, d.action, d.reason) for d in decisions] == [
        ("a", Action.COPY, "new"),
        ("b", Action.COPY, "new"),
        ("c", Action.SKIP, "taken"),
        ("d", Action.SKIP, "root-marker"),
        ("e", Action.SKIP, "root-marker"),
    ]


@pytest.mark.parametrize(
    ("compare", "second"), [(Compare.NAME, (Action.SKIP, "exists")), (Compare.ALWAYS, (Action.REFUSE, None))]
)
def test_picks_copy_each_object_once_and_none_over_another(compare: Compare, second: tuple[Action, str | None]) -> None:
    made = [("a", "d/a"), ("b", ""), ("a", "d/a"), ("c", ""), ("c", "d/a"), ("a", "d/b")]
    decisions = [Decision(Action.COPY, info(key), to, "always") for key, to in made]
    kept = list(apart(decisions, Rule(compare)))
    assert [(d.source.key, d.destination_key) for d in kept] == [made[0], made[1], *made[3:]]
    assert kept[3].action is second[0]
    assert kept[3].reason == (second[1] or "another source object has the same destination key")


OBJECTS = st.dictionaries(
    st.text("ab/", min_size=1, max_size=3),
    st.builds(
        lambda size, crc, of: info("", size, "v", crc, of),
        st.integers(0, 1),
        st.sampled_from([None, 7, 8]),
        st.sampled_from([None, "", "v", "older"]),
    ),
)


def stream(objects: dict[str, ObjectInfo]) -> list[ObjectInfo]:
    return [ObjectInfo(k, o.size, o.version, 0.0, o.crc32c, o.attributes) for k, o in sorted(objects.items())]


@given(OBJECTS, OBJECTS, st.sampled_from(Compare), st.integers(1, 4), st.booleans())
def test_the_merge_is_a_lookup_in_a_dictionary(
    source: dict[str, ObjectInfo], there: dict[str, ObjectInfo], compare: Compare, window: int, closer: bool
) -> None:
    pairs = [(entry, entry.key) for entry in stream(source)]
    listing = {entry.key: entry for entry in stream(there)}
    lookups = Lookups(listing.get, window=window) if closer else None
    merged = list(merge(pairs, stream(there), Rule(compare), lookups=lookups))
    assert merged == list(look_up_each(pairs, Lookups(listing.get), Rule(compare)))
    assert [decision.source for decision in merged] == stream(source)


def test_memory_does_not_grow_and_nothing_waits_for_the_end() -> None:
    taken = itertools.count()
    decisions = merge(
        ((info(f"{number:09}"), f"{number:09}") for number in taken),
        (info(f"{number:09}") for number in itertools.count(0, 2)),
        Rule(Compare.NAME),
    )
    assert [decision.reason for decision in itertools.islice(decisions, 4)] == ["exists", "new", "exists", "new"]
    assert next(taken) == 4


def test_one_pair_that_waits_for_a_look_does_not_hold_all_the_others() -> None:
    taken = itertools.count()
    source = ((info(f"{number:09}"), f"{number:09}") for number in taken)
    decisions = merge(source, [info("000000000")], Rule(Compare.EXACT), lookups=Lookups(lambda _: None, window=4))
    assert next(decisions).destination_key == "000000000"
    assert next(taken) == HELD * 4


def test_looks_are_made_together_and_decisions_stay_in_order() -> None:
    asked: list[list[str]] = []

    def parallel(lookup: object, keys: Iterable[str]) -> Iterator[ObjectInfo | None]:
        asked.append(list(keys))
        return iter([info(key, of="v") for key in asked[-1]])

    source = [(info(key), key) for key in "abcdef"]
    there = [info("b"), info("c", of="v"), info("d"), info("f")]
    decisions = list(merge(source, there, Rule(Compare.EXACT), lookups=Lookups(never, None, parallel, 2)))
    assert asked == [["b", "d"], ["f"]]
    assert [d.destination_key for d in decisions] == list("abcdef")
    assert [d.reason for d in decisions] == ["new", "same", "same", "same", "new", "same"]


# --- checksums, times, and what is newer --------------------------------------------------------------------------


def at(
    modified: float, size: int = 1, crc: int | None = None, wide: int | None = None, version: str = "v"
) -> ObjectInfo:
    return ObjectInfo("k", size, version, modified, crc, None, wide)


@pytest.mark.parametrize(
    ("rule", "source", "there", "said"),
    [
        (Rule(Compare.CHECKSUM), at(0, crc=7), at(0, crc=7), "skip same"),
        (Rule(Compare.CHECKSUM), at(0, crc=7), at(0, crc=8), "copy changed-checksum"),
        (Rule(Compare.CHECKSUM), at(0, wide=7), at(0, wide=7), "skip same"),
        (Rule(Compare.CHECKSUM), at(0, wide=7), at(0, wide=8), "copy changed-checksum"),
        (Rule(Compare.CHECKSUM), at(0, crc=7, wide=1), at(0, crc=7), "skip same"),
        (Rule(Compare.CHECKSUM), at(0, crc=7), at(0, wide=7), "copy no-common-checksum"),
        (Rule(Compare.CHECKSUM), at(0), at(0, crc=7), "copy no-source-checksum"),
        (Rule(Compare.CHECKSUM), at(0, crc=7), at(0), "copy no-destination-checksum"),
        (Rule(Compare.CHECKSUM), at(0, 1, crc=7), at(0, 2, crc=7), "copy changed-size"),
        (Rule(Compare.EXACT), at(0, wide=7), at(0, wide=7), "skip same"),
        (Rule(Compare.EXACT), at(0, wide=7), at(0, wide=8), "copy changed-checksum"),
        (Rule(Compare.MTIME), at(100.9), at(101.0), "skip not-newer"),
        (Rule(Compare.MTIME), at(100.0), at(100.9), "copy same-second"),
        (Rule(Compare.MTIME), at(100.9), at(100.0), "copy same-second"),
        (Rule(Compare.MTIME), at(101.0), at(100.9), "copy newer"),
        (Rule(Compare.MTIME), at(0), at(100), "copy unknown"),
        (Rule(Compare.MTIME), at(100), at(0), "copy unknown"),
        (Rule(Compare.MTIME), at(100, 1), at(200, 2), "copy changed-size"),
        (Rule(Compare.ALWAYS, only_newer=True), at(100), at(101), "skip not-newer"),
        (Rule(Compare.ALWAYS, only_newer=True), at(100), at(100), "copy always"),
        (Rule(Compare.ALWAYS, only_newer=True), at(0), at(100), "copy always"),
        (Rule(Compare.SIZE, only_newer=True), at(101, 1), at(100, 2), "copy changed-size"),
        (Rule(Compare.SIZE, only_newer=True), at(100, 1), at(101, 2), "skip not-newer"),
        (Rule(Compare.SIZE, only_newer=True), at(101), at(100), "skip same-size"),
    ],
    ids=str,
)
def test_checksums_and_times(rule: Rule, source: ObjectInfo, there: ObjectInfo, said: str) -> None:
    [decision] = merge([(source, "k")], [there], rule)
    assert f"{decision.action.value} {decision.reason}" == said
    [looked_up] = look_up_each([(source, "k")], Lookups(lambda _: there), rule)
    assert looked_up == decision


OPTIONS = [(compare, overwrite) for compare in Compare for overwrite in Overwrite]


@pytest.mark.parametrize(("compare", "overwrite"), OPTIONS)
def test_a_policy_and_a_comparison_make_one_rule(compare: Compare, overwrite: Overwrite) -> None:
    rule = rule_of(TransferOptions(compare=compare, overwrite=overwrite))
    assert rule.only_newer is (overwrite is Overwrite.IF_NEWER)
    expected = {Overwrite.ALWAYS: Compare.ALWAYS, Overwrite.NEVER: Compare.NAME}.get(overwrite, compare)
    assert rule.compare is expected


def test_checksums_are_looked_up_on_the_side_that_does_not_list_them() -> None:
    asked: list[str] = []

    def looking(side: str, **found: Any) -> Callable[[str], ObjectInfo | None]:
        def look(key: str) -> ObjectInfo | None:
            asked.append(f"{side} {key}")
            return ObjectInfo(key, 1, found.pop("version", "v"), **found)

        return look

    def one_rule(source: ObjectInfo, there: ObjectInfo, lookups: Lookups) -> str:
        asked.clear()
        [decision] = merge([(source, "d")], [there], Rule(Compare.CHECKSUM), lookups=lookups)
        return f"{decision.action.value} {decision.reason}"

    plain, there = ObjectInfo("s", 1, "v"), ObjectInfo("d", 1, "w")
    both = Lookups(looking("there", crc32c=7), looking("source", crc32c=7))
    assert one_rule(plain, there, both) == "skip same"
    assert sorted(asked) == ["source s", "there d"]
    assert (
        one_rule(ObjectInfo("s", 1, "v", crc32c=7), ObjectInfo("d", 1, "w", crc32c=8), both) == "copy changed-checksum"
    )
    assert asked == []
    assert one_rule(ObjectInfo("s", 2, "v"), there, both) == "copy changed-size"
    assert asked == []
    # What was overwritten since it was listed says nothing about what was listed.
    newer = Lookups(looking("there", crc32c=7), looking("source", crc32c=7, version="another"))
    assert one_rule(plain, there, newer) == "copy no-source-checksum"
    gone = Lookups(looking("there", crc32c=7), lambda _: None)
    assert one_rule(plain, there, gone) == "copy no-source-checksum"
