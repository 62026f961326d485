"""The mapping of keys: the truth table, the old engine's mistakes by name, and what must hold for all keys."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from skyplane_core.errors import UsageError
from skyplane_core.keys import check_key, listing_prefix, map_key, preserves_order, rule, selects, source_prefix
from skyplane_core.mirror import source_key
from skyplane_core.model import Attestation
from skyplane_core.spec import KeyMapping, MappingKind, Selection
from skyplane_core.stores.base import Capabilities

OBJECT, PREFIX, APPEND, REPLACE = MappingKind.OBJECT, MappingKind.PREFIX, MappingKind.APPEND, MappingKind.REPLACE
FLATTEN = MappingKind.FLATTEN
KEY = st.text("ab/.é\U0001f600", max_size=8)


@pytest.mark.parametrize(
    ("kind", "source", "key", "destination", "result"),
    [
        (OBJECT, "foo/a.txt", "foo/a.txt", "bar", "bar"),
        (OBJECT, "foo/a.txt", "foo/a.txt", "bar/", "bar/a.txt"),
        (OBJECT, "foo/a.txt", "foo/a.txt", "", "a.txt"),
        (OBJECT, "foo/a.txt", "foo/a.txt", "/", "a.txt"),
        (OBJECT, "foo/a.txt", "foo/a.txt", "/bar", "/bar"),
        (OBJECT, "a.txt", "a.txt", "bar/", "bar/a.txt"),
        (OBJECT, "foo/", "foo/", "qux/", "qux/foo/"),
        (OBJECT, "x/foo//", "x/foo//", "", "foo//"),
        (OBJECT, "/", "/", "", "/"),
        (PREFIX, "foo/", "foo/a.txt", "bar", "bar/a.txt"),
        (PREFIX, "foo", "foo/a.txt", "bar", "bar/a.txt"),
        (PREFIX, "foo", "foo/a.txt", "bar/", "bar/a.txt"),
        (PREFIX, "", "foo/bar/baz", "", "foo/bar/baz"),
        (PREFIX, "/", "foo/bar/baz", "", "foo/bar/baz"),
        (PREFIX, "", "foo/bar/baz", "/", "foo/bar/baz"),
        (PREFIX, "/", "foo/bar/baz", "/", "foo/bar/baz"),
        (PREFIX, "", "foo/bar/baz", "qux", "qux/foo/bar/baz"),
        (PREFIX, "", "foo/bar/baz", "qux/", "qux/foo/bar/baz"),
        (PREFIX, "bar/foo/", "bar/foo/b", "bar", "bar/b"),
        (PREFIX, "foo", "foo//a", "bar", "bar//a"),
        (PREFIX, "", "/a", "bar", "bar//a"),
        (PREFIX, "foo", "foo/", "bar", "bar/"),
        (PREFIX, "foo", "foo/", "", ""),
        (APPEND, "data/", "data/f0", "in/", "in/data/f0"),
        (APPEND, "data/", "data/f0", "", "data/f0"),
        (REPLACE, "data/", "data/f0", "ap/", "ap/f0"),
        (REPLACE, "data", "data/f0", "ns/", "ns//f0"),
        (REPLACE, "", "data/f0", "ep/", "ep/data/f0"),
        (REPLACE, "data/*0", "data/f0", "x/", "data/f0"),
        (FLATTEN, "data/", "data/a/f0", "x/", "x/f0"),
        (FLATTEN, "", "f0", "x", "xf0"),
        (FLATTEN, "", "a/f0/", "x/", ""),
    ],
)
def test_the_truth_table(kind: MappingKind, source: str, key: str, destination: str, result: str) -> None:
    assert map_key(KeyMapping(kind, source, destination), key) == result


def test_copying_a_tree_to_a_bare_bucket_writes_no_leading_slash() -> None:
    assert map_key(KeyMapping(PREFIX, "foo", ""), "foo/a.txt") == "a.txt"


def test_a_sibling_is_not_selected_and_aborts_nothing() -> None:
    selection, mapping = rule("foo", "bar", recursive=True)
    keys = ["foo/x", "foobar/x"]
    assert [map_key(mapping, key) for key in keys if selects(selection, key)] == ["bar/x"]


def test_only_the_prefix_is_stripped() -> None:
    assert map_key(KeyMapping(PREFIX, "a", "a"), "a/banana") == "a/banana"
    assert map_key(KeyMapping(PREFIX, "a", ""), "a/banana") == "banana"


def test_an_object_with_the_name_of_the_tree_is_not_under_it() -> None:
    selection, _ = rule("foo", "bar", recursive=True)
    assert not selects(selection, "foo")


@pytest.mark.parametrize(
    "mapping", [KeyMapping(OBJECT, "foo/a", "bar"), KeyMapping(PREFIX, "foo", "bar"), KeyMapping(PREFIX, "foo/", "")]
)
def test_a_key_that_the_mapping_is_not_for(mapping: KeyMapping) -> None:
    with pytest.raises(UsageError, match="foobar/x"):
        map_key(mapping, "foobar/x")


def test_the_rules_of_cp() -> None:
    assert rule("a/b", "c", recursive=False) == (Selection("a/b", single=True), KeyMapping(OBJECT, "a/b", "c"))
    assert rule("a/b", "c", recursive=True) == (Selection("a/b", tree=True), KeyMapping(PREFIX, "a/b", "c"))
    assert rule("/", "c", recursive=True) == (Selection("", tree=True), KeyMapping(PREFIX, "", "c"))
    with pytest.raises(UsageError, match="Add -r"):
        rule("", "c", recursive=False)


@given(KEY, KEY, KEY, KEY)
def test_two_keys_of_a_tree_never_meet(prefix: str, destination: str, one: str, other: str) -> None:
    selection, mapping = rule(prefix, destination, recursive=True)
    keys = [source_prefix(selection) + one, source_prefix(selection) + other]
    assume(all(selects(selection, key) for key in keys))
    _ascends(mapping, selection, *keys)


@given(KEY, KEY, KEY, KEY)
def test_two_keys_never_meet_by_append(prefix: str, destination: str, one: str, other: str) -> None:
    _ascends(KeyMapping(APPEND, prefix, destination), Selection(prefix), prefix + one, prefix + other)


@given(KEY, KEY, KEY, KEY, KEY)
def test_two_keys_never_meet_by_replacing_a_prefix(
    source: str, more: str, destination: str, one: str, other: str
) -> None:
    prefix = source + more
    _ascends(KeyMapping(REPLACE, source, destination), Selection(prefix), prefix + one, prefix + other)


def _ascends(mapping: KeyMapping, selection: Selection, one: str, other: str) -> None:
    assert preserves_order(mapping, selection)
    first, second = map_key(mapping, one), map_key(mapping, other)
    assert (first.encode() < second.encode()) == (one.encode() < other.encode())
    assert (first == second) == (one == other)
    for known in (selection, None):
        assert first.startswith(listing_prefix(mapping, known))


def test_replacing_inside_a_key_may_let_two_keys_meet_and_says_so() -> None:
    mapping = KeyMapping(REPLACE, "x", "")
    assert map_key(mapping, "ax") == map_key(mapping, "xa")
    assert not preserves_order(mapping, Selection(""))
    assert preserves_order(mapping, Selection("ax", single=True))
    assert not preserves_order(KeyMapping(FLATTEN, "", "x/"), Selection(""))
    assert listing_prefix(KeyMapping(FLATTEN, "", "x/"), Selection("a/")) == "x/"


@given(KEY.filter(bool), KEY)
def test_one_object_is_its_own_listing(source: str, destination: str) -> None:
    selection, mapping = rule(source, destination, recursive=False)
    key = map_key(mapping, source)
    assert key
    assert listing_prefix(mapping, selection) == key
    assert preserves_order(mapping, selection)


@pytest.mark.parametrize(
    ("mapping", "selection", "prefix"),
    [
        (KeyMapping(PREFIX, "foo", "bar"), None, "bar/"),
        (KeyMapping(PREFIX, "foo", ""), None, ""),
        (KeyMapping(PREFIX, "", "bar"), Selection("foo", tree=True), "bar/foo/"),
        (KeyMapping(PREFIX, "foo", "bar"), Selection("f"), "bar/"),
        (KeyMapping(APPEND, "data/", "in/"), None, "in/"),
        (KeyMapping(APPEND, "data/", "in/"), Selection("data/"), "in/data/"),
        (KeyMapping(REPLACE, "data/", "in/"), None, ""),
        (KeyMapping(REPLACE, "data/", "in/"), Selection("data/sub"), "in/sub"),
        (KeyMapping(REPLACE, "data/*0", "in/"), Selection("data/", glob="data/*0"), ""),
    ],
)
def test_what_of_the_destination_is_listed(mapping: KeyMapping, selection: Selection | None, prefix: str) -> None:
    assert listing_prefix(mapping, selection) == prefix


def test_the_source_is_listed_as_narrowly_as_possible() -> None:
    assert source_prefix(Selection("foo", tree=True)) == "foo/"
    assert source_prefix(Selection("foo")) == "foo"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("a", None),
        ("é" * 8, None),
        ("é" * 8 + "a", "17 bytes"),
        ("", "empty"),
        ("a\0b", "NUL"),
        ("a\udc80", "UTF-8"),
    ],
)
def test_keys_that_a_store_cannot_hold(key: str, said: str | None) -> None:
    reason = check_key(key, Capabilities(Attestation.WHOLE, max_key_bytes=16))
    assert reason is None if said is None else said in (reason or "")


@pytest.mark.parametrize(("key", "said"), [("a/b", None), ("a./b", "dot"), ("a\\b", "backslash"), ("a\nb", "control")])
def test_keys_that_azure_would_take_for_others(key: str, said: str | None) -> None:
    reason = check_key(key, Capabilities(Attestation.WHOLE, blob_names=True))
    assert reason is None if said is None else said in (reason or "")


@given(KEY, KEY, KEY)
def test_a_tree_that_is_copied_there_and_back_has_the_keys_that_it_had(prefix: str, other: str, name: str) -> None:
    (selection, there), (_, back) = rule(prefix, other, recursive=True), rule(other, prefix, recursive=True)
    key = source_prefix(selection) + name
    copied = map_key(there, key)
    # Only the marker of the root itself is lost on the way, where the other root is a bucket's and has none.
    assume(copied and selects(selection, key))
    assert selects(Selection(other, tree=True), copied)
    assert map_key(back, copied) == source_key(there, copied) == key


@given(KEY.filter(bool), KEY.filter(bool))
def test_an_object_that_is_copied_there_and_back_has_the_key_that_it_had(one: str, other: str) -> None:
    assume(not other.endswith("/") and not one.endswith("/"))
    copied = map_key(KeyMapping(OBJECT, one, other), one)
    assert map_key(KeyMapping(OBJECT, copied, one), copied) == one


@given(KEY, KEY, KEY)
def test_what_was_appended_or_replaced_is_undone_by_replacing(prefix: str, other: str, name: str) -> None:
    key = prefix + name
    appended = map_key(KeyMapping(APPEND, prefix, other), key)
    assert map_key(KeyMapping(REPLACE, other, ""), appended) == key
    replaced = map_key(KeyMapping(REPLACE, prefix, other), key)
    assert map_key(KeyMapping(REPLACE, other, prefix), replaced) == key
