"""The stock S3 hook's URLs and an upload's extra arguments, as the drop-ins read them."""

# ruff: noqa: TID253  # this compares with the installed stock hook
from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_skyplane.transfers.s3_extra_args import written
from airflow_provider_skyplane.transfers.s3_url import s3_bucket_and_key, split_s3_url
from skyplane_core.errors import UsageError
from skyplane_core.model import AttributeRules
from skyplane_core.store_options import StoreOptions

WORDS = st.text("ab./-_ü#%+ ", max_size=8)


def said(call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Exception as error:  # noqa: BLE001  # whatever the stock hook raises is what is compared
        return type(error), str(error)


@pytest.mark.parametrize(
    "url",
    [
        "s3://b/k",
        "S3A://b/k/",
        "s3n://b//k",
        "s3://b",
        "s3://",
        "s3:///k",
        "b/k",
        "",
        "gs://b/k",
        "http://b.s3.eu.amazonaws.com/k",
        "https://b.s3.eu.amazonaws.com/k/l",
        "https://b.s3.eu.amazonaws.com",
        "https://s3.eu.amazonaws.com/b/k/l",
        "https://b.example.com/k",
    ],
)
def test_urls_are_read_as_by_the_stock_hook(url: str) -> None:
    assert said(split_s3_url, url) == said(S3Hook.parse_s3_url, url)


@given(st.text("ab.-_", min_size=1, max_size=8), WORDS.map(str.strip))
def test_any_bucket_and_key_are_read_as_by_the_stock_hook(bucket: str, key: str) -> None:
    url = f"s3://{bucket}/{key}"
    assert said(split_s3_url, url) == said(S3Hook.parse_s3_url, url)


def test_a_question_mark_belongs_to_the_key() -> None:
    assert split_s3_url("s3://b/a?b") == ("b", "a?b")
    assert S3Hook.parse_s3_url("s3://b/a?b") == ("b", "a")


@pytest.mark.parametrize(
    ("bucket", "key"), [("b", "k"), (None, "s3://b/k"), (None, "k"), ("b", "s3://b/k"), ("b", "//h/k"), ("b", "/k")]
)
def test_pairs_are_read_as_by_the_stock_hook(bucket: str | None, key: str) -> None:
    names = ("source_bucket_name", "source_bucket_key")
    assert said(s3_bucket_and_key, bucket, key, *names) == said(S3Hook.get_s3_bucket_key, bucket, key, *names)


def test_extra_arguments_become_rules_and_options() -> None:
    found = written(
        {
            "ContentType": "text/csv",
            "Metadata": {"a": "b"},
            "Tagging": "x=1&y=",
            "StorageClass": "STANDARD_IA",
            "ServerSideEncryption": "aws:kms",
            "SSEKMSKeyId": "key",
            "ACL": "private",
            "RequestPayer": "requester",
            "ChecksumAlgorithm": "CRC32C",
        },
        "bucket-owner-full-control",
    )
    assert found.rules == AttributeRules(
        content_type="text/csv", metadata={"a": "b"}, tags={"x": "1", "y": ""}, storage_class="STANDARD_IA"
    )
    assert found.options == StoreOptions(
        encryption="aws:kms", kms_key="key", acl="bucket-owner-full-control", requester_pays=True
    )


def test_without_any_a_copy_has_what_s3_gives_it() -> None:
    assert written(None, None).rules == AttributeRules(content_type="binary/octet-stream")
    assert written({}, "no-acl", plain=False) == written(None, None, plain=False)
    assert written(None, None, plain=False).rules == AttributeRules()


@pytest.mark.parametrize(
    ("extra_args", "told"),
    [
        ({"GrantRead": "id=1", "Expires": 1}, "Expires, GrantRead cannot be followed"),
        ({"ChecksumAlgorithm": "SHA256"}, "ChecksumAlgorithm cannot be 'SHA256'"),
        ({"Metadata": {"a": 1}}, "Expected `?str"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(extra_args: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        written(extra_args, None)
