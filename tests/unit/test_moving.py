"""When a move may delete a source object that an earlier one has copied."""

from __future__ import annotations

import msgspec
from hypothesis import given, strategies

from skyplane_core.model import ObjectAttributes, ObjectInfo
from skyplane_core.moving import arrived, is_copy
from skyplane_core.spec import SOURCE_VERSION_KEY, Outcome, ReceiptLine

sums = strategies.none() | strategies.integers(0, 2)
attributes = strategies.none() | strategies.builds(
    ObjectAttributes,
    content_type=strategies.sampled_from(["", "text/csv"]),
    metadata=strategies.dictionaries(strategies.sampled_from(["a", SOURCE_VERSION_KEY]), strategies.just("x")),
    storage_class=strategies.sampled_from(["", "COLD"]),
    mtime_ns=strategies.none() | strategies.just(1),
)
infos = strategies.builds(
    ObjectInfo,
    key=strategies.just("k"),
    size=strategies.integers(0, 1),
    version=strategies.sampled_from(["v1", "v2"]),
    crc32c=sums,
    crc64nvme=sums,
    attributes=attributes,
)


@given(infos, infos)
def test_a_copy_has_the_bytes_and_all_that_was_said_of_them(source: ObjectInfo, there: ObjectInfo) -> None:
    if not is_copy(source, there):
        return
    assert source.size == there.size
    common = [
        (ours, theirs)
        for ours, theirs in ((source.crc32c, there.crc32c), (source.crc64nvme, there.crc64nvme))
        if None not in (ours, theirs)
    ]
    assert common
    assert common[0][0] == common[0][1]
    assert source.attributes is not None
    assert there.attributes is not None
    assert source.attributes.content_type == there.attributes.content_type
    assert source.attributes.metadata.get("a") == there.attributes.metadata.get("a")


@given(infos.filter(lambda info: info.attributes is not None), strategies.text(min_size=1))
def test_what_a_store_adds_makes_no_difference(source: ObjectInfo, version: str) -> None:
    assert source.attributes is not None
    metadata = {**source.attributes.metadata, SOURCE_VERSION_KEY: source.version}
    copied = msgspec.structs.replace(source.attributes, metadata=metadata, storage_class="COLD", mtime_ns=7)
    there = msgspec.structs.replace(source, attributes=copied, version=version)
    assert is_copy(source, there) is not (source.crc32c is None and source.crc64nvme is None)


class One:
    """A store with one object."""

    def __init__(self, info: ObjectInfo) -> None:
        self.info = info

    def head(self, key: str) -> ObjectInfo:
        return self.info

    def delete(self, key: str, precondition: object = None) -> None:
        raise AssertionError("nothing is deleted here")


@given(infos, infos)
def test_nothing_is_a_copy_of_itself(source: ObjectInfo, there: ObjectInfo) -> None:
    line = ReceiptLine("k", 0, "k", source.size, source.version, Outcome.SKIPPED, "exists")
    found = arrived(One(source), One(there), line)
    assert (found is not None) is (is_copy(source, there) and source.version != there.version)
    assert found is None or found.destination_version == there.version
