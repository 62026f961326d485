"""The drop-in against the installed stock operator, by introspection: arguments, defaults, template fields, errors."""

# ruff: noqa: TID253  # this compares with what those modules define
from __future__ import annotations

import inspect
import warnings

import pytest

stock_module = pytest.importorskip("airflow.providers.google.cloud.transfers.s3_to_gcs")

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator  # noqa: E402
from airflow.providers.amazon.aws.operators.s3 import S3ListOperator  # noqa: E402
from airflow.providers.google.cloud.openlineage.utils import extract_ds_name_from_gcs_path  # noqa: E402

from airflow_provider_skyplane.compat import AirflowException  # noqa: E402
from airflow_provider_skyplane.transfers.gcs_url import dataset_name  # noqa: E402
from airflow_provider_skyplane.transfers.s3_to_gcs import SkyplaneS3ToGCSOperator  # noqa: E402

Stock = stock_module.S3ToGCSOperator


def parameters(cls: type) -> dict[str, inspect.Parameter]:
    found = inspect.signature(cls.__init__).parameters
    return {name: p for name, p in found.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def build(cls: type, **kwargs: object) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return cls(task_id="copy", bucket="src", **kwargs)


def test_every_argument_of_the_stock_operator_with_its_default() -> None:
    ours = parameters(SkyplaneS3ToGCSOperator)
    for name, parameter in parameters(Stock).items():
        assert ours[name].default == parameter.default, name


@pytest.mark.parametrize("base", [S3ListOperator, AwsBaseOperator])
def test_arguments_that_the_stock_operator_hands_to_its_bases(base: type) -> None:
    ours = parameters(SkyplaneS3ToGCSOperator)
    for name, parameter in parameters(base).items():
        assert name in ours
        if name != "region":  # the stock default is a sentinel that means "not given", as None does here
            assert ours[name].default == parameter.default, name


def test_attributes_after_construction_are_the_same() -> None:
    stock, ours = build(Stock), build(SkyplaneS3ToGCSOperator)
    for name in parameters(Stock):
        assert getattr(ours, name) == getattr(stock, name), name
    assert ours.ui_color == stock.ui_color


def test_the_stock_template_fields_come_first_and_unchanged() -> None:
    assert tuple(SkyplaneS3ToGCSOperator.template_fields[: len(Stock.template_fields)]) == tuple(Stock.template_fields)
    operator = build(SkyplaneS3ToGCSOperator)
    assert all(hasattr(operator, field) for field in operator.template_fields)


@pytest.mark.parametrize(
    "kwargs", [{"poll_interval": 0}, {"poll_interval": -1}, {"no_such_argument": 1}, {"delegate_to": "x"}]
)
def test_construction_errors_are_the_same(kwargs: dict[str, object]) -> None:
    raised = []
    for cls in (Stock, SkyplaneS3ToGCSOperator):
        with pytest.raises(Exception) as caught:
            build(cls, **kwargs)
        raised.append((caught.type, str(caught.value).replace("SkyplaneS3ToGCSOperator", "S3ToGCSOperator")))
    assert raised[0] == raised[1]


def test_a_missing_bucket_is_refused() -> None:
    refused = []
    for cls in (Stock, SkyplaneS3ToGCSOperator):
        with pytest.raises(Exception, match="bucket") as caught, warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            cls(task_id="copy")
        refused.append(caught.type)
    # Airflow 2 raises its own error for it.
    assert refused in ([TypeError, TypeError], [AirflowException, AirflowException])


def test_the_same_warning_and_none_with_uris() -> None:
    texts = []
    for cls in (Stock, SkyplaneS3ToGCSOperator):
        with pytest.warns(FutureWarning) as caught:
            cls(task_id="copy", bucket="src")
        texts.append(str(caught[0].message))
    assert texts[0] == texts[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SkyplaneS3ToGCSOperator(task_id="copy", bucket="src", return_gcs_uris=True)


@pytest.mark.parametrize(
    "dest", ["gs://dst/x", "dst/x/", "s3://dst/x/", "gs:///x/", "GS://dst/x/", "gs://dst", "gs://dst//x/"]
)
def test_destination_checks_say_the_same(dest: str) -> None:
    said = []
    for check in (
        build(Stock, dest_gcs=dest)._check_inputs,
        build(SkyplaneS3ToGCSOperator, dest_gcs=dest)._check,
    ):
        try:
            check()
        except Exception as error:  # noqa: BLE001  # whatever the stock operator raises is what is compared
            said.append((type(error), str(error)))
        else:
            said.append(None)
    assert said[0] == said[1]


@pytest.mark.parametrize("apply_gcs_prefix", [False, True])
@pytest.mark.parametrize("prefix", ["", "data", "data/", "a/b/"])
@pytest.mark.parametrize("dest", ["gs://dst", "gs://dst/", "gs://dst/in/", "gs://dst//in/x/"])
def test_names_are_mapped_the_same_both_ways(prefix: str, dest: str, *, apply_gcs_prefix: bool) -> None:
    kwargs = {"prefix": prefix, "dest_gcs": dest, "apply_gcs_prefix": apply_gcs_prefix}
    stock, ours = build(Stock, **kwargs), build(SkyplaneS3ToGCSOperator, **kwargs)
    for key in (f"{prefix}f", f"{prefix}/f", f"{prefix}a/{prefix}f"):
        assert ours.s3_to_gcs_object(key) == stock.s3_to_gcs_object(key)
        assert ours.gcs_to_s3_object(key) == stock.gcs_to_s3_object(key)


@pytest.mark.parametrize(
    "path",
    ["", "/", ".", "/dir/file.*", "/dir/pre_", "/dir/file.txt", "/dir/file.", "/dir/", "e/p/", "e/p", "a/*/b.txt"],
)
def test_dataset_names_are_the_same(path: str) -> None:
    assert dataset_name(path) == extract_ds_name_from_gcs_path(path)


@pytest.mark.parametrize("apply_gcs_prefix", [False, True])
def test_openlineage_datasets_are_the_same(*, apply_gcs_prefix: bool) -> None:
    kwargs = {"prefix": "p/", "dest_gcs": "gs://d/e/", "apply_gcs_prefix": apply_gcs_prefix}
    facets = [build(cls, **kwargs).get_openlineage_facets_on_start() for cls in (Stock, SkyplaneS3ToGCSOperator)]
    assert facets[0] == facets[1]
