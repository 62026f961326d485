"""Deletions as values: what may go, how much, and what a merge says, against an oracle that knows both sides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.compare import Rule
from skyplane_core.diff import Action, Mirror, mapped, merge
from skyplane_core.errors import DeletionRefused
from skyplane_core.filters import Filters, NameRule, Passing
from skyplane_core.mirror import check_cap, may_go
from skyplane_core.model import ObjectInfo, Precondition
from skyplane_core.selection import Chooser
from skyplane_core.spec import Compare, DeleteCap, KeyMapping, MappingKind, Selection

TREE = KeyMapping(MappingKind.PREFIX, "s", "d")


def info(key: str, size: int = 1, version: str = "v", modified: float = 0.0) -> ObjectInfo:
    return ObjectInfo(key, size, version, modified)


@pytest.mark.parametrize(
    ("key", "goes"),
    [
        ("d/a", True), ("d/a/b", True), ("d/a/", True), ("d/", False), ("d/.skyplane/t/receipt.json", False),
        ("d/x/.skyplane/y", False), ("d/.skyplane", True), ("d/a.tmp", False), ("d/large", False),
    ],
)  # fmt: skip
def test_what_may_go(key: str, *, goes: bool) -> None:
    filters = Filters(rules=(NameRule(include=False, pattern="*.tmp"),), max_size=10)
    assert may_go(filters, TREE, 0.0)(info(key, 100 if "large" in key else 1)) is goes


@pytest.mark.parametrize(
    ("min_age", "max_age", "goes"), [(0, None, True), (10, None, False), (0, 3, False), (4, 6, True)]
)
def test_ages_hold_for_the_destination_as_well(min_age: float, max_age: float | None, *, goes: bool) -> None:
    filters = Filters(min_age=min_age, max_age=max_age)
    assert may_go(filters, TREE, 100.0)(info("d/a", modified=95.0)) is goes


def test_the_root_of_a_bucket_has_no_marker_and_reserves_its_own_state() -> None:
    may = may_go(Filters(), KeyMapping(MappingKind.PREFIX, "s", ""), 0.0)
    assert [may(info(key)) for key in ("a", ".skyplane/t/x", "a/.skyplane/x")] == [True, False, False]


@given(st.integers(0, 300), st.integers(0, 300), st.none() | st.integers(0, 300), st.none() | st.integers(0, 100))
def test_the_cap_is_a_number_and_a_share(objects: int, more: int, most: int | None, percent: int | None) -> None:
    held = objects + more
    allowed = (most is None or objects <= most) and (percent is None or objects <= held * percent / 100)
    if allowed:
        check_cap(DeleteCap(most, percent), objects, held, "gs://d")
    else:
        with pytest.raises(DeletionRefused, match=rf"gs://d.*{objects} of {held}"):
            check_cap(DeleteCap(most, percent), objects, held, "gs://d")


NAMES = st.dictionaries(st.text("ab/.", min_size=1, max_size=4), st.integers(0, 2), max_size=8)
RULES = st.lists(
    st.builds(NameRule, include=st.booleans(), pattern=st.sampled_from(["a*", "b", "a/", "?"])), max_size=2
)


@given(NAMES, NAMES, RULES, st.integers(0, 1))
def test_a_mirror_deletes_what_has_no_source_and_passes_the_filters(
    source: dict[str, int], there: dict[str, int], rules: list[NameRule], min_size: int
) -> None:
    filters = Filters(rules=tuple(rules), min_size=min_size)
    passing = Passing(filters, 0.0)
    mirror = Mirror(Chooser(Selection("s", tree=True, filters=filters)), may_go(filters, TREE, 0.0))
    listed = [info(f"s/{name}", source[name]) for name in sorted(source)]
    held = [info(f"d/{name}", there[name], "w") for name in sorted(there)]
    decisions = list(merge(mapped(listed, TREE), held, Rule(Compare.SIZE), mirror=mirror))
    assert [decision.destination_key for decision in decisions] == sorted({d.destination_key for d in decisions})
    deleted = {d.destination_key for d in decisions if d.action is Action.DELETE}
    assert deleted == {
        f"d/{name}" for name, size in there.items() if name not in source and passing(name, info(f"d/{name}", size))
    }
    assert all(d.precondition == Precondition(version="w") for d in decisions if d.action is Action.DELETE)
    copied_or_left = {d.source.key for d in decisions if d.action is not Action.DELETE}
    assert copied_or_left == {f"s/{name}" for name, size in source.items() if passing(name, info(name, size))}
    without = list(merge(mapped([one for one in listed if mirror.takes_part(one)], TREE), held, Rule(Compare.SIZE)))
    assert [d for d in decisions if d.action is not Action.DELETE] == without


def test_markers_that_a_directory_implies_stay() -> None:
    source, there = [info("s/full/a")], [info("d/empty/"), info("d/full/"), info("d/full/a")]

    def deleted(*, implied: bool) -> list[str]:
        mirror = Mirror(Chooser(Selection("s", tree=True)), may_go(Filters(), TREE, 0.0), implied)
        decisions = merge(mapped(source, TREE), there, Rule(Compare.NAME), mirror=mirror)
        return [d.destination_key for d in decisions if d.action is Action.DELETE]

    assert deleted(implied=True) == ["d/empty/"]
    assert deleted(implied=False) == ["d/empty/", "d/full/"]
