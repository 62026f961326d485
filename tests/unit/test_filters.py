"""Filters against an oracle that spells out what the documentation says."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.errors import UsageError
from skyplane_core.filters import Filters, NameRule, Passing, compiled
from skyplane_core.model import ObjectInfo
from skyplane_core.selection import Chooser, select
from skyplane_core.settings import checked_filters
from skyplane_core.spec import Selection

NOW = 1000.0


def matches(glob: str, name: str) -> bool:
    return compiled(NameRule(include=True, pattern=glob)).search(name) is not None


@pytest.mark.parametrize(
    ("glob", "matching", "others"),
    [
        ("*.csv", ["a.csv", "x/a.csv", "x/y/.csv", "x/a.csv/"], ["a.csv.gz", "a.csv/b", "acsv"]),
        ("/*.csv", ["a.csv"], ["x/a.csv"]),
        ("x/*.csv", ["x/a.csv"], ["x/y/a.csv", "z/x/a.csv"]),
        ("x/**.csv", ["x/a.csv", "x/y/a.csv"], ["z/x/a.csv"]),
        ("**/tmp/*", ["a/tmp/b", "a/b/tmp/c"], ["tmp/b", "a/tmp/b/c"]),
        ("tmp/", ["tmp/", "tmp/a", "x/tmp/a/b"], ["tmp", "atmp/a", "tmpx/a"]),
        ("/tmp/", ["tmp/a", "tmp/"], ["x/tmp/a", "tmp"]),
        ("tmp", ["tmp", "tmp/", "x/tmp"], ["tmp/a"]),
        ("?", ["a", "x/é", "x/\U0001f600"], ["ab", "a/bc"]),
        ("[a-c]1", ["a1", "x/c1"], ["d1", "-1"]),
        ("[!a-c]1", ["d1", "-1"], ["a1", "x/1"]),
        ("[]]", ["]"], ["[", "a"]),
        ("[^a]", ["^", "a"], ["b"]),
        ("a[", ["a["], ["a"]),
        ("a.b+(c)$", ["a.b+(c)$"], ["axb+(c)$", "a.bb(c)"]),
        ("*", ["a", "a/b", "a/", "\n"], []),
        ("a*b", ["a\nb", "ab"], ["a/b"]),
        ("A", ["A"], ["a"]),
    ],
)
def test_what_globs_match(glob: str, matching: list[str], others: list[str]) -> None:
    assert [name for name in [*matching, *others] if matches(glob, name)] == matching


@pytest.mark.parametrize("pattern", ["[!]x", "[z-a]"])
def test_what_is_no_glob(pattern: str) -> None:
    with pytest.raises(UsageError, match="not a pattern"):
        compiled(NameRule(include=True, pattern=pattern))


def naive_glob(glob: str, name: str) -> bool:
    """By trying all ways, a character at a time; for globs of letters, ``*``, ``**``, ``?`` and ``/``."""
    if glob.endswith("/"):
        body, tails = glob[:-1], [name[cut:] for cut in range(len(name) + 1) if name[cut : cut + 1] == "/"]
    else:
        body, tails = glob, ["", "/"]
    starts = [0] if "/" in body else [0, *(cut + 1 for cut, char in enumerate(name) if char == "/")]
    body = body.removeprefix("/")
    ends = [len(name) - len(tail) for tail in tails if name.endswith(tail)]
    return any(end >= start and naive_same(body, name[start:end]) for start in starts for end in ends)


def naive_same(glob: str, text: str) -> bool:
    if not glob:
        return not text
    if glob.startswith("**"):
        return any(naive_same(glob[2:], text[cut:]) for cut in range(len(text) + 1))
    if glob[0] == "*":
        return any(naive_same(glob[1:], text[cut:]) for cut in range(len(text) + 1) if "/" not in text[:cut])
    return bool(text) and (text[0] == glob[0] or (glob[0] == "?" and text[0] != "/")) and naive_same(glob[1:], text[1:])


GLOB = st.text("ab*?/", min_size=1, max_size=6)
NAME = st.text("ab/", min_size=1, max_size=7)


@given(GLOB, NAME)
def test_globs_match_what_all_ways_of_trying_match(glob: str, name: str) -> None:
    assert matches(glob, name) is naive_glob(glob, name)


RULE = st.builds(
    NameRule,
    include=st.booleans(),
    pattern=st.sampled_from(["a", "*b", "a/", "/a", "?b", "a/*", "*", "a.b"]),
    regex=st.booleans(),
).filter(lambda rule: not (rule.regex and rule.pattern[0] in "*?"))
FILTERS = st.builds(
    Filters,
    rules=st.lists(RULE, max_size=4).map(tuple),
    min_size=st.integers(0, 3),
    max_size=st.none() | st.integers(0, 5),
    min_age=st.sampled_from([0.0, 1.0, 5.0]),
    max_age=st.none() | st.sampled_from([0.0, 3.0, 6.0]),
    modified_since=st.sampled_from([0.0, NOW - 6, NOW - 5]),
    modified_before=st.none() | st.sampled_from([NOW - 3, NOW]),
    max_objects=st.integers(0, 4),
    max_bytes=st.integers(0, 12),
)
OBJECTS = st.dictionaries(
    st.text("ab/.", min_size=1, max_size=4),
    st.tuples(st.integers(0, 6), st.sampled_from([NOW - 7, NOW - 5, NOW - 3, NOW - 1, NOW])),
    max_size=8,
).map(lambda found: [ObjectInfo(f"p/{key}", *found[key][:1], "v", found[key][1]) for key in sorted(found)])


def naive_named(rules: tuple[NameRule, ...], name: str) -> bool:
    for rule in rules:
        hit = re.search(rule.pattern, name) is not None if rule.regex else naive_glob(rule.pattern, name)
        if hit:
            return rule.include
    return not (rules and rules[-1].include)


def naive(filters: Filters, objects: list[ObjectInfo]) -> tuple[list[ObjectInfo], list[str]]:
    taken: list[ObjectInfo] = []
    for info in objects:
        age = NOW - info.modified
        if not naive_named(filters.rules, info.key[2:]):
            continue
        if info.size < filters.min_size or (filters.max_size is not None and info.size > filters.max_size):
            continue
        if info.modified < filters.modified_since:
            continue
        if filters.modified_before is not None and not info.modified < filters.modified_before:
            continue
        if age < filters.min_age or (filters.max_age is not None and age > filters.max_age):
            continue
        if filters.max_objects and len(taken) + 1 > filters.max_objects:
            return taken, ["max_objects"]
        if filters.max_bytes and sum(one.size for one in taken) + info.size > filters.max_bytes:
            return taken, ["max_bytes"]
        taken.append(info)
    return taken, []


@given(FILTERS, OBJECTS)
def test_a_filtered_selection_is_what_the_rules_say_one_by_one(filters: Filters, objects: list[ObjectInfo]) -> None:
    stopped: list[str] = []
    selection = Selection("p", tree=True, filters=filters)
    assert (list(select(selection, objects, NOW, stopped)), stopped) == naive(filters, objects)


@given(FILTERS, OBJECTS)
def test_the_predicate_agrees_with_the_stream_but_for_limits(filters: Filters, objects: list[ObjectInfo]) -> None:
    selection = Selection("p/", filters=filters)
    chosen = [info for info in objects if Chooser(selection, NOW)(info)]
    taken = list(select(selection, objects, NOW))
    assert chosen[: len(taken)] == taken


def test_nothing_after_a_limit_is_listed_and_nothing_is_held() -> None:
    taken = itertools.count()
    endless = (ObjectInfo(f"{number:06}", 1, "v") for number in taken)
    assert len(list(select(Selection("", filters=Filters(max_objects=3)), endless))) == 3
    assert next(taken) == 4
    endless = (ObjectInfo(f"{number:06}", 1, "v") for number in taken)
    assert next(iter(select(Selection("", filters=Filters(min_size=1)), endless))).key == "000005"


def test_names_are_relative_to_the_source() -> None:
    keys = ["in/a", "in/in/a"]
    selection = Selection("in", tree=True, filters=Filters(rules=(NameRule(include=True, pattern="/in/a"),)))
    assert [info.key for info in select(selection, [ObjectInfo(key, 1, "v") for key in keys])] == ["in/in/a"]


def test_the_first_rule_that_matches_decides_and_the_last_says_what_is_otherwise() -> None:
    def left(*rules: tuple[bool, str]) -> list[str]:
        passing = Passing(Filters(rules=tuple(NameRule(*rule) for rule in rules)), NOW)
        return [name for name in ("a.csv", "b.csv", "c.tmp", "d") if passing.named(name)]

    assert left() == ["a.csv", "b.csv", "c.tmp", "d"]
    assert left((True, "*.csv")) == ["a.csv", "b.csv"]
    assert left((False, "*.tmp")) == ["a.csv", "b.csv", "d"]
    assert left((True, "a.csv"), (False, "*.csv")) == ["a.csv", "c.tmp", "d"]
    assert left((False, "a.csv"), (True, "*.csv")) == ["b.csv"]
    assert left((True, "*.csv"), (False, "*")) == ["a.csv", "b.csv"]
    assert left((False, "*.csv"), (True, "a.csv")) == []


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        (Filters(min_size=-1), "min_size cannot be -1"),
        (Filters(max_size=-1), "max_size cannot be -1"),
        (Filters(min_age=-1), "min_age cannot be -1"),
        (Filters(min_size=5, max_size=4), "min_size is 5 and max_size 4"),
        (Filters(min_age=5, max_age=4), "min_age is 5 and max_age 4"),
        (Filters(max_objects=-1), "max_objects cannot be -1"),
        (Filters(rules=(NameRule(include=True, pattern=""),)), "empty pattern"),
        (Filters(rules=(NameRule(include=True, pattern="(", regex=True),)), r"'\(' is not a pattern"),
        (
            Filters(rules=(NameRule(include=False, pattern="*"), NameRule(include=True, pattern="*.csv"))),
            r"'\*.csv' comes after one that matches everything",
        ),
        (Filters(rules=({"include": 1},)), "filters of the transfer|rules cannot be"),  # type: ignore[arg-type]
    ],
    ids=str,
)
def test_filters_that_cannot_be_meant_are_refused(filters: Filters, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        checked_filters(filters)
