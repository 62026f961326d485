"""Which rules for attributes are refused for which pair of stores."""

from __future__ import annotations

from typing import Any

import pytest

from skyplane_core.attribute_rules import check_attributes, check_readable, rules_of
from skyplane_core.errors import UsageError
from skyplane_core.model import Attestation, AttributeRules, StoreConfig
from skyplane_core.spec import Compare, TransferOptions, Verification
from skyplane_core.stores.base import Capabilities

S3, GCS, LOCAL = StoreConfig("s3", "b"), StoreConfig("gcs", "b"), StoreConfig("local", "/d")
COMPATIBLE = StoreConfig("s3", "b", endpoint_url="http://127.0.0.1:1")
R2, AZURE, HDFS = StoreConfig("s3", "b", service="r2"), StoreConfig("azure", "a/c"), StoreConfig("hdfs", "/d")


@pytest.mark.parametrize(
    ("rules", "more", "source", "destination", "told"),
    [
        ({"content_type": "text/plain"}, {}, S3, LOCAL, "no place for content headers"),
        ({"tags": {"a": "b"}}, {}, S3, GCS, "no place for tags"),
        ({"keep_mode": True}, {"keep_attributes": False}, LOCAL, S3, "keep_mode needs keep_attributes"),
        ({"storage_class": "GLACIER", "keep_storage_class": True}, {}, S3, S3, "contradict each other"),
        ({"storage_class": "COLD"}, {}, S3, S3, "STANDARD, STANDARD_IA, ONEZONE_IA"),
        ({"storage_class": "GLACIER"}, {}, S3, R2, "Cloudflare R2 has: STANDARD, STANDARD_IA"),
        ({"storage_class": "GLACIER"}, {}, S3, GCS, "STANDARD, NEARLINE, COLDLINE, ARCHIVE"),
        ({"storage_class": "Cool"}, {}, S3, AZURE, "no place for storage classes"),
        ({"keep_storage_class": True}, {}, S3, LOCAL, "no place for storage classes"),
        ({"keep_tags": True}, {}, GCS, S3, "keep_tags has no meaning there.*gs://b"),
        ({"keep_tags": True}, {}, S3, GCS, "no place for tags.*unfit=rename"),
        ({"keep_mtime": True}, {}, S3, HDFS, "no place for times"),
        ({"keep_mode": True}, {}, LOCAL, HDFS, "no place for permissions"),
        ({"keep_mtime": True}, {"compare": Compare.MTIME}, S3, LOCAL, "size.mtime contradict each other"),
        ({"metadata": {"a": "b"}}, {}, S3, HDFS, "no place for metadata"),
        ({"metadata": {"a b": "c"}}, {}, S3, S3, "'a b' is no name"),
        ({"metadata_rename": {"a": "a-b"}}, {}, S3, AZURE, "'a-b' is no name"),
        ({"metadata": {"a": ""}}, {}, S3, AZURE, "cannot have the value ''"),
    ],
)
def test_what_cannot_be_followed_is_refused(
    rules: dict[str, Any], more: dict[str, Any], source: StoreConfig, destination: StoreConfig, told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        check_attributes(TransferOptions(attributes=rules_of(rules), **more), source, destination)


@pytest.mark.parametrize(
    ("rules", "more", "source", "destination"),
    [
        ({}, {}, S3, LOCAL),
        ({"storage_class": "NEARLINE", "metadata": {"a": "ü"}}, {"keep_attributes": False}, S3, GCS),
        ({"storage_class": "MY_CLASS"}, {}, S3, COMPATIBLE),
        ({"keep_tags": True, "unfit": "rename"}, {}, S3, GCS),
        ({"keep_mtime": True, "keep_mode": True}, {}, LOCAL, LOCAL),
        ({"keep_mtime": True}, {"compare": Compare.MTIME}, LOCAL, S3),
    ],
)
def test_what_can_be_followed_is_not_refused(
    rules: dict[str, Any], more: dict[str, Any], source: StoreConfig, destination: StoreConfig
) -> None:
    check_attributes(TransferOptions(attributes=rules_of(rules), **more), source, destination)


@pytest.mark.parametrize(
    ("config", "attestation", "verify", "refused"),
    [
        (S3, Attestation.WHOLE, Verification.TRANSFERRED, False),
        (S3, Attestation.WHOLE, Verification.FULL, True),
        (COMPATIBLE, Attestation.READ_BACK, Verification.TRANSFERRED, True),
        (COMPATIBLE, Attestation.READ_BACK, Verification.NONE, False),
        (COMPATIBLE, Attestation.PER_PART, Verification.TRANSFERRED, False),
    ],
)
def test_an_archive_is_refused_where_copies_have_to_be_read_back(
    config: StoreConfig, attestation: Attestation, verify: Verification, *, refused: bool
) -> None:
    options = TransferOptions(verify=verify, attributes=AttributeRules(storage_class="DEEP_ARCHIVE"))
    if not refused:
        check_readable(options, Capabilities(attestation), config)
        return
    with pytest.raises(UsageError, match="DEEP_ARCHIVE could not be read back"):
        check_readable(options, Capabilities(attestation), config)
