"""The drop-ins with Azure against the installed stock operators, by introspection; test_parity.py is the model."""

# ruff: noqa: TID253  # this compares with what those modules define
from __future__ import annotations

import importlib
import inspect
import json
import warnings
from typing import Any, NamedTuple

import pytest
from airflow.providers.amazon.aws.transfers import azure_blob_to_s3
from airflow.providers.google.cloud.transfers import azure_blob_to_gcs
from airflow.providers.microsoft.azure.transfers import gcs_to_wasb, s3_to_wasb

from airflow_provider_skyplane.get_provider_info import get_provider_info
from airflow_provider_skyplane.transfers import azure_blob_to_gcs as our_azure_blob_to_gcs
from airflow_provider_skyplane.transfers import azure_blob_to_s3 as our_azure_blob_to_s3
from airflow_provider_skyplane.transfers import gcs_to_wasb as our_gcs_to_wasb
from airflow_provider_skyplane.transfers import s3_to_wasb as our_s3_to_wasb
from airflow_provider_skyplane.transfers.drop_in import OWN_TEMPLATE_FIELDS

KEY = "a2V5IG9mIHRoZSBhY2NvdW50"


class Pair(NamedTuple):
    stock: Any
    ours: Any
    required: dict[str, Any]


PAIRS = [
    Pair(
        azure_blob_to_gcs.AzureBlobStorageToGCSOperator,
        our_azure_blob_to_gcs.SkyplaneAzureBlobStorageToGCSOperator,
        {
            "blob_name": "a/b",
            "container_name": "box",
            "bucket_name": "bucket",
            "object_name": "c/d",
            "filename": "f",
            "gzip": False,
        },
    ),
    Pair(
        azure_blob_to_s3.AzureBlobStorageToS3Operator,
        our_azure_blob_to_s3.SkyplaneAzureBlobStorageToS3Operator,
        {"container_name": "box", "dest_s3_key": "s3://bucket/in"},
    ),
    Pair(
        s3_to_wasb.S3ToAzureBlobStorageOperator,
        our_s3_to_wasb.SkyplaneS3ToAzureBlobStorageOperator,
        {"s3_bucket": "bucket", "container_name": "box"},
    ),
    Pair(
        gcs_to_wasb.GCSToAzureBlobStorageOperator,
        our_gcs_to_wasb.SkyplaneGCSToAzureBlobStorageOperator,
        {"gcs_bucket": "bucket", "container_name": "box"},
    ),
]
EACH = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.stock.__name__)


