import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.model import ObjectInfo
from skyplane_core.selection import select, selects
from skyplane_core.spec import Selection

SELECTION = st.builds(
    Selection,
    st.text("ab/", max_size=3),
    single=st.booleans(),
    tree=st.booleans(),
    delimiter=st.sampled_from(["", "/"]),
    glob=st.sampled_from(["", "*a", "*/*", "[ab]*"]),
    drop_covered_markers=st.booleans(),
)


def names(selection: Selection, keys: list[str]) -> list[str]:
    return [info.key for info in select(selection, [ObjectInfo(key, 1, "v") for key in keys])]


@pytest.mark.parametrize(
    ("selection", "keys", "kept"),
    [
        (Selection("foo"), ["foo", "foo/x", "foobar", "fo"], ["foo", "foo/x", "foobar"]),
        (Selection("foo", tree=True), ["foo", "foo/", "foo/x", "foobar/x"], ["foo/", "foo/x"]),
        (Selection("foo/", tree=True), ["foo/x", "foobar/x"], ["foo/x"]),
        (Selection("", tree=True), ["/a", "a"], ["/a", "a"]),
        (Selection("/", tree=True), ["/a", "a"], ["/a", "a"]),
        (Selection("foo", single=True), ["foo", "foo/x", "foobar"], ["foo"]),
        (Selection("data/", delimiter="/"), ["data/f", "data/a/f"], ["data/f"]),
        (Selection("data", tree=True, delimiter="/"), ["data/f", "data/a/f"], ["data/f"]),
        (Selection("data/", glob="data/*0"), ["data/a/f0", "data/f0", "data/f1"], ["data/a/f0", "data/f0"]),
        (Selection("", glob="*.TXT"), ["a.TXT", "a.txt"], ["a.TXT"]),
    ],
)
def test_what_takes_part(selection: Selection, keys: list[str], kept: list[str]) -> None:
    assert names(selection, keys) == kept


def test_markers_that_are_covered_by_the_next_key_are_dropped() -> None:
    keys = ["a/", "a/b", "a/c/", "a/c/d", "abc", "abcdef", "lonely/"]
    assert names(Selection("", drop_covered_markers=True), keys) == ["a/b", "a/c/d", "abc", "abcdef", "lonely/"]
    assert names(Selection(""), keys) == keys


def test_a_marker_is_covered_only_by_what_takes_part() -> None:
    keys = ["a/", "a/b.txt", "c"]
    assert names(Selection("", glob="*[/c]", drop_covered_markers=True), keys) == ["a/", "c"]
    assert names(Selection("", glob="*", drop_covered_markers=True), keys) == ["a/b.txt", "c"]


def test_a_marker_asked_for_by_name_is_kept() -> None:
    assert names(Selection("a/", single=True, drop_covered_markers=True), ["a/", "a/b"]) == ["a/"]
    assert selects(Selection("a/", single=True, drop_covered_markers=True), "a/", "a/b")


@pytest.mark.parametrize(
    ("prefix", "key", "kept"),
    [
        ("", ".skyplane/t/journal", False),
        ("", "a/.skyplane/t/journal", False),
        ("a/", "a/.skyplane/t/journal", False),
        ("a", "a/.skyplane/t/journal", False),
        ("a/.sky", "a/.skyplane/t/journal", False),
        ("", ".skyplane/", False),
        ("", ".skyplane", True),
        ("", "a.skyplane/x", True),
        ("", ".skyplaned/x", True),
        ("a/.skyplane/", "a/.skyplane/t/journal", True),
        ("a/.skyplane/", "a/.skyplane/.skyplane/x", False),
    ],
)
def test_the_reserved_segment_is_left_out_unless_asked_for(prefix: str, key: str, *, kept: bool) -> None:
    assert selects(Selection(prefix), key) is kept
    assert selects(Selection(key, single=True), key)


def test_a_reserved_tree_may_be_named_without_its_slash() -> None:
    assert selects(Selection("a/.skyplane", tree=True), "a/.skyplane/t/journal")


@given(SELECTION, st.lists(st.text("ab/", max_size=5), unique=True).map(sorted))
def test_the_stream_agrees_with_the_predicate(selection: Selection, keys: list[str]) -> None:
    candidates = [key for key in keys if selects(selection, key)]
    following: list[str | None] = [*candidates[1:], None]
    expected = [key for key, after in zip(candidates, following, strict=False) if selects(selection, key, after)]
    assert names(selection, keys) == expected
