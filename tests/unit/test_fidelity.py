"""What becomes of attributes: nothing is lost unsaid, whatever the rules, the object and the store."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.errors import StoreRejected
from skyplane_core.fidelity import MODE, fit, fit_at
from skyplane_core.model import AttributeRules, ObjectAttributes, StoreConfig, Unfit
from skyplane_core.mtimes import GSUTIL_MTIME, MTIME, recorded
from skyplane_core.spec import SOURCE_VERSION_KEY
from skyplane_core.stores import holding, s3_attributes
from skyplane_core.stores.holding import AWS, AZURE, COS, GCS, HDFS, LOCAL, R2, S3_COMPATIBLE, Holding, Mtime

ALL = [AWS, S3_COMPATIBLE, R2, COS, GCS, AZURE, HDFS, LOCAL]
MTIME_NS = 1_484_931_135_123_456_789
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.sampled_from([" padded ", "=?UTF-8?B?eA==?=", "=?" * 600, " " * 1500]),
)
NAMES = st.one_of(st.sampled_from(["Owner", "owner", "a b", "ü", MTIME, MODE, "x-1"]), TEXT.filter(bool))
HEADER = st.one_of(st.just(""), st.just("text/plain"), TEXT)
ATTRIBUTES = st.builds(
    ObjectAttributes,
    content_type=HEADER,
    cache_control=HEADER,
    content_disposition=HEADER,
    metadata=st.dictionaries(NAMES, st.one_of(TEXT, st.just("v" * 1500)), max_size=5),
    tags=st.dictionaries(NAMES, TEXT, max_size=4),
    storage_class=st.sampled_from(["", "GLACIER", "NEARLINE"]),
    mtime_ns=st.one_of(st.none(), st.integers(-(10**21), 10**21)),
    mode=st.one_of(st.none(), st.integers(0, 0o7777)),
)
RULES = st.builds(
    AttributeRules,
    keep_storage_class=st.booleans(),
    keep_mtime=st.booleans(),
    keep_mode=st.booleans(),
    unfit=st.sampled_from(Unfit),
)
HOLDINGS = st.sampled_from(ALL)


def fits(attributes: ObjectAttributes, holds: Holding) -> bool:
    """Whether a store takes attributes as they are, said in another way than in the code under test."""
    metadata = attributes.metadata
    if not holds.metadata:
        metadata = {name: value for name, value in metadata.items() if name != SOURCE_VERSION_KEY}
        return not metadata and not attributes.tags and not attributes.storage_class
    encoded = s3_attributes.encode_value if holds.ascii_values else str
    size = sum(len(name.encode()) + len(encoded(value).encode()) for name, value in metadata.items())
    return (
        all(re.fullmatch(holds.metadata_names, name) for name in metadata)
        and all(re.fullmatch(holds.metadata_values, value) for value in metadata.values())
        and len({name.lower() if holds.lower_case or holds.one_case else name for name in metadata}) == len(metadata)
        and not (holds.lower_case and any(name != name.lower() for name in metadata))
        and (not holds.metadata_bytes or size <= holds.metadata_bytes)
        and len(attributes.tags) <= holds.tags
        and (not holds.storage_classes or attributes.storage_class in ("", *holds.storage_classes))
        and (holds.mtime is Mtime.SET or attributes.mtime_ns is None)
        and (holds.mode or attributes.mode is None)
    )


def keeping(**more: Any) -> AttributeRules:
    return AttributeRules(keep_mtime=True, **more)


@given(ATTRIBUTES, RULES, HOLDINGS)
def test_what_comes_out_fits_and_what_is_lost_is_said(
    attributes: ObjectAttributes, rules: AttributeRules, holds: Holding
) -> None:
    try:
        fitted = fit(attributes, rules, holds)
    except StoreRejected as refused:
        assert rules.unfit is Unfit.FAIL and refused.why and refused.next_step  # noqa: PT017, PT018
        return
    got = fitted.attributes
    assert fits(got, holds)
    assert not got.storage_class or got.storage_class == attributes.storage_class
    values = list(got.metadata.values())
    records = {MTIME, GSUTIL_MTIME} if rules.keep_mtime else set()
    records |= {MODE} if rules.keep_mode else set()
    lost = [name for name, value in attributes.metadata.items() if name not in records and value not in values]
    lost += [name for name in attributes.tags if name not in got.tags]
    lost += [
        name for name in ("cache_control", "content_disposition") if getattr(attributes, name) != getattr(got, name)
    ]
    assert bool(fitted.notes) or not lost, lost


@given(ATTRIBUTES, RULES, HOLDINGS)
def test_what_was_fitted_once_fits_as_it_is(
    attributes: ObjectAttributes, rules: AttributeRules, holds: Holding
) -> None:
    lenient = msgspec.structs.replace(rules, unfit=Unfit.RENAME)
    once = fit(attributes, lenient, holds).attributes
    strict = msgspec.structs.replace(rules, unfit=Unfit.FAIL)
    again = fit(once, strict, holds)
    assert again.attributes == once
    assert again.notes == ()


@given(ATTRIBUTES, HOLDINGS.filter(lambda holds: holds.mtime is not Mtime.NOWHERE), st.integers(0, 4 * 10**18))
def test_the_time_goes_along_through_any_store(attributes: ObjectAttributes, holds: Holding, mtime_ns: int) -> None:
    start = msgspec.structs.replace(attributes, metadata={}, tags={}, mtime_ns=mtime_ns)
    rules = keeping(unfit=Unfit.DROP)
    there = fit(start, rules, holds).attributes
    back = fit(msgspec.structs.replace(there, mtime_ns=there.mtime_ns or 1), rules, LOCAL).attributes
    assert back.mtime_ns == mtime_ns or (mtime_ns == 0 and back.mtime_ns == 1)


def test_what_every_copy_gets_goes_before_what_the_source_has() -> None:
    source = ObjectAttributes(content_type="a/b", cache_control="no-store", metadata={"m": "1"}, tags={"t": "1"})
    rules = AttributeRules(content_type="text/csv", tags={"t": "2", "u": "3"}, metadata={"m": "2"})
    assert fit(source, rules, AWS).attributes == ObjectAttributes(
        content_type="text/csv", cache_control="no-store", metadata={"m": "2"}, tags={"t": "2", "u": "3"}
    )


def test_times_are_recorded_as_rclone_and_gsutil_do() -> None:
    file = ObjectAttributes(mtime_ns=MTIME_NS, mode=0o644)
    assert fit(file, keeping(), AWS).attributes == ObjectAttributes(metadata={MTIME: "1484931135.123456789"})
    assert fit(file, keeping(), GCS).attributes == ObjectAttributes(
        metadata={MTIME: "2017-01-20T16:52:15.123456789Z", GSUTIL_MTIME: "1484931135"}
    )
    assert fit(file, keeping(), LOCAL).attributes == ObjectAttributes(mtime_ns=MTIME_NS)
    assert fit(file, AttributeRules(), AWS).attributes == ObjectAttributes()


def test_the_form_of_one_store_becomes_that_of_the_other() -> None:
    at_s3 = ObjectAttributes(metadata={MTIME: "1484931135.5", "owner": "a"}, mtime_ns=1)
    at_gcs = fit(at_s3, keeping(), GCS).attributes
    assert at_gcs.metadata == {
        MTIME: "2017-01-20T16:52:15.5Z", GSUTIL_MTIME: "1484931135", "owner": "a"
    }  # fmt: skip
    assert fit(at_gcs, keeping(), AWS).attributes.metadata == {MTIME: "1484931135.5", "owner": "a"}
    unread = fit(ObjectAttributes(metadata={MTIME: "yesterday"}, mtime_ns=1), keeping(), AWS)
    assert unread.attributes.metadata == {MTIME: "yesterday"}
    assert unread.notes == ("mtime not recorded, as metadata has that name",)
    # Only gsutil's, and one that is no time at all.
    assert recorded({MTIME: "yesterday", GSUTIL_MTIME: "7"}) == 7 * 10**9
    unread = ObjectAttributes(metadata={MTIME: "yesterday"})
    assert fit(unread, keeping(), AWS).attributes == unread


def test_permissions_are_carried_only_if_asked_for() -> None:
    file = ObjectAttributes(mode=0o6750)
    keep = AttributeRules(keep_mode=True)
    assert fit(file, AttributeRules(), LOCAL).attributes.mode is None
    assert fit(file, keep, LOCAL).attributes.mode == 0o750
    at_s3 = fit(file, keep, AWS).attributes
    assert at_s3 == ObjectAttributes(metadata={MODE: "0750"})
    assert fit(at_s3, keep, LOCAL).attributes.mode == 0o750
    # rclone writes the file's type, too.
    assert fit(ObjectAttributes(metadata={MODE: "0100664"}), keep, LOCAL).attributes.mode == 0o664


@pytest.mark.parametrize(
    ("metadata", "rules", "expected"),
    [
        ({"a": "1", "b": "2"}, AttributeRules(metadata_rename={"a": "c"}), {"c": "1", "b": "2"}),
        ({"X-a": "1", "b": "2"}, AttributeRules(metadata_drop=("x-*",)), {"b": "2"}),
        ({"a": "1"}, AttributeRules(metadata={"a": "2", "n": "3"}), {"a": "2", "n": "3"}),
        ({"a": "1"}, AttributeRules(metadata_rename={"a": "b"}, metadata={"b": "2"}), None),
        ({"a": "1"}, AttributeRules(metadata_drop=("a",), metadata_rename={"a": "b"}), {}),
        ({"a": "1", "b": "2"}, AttributeRules(metadata_rename={"a": "b", "b": "a"}), {"b": "1", "a": "2"}),
    ],
)
def test_metadata_is_mapped(metadata: dict[str, str], rules: AttributeRules, expected: dict[str, str] | None) -> None:
    if expected is None:
        with pytest.raises(StoreRejected, match="taken already"):
            fit(ObjectAttributes(metadata=metadata), rules, GCS)
        return
    fitted = fit(ObjectAttributes(metadata=metadata), rules, GCS)
    assert fitted.attributes.metadata == expected
    assert fitted.notes == ()


@pytest.mark.parametrize(
    ("attributes", "holds", "misfit", "dropped", "renamed"),
    [
        (ObjectAttributes(metadata={"a b": "1"}), AWS, "'a b' is no name there", {}, {"a-b": "1"}),
        (
            ObjectAttributes(metadata={"Owner": "1", "owner": "2"}),
            AWS,
            "'owner' is taken already",
            {"owner": "1"},
            {"owner": "1", "owner-2": "2"},
        ),
        (ObjectAttributes(metadata={"a": "1" * 2000, "b": "2" * 100}), AWS, "2048 bytes", {"b": "2" * 100}, None),
        (ObjectAttributes(metadata={"a": "ü" * 800}), AWS, "2048 bytes", {}, None),
        (ObjectAttributes(metadata={"a": "1" * 9000}), GCS, "8192 bytes", {}, None),
        (
            ObjectAttributes(metadata={"a-b": "1", "A_B": "2", "1": "3"}),
            AZURE,
            "'a-b' is no name there",
            {"A_B": "2"},
            {"a_b": "1", "A_B_2": "2", "_1": "3"},
        ),
        (ObjectAttributes(metadata={"a": ""}), AZURE, "'a' has a value that cannot", {}, None),
        (ObjectAttributes(metadata={"a": "ü" * 4000}), AZURE, "8192 bytes", {}, None),
        (ObjectAttributes(tags={"t": "1"}), GCS, "no tags", {}, {"tag-t": "1"}),
        (ObjectAttributes(cache_control="ü"), AWS, "Cache-Control is not printable", {}, None),
    ],
)
def test_what_does_not_fit_is_refused_dropped_or_renamed(
    attributes: ObjectAttributes, holds: Holding, misfit: str, dropped: dict[str, str], renamed: dict[str, str] | None
) -> None:
    with pytest.raises(StoreRejected, match=misfit):
        fit(attributes, AttributeRules(), holds)
    for unfit, expected in ((Unfit.DROP, dropped), (Unfit.RENAME, dropped if renamed is None else renamed)):
        fitted = fit(attributes, AttributeRules(unfit=unfit), holds)
        assert fitted.attributes.metadata == expected
        assert fitted.notes
        assert fitted.explain("new") == "; ".join(("new", *fitted.notes))


def test_our_records_make_room_for_the_users_metadata() -> None:
    own = ObjectAttributes(metadata={"a": "1" * 2040, SOURCE_VERSION_KEY: "v"}, mtime_ns=MTIME_NS)
    fitted = fit(own, keeping(), AWS)
    assert fitted.attributes.metadata == {"a": "1" * 2040}
    assert fitted.notes == ("mtime not recorded for want of room", "skyplane-source not recorded for want of room")


def test_a_disk_drops_what_it_has_no_place_for_and_says_so() -> None:
    attributes = ObjectAttributes("text/plain", "no-cache", metadata={"a": "1", SOURCE_VERSION_KEY: "v"})
    fitted = fit(attributes, AttributeRules(), LOCAL)
    assert fitted.attributes == ObjectAttributes(metadata={SOURCE_VERSION_KEY: "v"})
    assert fitted.notes == (
        "metadata dropped, which is not held there: 'a'",
        "Cache-Control dropped, which is not held there",
    )
    assert fit(ObjectAttributes("text/plain"), AttributeRules(), LOCAL).notes == ()


def test_a_storage_class_is_given_or_carried_over() -> None:
    cold = ObjectAttributes(storage_class="GLACIER")
    assert fit(cold, AttributeRules(), AWS).attributes.storage_class == ""
    assert fit(cold, AttributeRules(keep_storage_class=True), AWS).attributes.storage_class == "GLACIER"
    assert fit(cold, AttributeRules(storage_class="STANDARD_IA"), AWS).attributes.storage_class == "STANDARD_IA"
    with pytest.raises(StoreRejected, match=r"gs://b/k.*no storage class GLACIER"):
        fit_at(cold, AttributeRules(keep_storage_class=True), StoreConfig("gcs", "b"), "gs://b/k")


def test_every_kind_has_its_row() -> None:
    rows = {
        AWS: StoreConfig("s3", "b"),
        S3_COMPATIBLE: StoreConfig("s3", "b", endpoint_url="http://127.0.0.1:1"),
        R2: StoreConfig("s3", "b", endpoint_url="https://x.r2.cloudflarestorage.com", service="r2"),
        COS: StoreConfig("s3", "b", endpoint_url="https://x", service="cos"),
        AZURE: StoreConfig("azure", "account/container"),
        HDFS: StoreConfig("hdfs", "/"),
        GCS: StoreConfig("gcs", "b"),
        LOCAL: StoreConfig("local", "/d"),
    }
    assert {row.name: holding.holding(config) for row, config in rows.items()} == {row.name: row for row in rows}
