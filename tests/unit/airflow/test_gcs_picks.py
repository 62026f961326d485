"""What is copied where within GCS: the stock operator's own code, on a hook in memory, says what is right."""

# ruff: noqa: TID253  # this compares with the installed stock operator
from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.providers.google.cloud.transfers.gcs_to_gcs import GCSToGCSOperator
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_provider_skyplane.compat import AirflowException
from airflow_provider_skyplane.transfers.gcs_picks import (
    Wanted,
    Window,
    as_listed_now,
    onto_itself,
    rank,
    within_itself,
)
from skyplane_core.filters import Filters
from skyplane_core.keys import map_key, select
from skyplane_core.model import ObjectInfo
from skyplane_core.spec import Pick, Selection

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
NAMES = st.text("ab/.", min_size=1, max_size=5)
BUCKETS = st.sets(NAMES, min_size=1, max_size=8)
PREFIXES = st.text("ab/", max_size=3)
DESTINATIONS = st.none() | st.text("x/", max_size=3)


class Memory:
    """A bucket, as the stock operator's hook and as our source."""

    def __init__(self, keys: set[str]) -> None:
        self.keys = sorted(keys)
        self.copied: list[tuple[str, str]] = []

    def list(self, _bucket: str, prefix: str = "", delimiter: str | None = None, match_glob: Any = None) -> list[str]:
        assert match_glob is None
        names = [key for key in self.keys if key.startswith(prefix)]
        if not delimiter:
            return names
        ends = {key: key.find(delimiter, len(prefix)) for key in names}
        folded = {key[: at + len(delimiter)] for key, at in ends.items() if at >= 0}
        return sorted(folded) or names

    def exists(self, *bucket_and_key: str) -> bool:
        return bucket_and_key[-1] in self.keys

    def rewrite(self, _source: str, key: str, _destination: str, name: str | None) -> None:
        self.copied.append((key, name or key))

    def listed(self, selection: Selection, after: str = "") -> Iterator[str]:
        infos = [ObjectInfo(key, 1, "v") for key in self.keys if key.startswith(selection.prefix) and key > after]
        return (info.key for info in select(selection, infos))


def wanted(*prefixes: str, destination: str | None = None, delimiter: str = "", **flags: bool) -> Wanted:
    return Wanted("s", prefixes, destination, delimiter, **{"exact": False, "required": False, **flags})


def copies(bucket: Memory, picks: list[Pick]) -> list[tuple[str, str]]:
    found = []
    for pick in picks:
        keys = bucket.keys if pick.selection.filters.keys is None else pick.selection.filters.keys
        infos = [
            ObjectInfo(key, 1, "v") for key in keys if key in bucket.keys and key.startswith(pick.selection.prefix)
        ]
        found += [(info.key, map_key(pick.mapping, info.key)) for info in select(pick.selection, infos)]
    return found


def stock(bucket: Memory, prefix: str, destination: str | None, *, exact: bool = False) -> list[tuple[str, str]]:
    operator = GCSToGCSOperator(
        task_id="copy",
        source_bucket="s",
        source_object=prefix,
        destination_bucket="d",
        destination_object=destination,
        exact_match=exact,
    )
    copy = operator._copy_source_with_wildcard if "*" in prefix else operator._copy_source_without_wildcard
    copy(hook=bucket, prefix=prefix)
    return bucket.copied


@given(BUCKETS, PREFIXES, DESTINATIONS, st.booleans())
def test_prefixes_and_names_go_where_the_stock_operator_puts_them(
    keys: set[str],
    prefix: str,
    destination: str | None,
    exact: bool,  # Hypothesis gives arguments by position
) -> None:
    bucket = Memory(keys)
    expected = stock(bucket, prefix, destination, exact=exact)
    # A lone folder marker is copied under another name by the stock operator, or onto one of no meaning.
    assume(not (len(expected) == 1 and expected[0][0].endswith("/")))
    assert sorted(
        copies(bucket, wanted(prefix, destination=destination, exact=exact).picks(bucket, Filters()))
    ) == sorted(expected)


