"""Listings: order, paging, prefixes, delimiters."""

from __future__ import annotations

import msgspec
import pytest

from skyplane_core.errors import BucketNotFound
from skyplane_core.model import StoreConfig
from skyplane_core.stores.base import ObjectStore
from skyplane_core.stores.registry import open_store
from tests.conformance.conftest import Put

KEYS = ["a!", "a-b", "a.txt", "a/b", "a/b-c", "a/b.d/e", "a/c/d", "a0", "b", "ÿ", "漢", "\U0001f6f0"]
"""In the order of their UTF-8 bytes, which neither a directory walk nor UTF-16 has."""


@pytest.fixture
def filled(store: ObjectStore, put: Put) -> ObjectStore:
    for key in reversed(KEYS):
        put(key, key.encode())
    return store


def keys(store: ObjectStore, prefix: str = "", start_after: str = "", delimiter: str = "") -> list[str]:
    return [info.key for info in store.list(prefix, start_after=start_after, delimiter=delimiter)]


def test_an_empty_bucket_lists_nothing(store: ObjectStore) -> None:
    assert keys(store) == []


def test_keys_come_in_the_order_of_their_bytes(filled: ObjectStore) -> None:
    assert sorted(KEYS, key=str.encode) == KEYS
    assert keys(filled) == KEYS


def test_an_entry_has_the_size_and_the_version_of_a_head(filled: ObjectStore) -> None:
    for info in filled.list():
        head = filled.head(info.key)
        assert (info.size, info.version) == (len(info.key.encode()), head.version)
        assert head.size == info.size
        assert abs(info.modified - head.modified) < 2
        assert filled.capabilities.listing_has_crc32c or info.crc32c is None
        assert filled.capabilities.listing_has_attributes or info.attributes is None


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "a/b.d/", "a.t", "nothing", "漢"])
def test_a_prefix_selects_by_its_bytes(filled: ObjectStore, prefix: str) -> None:
    assert keys(filled, prefix) == [key for key in KEYS if key.startswith(prefix)]


@pytest.mark.parametrize("start_after", ["a", "a-b", "a/", "a/b", "a/b.c", "a/b.d/", "a/z", "ÿ", "\U0001f6f0", "zz"])
def test_start_after_leaves_out_what_is_not_behind_it(filled: ObjectStore, start_after: str) -> None:
    assert keys(filled, start_after=start_after) == [key for key in KEYS if key.encode() > start_after.encode()]


def test_start_after_within_a_prefix(filled: ObjectStore) -> None:
    assert keys(filled, "a/", start_after="a/b-c") == ["a/b.d/e", "a/c/d"]
    assert keys(filled, "a/", start_after="Z") == [key for key in KEYS if key.startswith("a/")]
    assert keys(filled, "a/", start_after="b") == []


@pytest.mark.parametrize(("prefix", "delimiter"), [("", "/"), ("a/", "/"), ("a/b", "/"), ("a", "b"), ("", ".d")])
def test_a_delimiter_leaves_out_what_lies_behind_it(filled: ObjectStore, prefix: str, delimiter: str) -> None:
    wanted = [key for key in KEYS if key.startswith(prefix) and delimiter not in key[len(prefix) :]]
    assert keys(filled, prefix, delimiter=delimiter) == wanted


def test_a_listing_goes_on_over_many_pages(store: ObjectStore, put: Put) -> None:
    names = [f"d{number % 7}/{number:05}" for number in range(1101)]
    for name in names:
        put(name)
    assert keys(store) == sorted(names)
    assert keys(store, start_after=sorted(names)[500]) == sorted(names)[501:]


def test_a_listing_is_a_stream(filled: ObjectStore) -> None:
    assert next(iter(filled.list())).key == KEYS[0]


def test_a_bucket_that_is_not_there(config: StoreConfig) -> None:
    missing = open_store(msgspec.structs.replace(config, bucket=f"{config.bucket}-missing"))
    with pytest.raises(BucketNotFound):
        missing.probe()
    with pytest.raises(BucketNotFound) as caught:
        list(missing.list())
    assert caught.value.next_step
    assert missing.uri in caught.value.where
    missing.close()