def parameters(cls: type) -> dict[str, inspect.Parameter]:
    found = inspect.signature(cls.__init__).parameters
    return {name: p for name, p in found.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def build(cls: type, **kwargs: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return cls(task_id="copy", **kwargs)


@EACH
def test_every_argument_of_the_stock_operator_with_its_default(pair: Pair) -> None:
    ours = parameters(pair.ours)
    for name, parameter in parameters(pair.stock).items():
        assert ours[name].default == parameter.default, name


@EACH
def test_attributes_after_construction_are_the_same(pair: Pair) -> None:
    stock, ours = build(pair.stock, **pair.required), build(pair.ours, **pair.required)
    for name in parameters(pair.stock):
        assert getattr(ours, name) == getattr(stock, name), name
    assert (ours.ui_color, ours.ui_fgcolor) == (stock.ui_color, stock.ui_fgcolor)


@EACH
def test_the_stock_template_fields_come_first_and_unchanged(pair: Pair) -> None:
    assert tuple(pair.ours.template_fields) == (*pair.stock.template_fields, *OWN_TEMPLATE_FIELDS)
    operator = build(pair.ours, **pair.required)
    assert all(hasattr(operator, field) for field in operator.template_fields)


@EACH
def test_missing_and_unknown_arguments_are_refused_the_same(pair: Pair) -> None:
    for name in (*pair.required, None):
        given = {key: value for key, value in pair.required.items() if key != name}
        raised = []
        for cls in (pair.stock, pair.ours):
            with pytest.raises(Exception) as caught:
                build(cls, **given, **({} if name else {"no_such": 1}))
            raised.append((caught.type, str(caught.value).replace(pair.ours.__name__, pair.stock.__name__)))
        assert raised[0] == raised[1]


@EACH
def test_one_import_line_is_all_that_changes(pair: Pair) -> None:
    module = importlib.import_module(pair.ours.__module__)
    assert pair.ours.__module__.rpartition(".")[2] == pair.stock.__module__.rpartition(".")[2]
    assert getattr(module, pair.stock.__name__) is pair.ours
    assert pair.ours.__name__ == f"Skyplane{pair.stock.__name__}"


@EACH
def test_airflow_knows_the_module(pair: Pair) -> None:
    known = [transfer["python-module"] for transfer in get_provider_info()["transfers"]]
    assert pair.ours.__module__ in known


def test_the_stock_operators_exceptions_are_importable_by_their_names() -> None:
    for name, arguments in (
        ("TooManyFilesToMoveException", [3]),
        ("InvalidAzureBlobParameters", []),
        ("InvalidKeyComponents", []),
    ):
        stock, ours = getattr(s3_to_wasb, name)(*arguments), getattr(our_s3_to_wasb, name)(*arguments)
        assert (type(ours).__name__, str(ours), type(ours).__bases__) == (name, str(stock), type(stock).__bases__)


def test_the_same_warning_and_none_where_the_stock_operator_gives_none() -> None:
    pair, texts = PAIRS[0], []
    for cls in (pair.stock, pair.ours):
        with pytest.warns(FutureWarning) as caught:
            cls(task_id="copy", **pair.required)
        texts.append([str(warning.message) for warning in caught])
    assert texts[0] == texts[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for unwrap_single in (True, False):
            pair.ours(task_id="copy", **pair.required, unwrap_single=unwrap_single)


@pytest.mark.parametrize(
    "connection",
    [
        {"login": "account1", "password": KEY},
        {"host": "https://account1.blob.core.windows.net", "password": KEY},
        {"host": "account1.blob.core.windows.net", "password": KEY},
        {"host": "http://127.0.0.1:10000/account1", "login": "account1", "password": KEY},
        {"extra": {"connection_string": f"AccountName=account1;AccountKey={KEY};EndpointSuffix=core.windows.net"}},
        {"extra": {"sas_token": "https://account1.blob.core.windows.net/?sv=1&sig=abc"}},
    ],
)
@pytest.mark.parametrize("pair", [PAIRS[0], PAIRS[3]], ids=lambda pair: pair.stock.__name__)
def test_openlineage_datasets_are_the_same(
    monkeypatch: pytest.MonkeyPatch, pair: Pair, connection: dict[str, Any]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WASB_DEFAULT", json.dumps({"conn_type": "wasb", **connection}))
    found = [build(cls, **pair.required).get_openlineage_facets_on_start() for cls in (pair.stock, pair.ours)]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("pair", "given", "said"),
    [
        (PAIRS[0], {"gzip": True, "preserve_metadata": True}, "preserve_metadata needs gzip=False"),
        (PAIRS[0], {"gzip": True, "receipt_path": "r"}, "receipts need gzip=False"),
        (PAIRS[1], {"dest_s3_extra_args": {"GrantRead": "x"}}, "GrantRead cannot be followed"),
        (PAIRS[1], {"s3_extra_args": {"verify": True}}, "s3_extra_args has verify"),
        (PAIRS[1], {"s3_extra_args": {"extra_args": {}}}, "s3_extra_args has extra_args"),
        (PAIRS[1], {"wasb_extra_args": {"overwrite": True}}, "wasb_extra_args has overwrite"),
        (PAIRS[1], {"replace": True, "compare": "size"}, "replace=True copies everything"),
        (PAIRS[2], {"s3_extra_args": {"aws_conn_id": "x"}}, "s3_extra_args has aws_conn_id"),
        (PAIRS[2], {"wasb_extra_args": {"public_read": True}}, "what is written needs credentials"),
        (PAIRS[3], {"compare": "time"}, "Invalid value for compare: 'time'"),
    ],
)
def test_what_cannot_work_is_refused_at_construction(pair: Pair, given: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said):
        build(pair.ours, **{**pair.required, **given})