@given(BUCKETS, PREFIXES, st.text("ab.", max_size=2), DESTINATIONS)
def test_wildcards_select_and_rename_as_the_stock_operator_does(
    keys: set[str], start: str, end: str, destination: str | None
) -> None:
    bucket = Memory(keys)
    found = copies(bucket, wanted(f"{start}*{end}", destination=destination).picks(bucket, Filters()))
    expected = stock(bucket, f"{start}*{end}", destination)
    # What no object is called, and what it copies because nothing matches, are left out here.
    matching = [pair for pair in expected if pair[0] in keys and (not end or pair[0].endswith(end))]
    matching = [pair for pair in matching if not end or end in pair[0][len(start) :]]
    assert sorted(found) == sorted(matching)


def test_several_names_under_a_directory_are_one_pick() -> None:
    bucket = Memory({"a/x", "b/y", "c/z/1", "c/z/2"})
    picks = wanted("b/y", "a/x", "c/", destination="out/").picks(bucket, Filters())
    assert len(picks) == 2
    assert copies(bucket, picks) == [("a/x", "out/x"), ("b/y", "out/y"), ("c/z/1", "out/z/1"), ("c/z/2", "out/z/2")]


def test_a_required_name_that_is_not_there() -> None:
    with pytest.raises(AirflowException, match="none does not exist in bucket s"):
        wanted("none", required=True).picks(Memory({"a"}), Filters())
    assert wanted("none").picks(Memory({"a"}), Filters()) == []


@pytest.mark.parametrize(
    ("prefix", "destination", "inside"),
    [
        ("a/", "b/", False),
        ("a/", "a/b/", True),
        ("a/b/", "a/", True),
        ("a", "ab/", False),
        ("", "b/", True),
        ("a/*", "a/old/", True),
    ],
)
def test_copies_into_what_is_being_copied_are_seen(prefix: str, destination: str, *, inside: bool) -> None:
    bucket = Memory({"a/x", "a/b/y", "a/b/z"})
    picks = wanted(prefix, destination=destination).picks(bucket, Filters())
    assert within_itself(picks) is inside
    now = [as_listed_now(pick, bucket) for pick in picks]
    assert copies(bucket, now) == copies(bucket, picks)
    assert all(pick.selection.filters.keys is not None for pick in now)


def test_a_name_that_would_stay_the_same_is_found() -> None:
    bucket = Memory({"a/x", "a/y", "b"})
    assert onto_itself(wanted("a/").picks(bucket, Filters()), bucket) == "a/x"
    assert onto_itself(wanted("b").picks(bucket, Filters()), bucket) == "b"
    assert onto_itself(wanted("a/", destination="c/").picks(bucket, Filters()), bucket) is None


def test_the_order_is_that_of_what_was_asked_for() -> None:
    assert [rank(("b/", "a*x", "a/"), key) for key in ("b/1", "a/1", "a", "c")] == [0, 1, 1, 3]


SECOND = datetime.timedelta(seconds=1)


@pytest.mark.parametrize(
    ("window", "since", "before"),
    [
        (Window(), 0.0, None),
        (Window(is_older_than=60, last_modified_time=NOW), 0.0, NOW.timestamp() - 60),
        (Window(last_modified_time=NOW - SECOND), NOW.timestamp() - 1 + 1e-6, None),
        (Window(last_modified_time=NOW - SECOND, maximum_modified_time=NOW), NOW.timestamp() - 1, NOW.timestamp()),
        (Window(maximum_modified_time=NOW.replace(tzinfo=None)), 0.0, NOW.timestamp()),
    ],
)
def test_windows_of_time(window: Window, since: float, before: float | None) -> None:
    filters = window.filters(NOW)
    assert filters.modified_since == pytest.approx(since, abs=1e-7)
    assert filters.modified_before == before
