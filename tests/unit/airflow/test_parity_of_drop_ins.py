"""Each drop-in against its stock operator, by introspection: arguments, defaults, template fields, datasets."""

# this compares with what those modules define
from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from airflow_provider_skyplane.compat import AirflowException
from skyplane_core.errors import UsageError

OURS = "airflow_provider_skyplane.transfers"
GOOGLE, AMAZON = "airflow.providers.google.cloud.transfers", "airflow.providers.amazon.aws"


class Pair(NamedTuple):
    """Where a stock operator and ours are, arguments that have to be given, and calls that tell the datasets."""

    stock_module: str
    our_module: str
    name: str
    required: dict[str, Any]
    datasets: Callable[[Any], Any]

    @property
    def stock(self) -> Any:
        return getattr(importlib.import_module(self.stock_module), self.name)

    @property
    def ours(self) -> Any:
        return getattr(importlib.import_module(self.our_module), f"Skyplane{self.name}")

    def build(self, cls: Any, **arguments: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return cls(task_id="copy", **{**self.required, **arguments})


def on_start(operator: Any) -> Any:
    return operator.get_openlineage_facets_on_start()


def on_complete(operator: Any) -> Any:
    # Ours asks its arguments, the stock operator what its run has made of them.
    if not type(operator).__name__.startswith("Skyplane"):
        operator.source_objects = operator.source_objects or [operator.source_object]
        operator.destination_bucket = operator.destination_bucket or operator.source_bucket
    return operator.get_openlineage_facets_on_complete(None)


S3_TO_GCS = {"bucket": "b", "dest_gcs": "gs://d/e/"}
GCS_TO_S3 = {"gcs_bucket": "b", "dest_s3_key": "s3://d/e"}
GCS_TO_GCS = {"source_bucket": "b", "source_object": "a"}
S3_COPY = {"source_bucket_key": "s3://b/a", "dest_bucket_key": "s3://d/e/f"}
PAIRS = {
    pair.name: pair
    for pair in (
        Pair(f"{GOOGLE}.s3_to_gcs", f"{OURS}.s3_to_gcs", "S3ToGCSOperator", S3_TO_GCS, on_start),
        Pair(f"{AMAZON}.transfers.gcs_to_s3", f"{OURS}.gcs_to_s3", "GCSToS3Operator", GCS_TO_S3, on_start),
        Pair(f"{GOOGLE}.gcs_to_gcs", f"{OURS}.gcs_to_gcs", "GCSToGCSOperator", GCS_TO_GCS, on_complete),
        Pair(f"{AMAZON}.operators.s3", f"{OURS}.s3_copy_object", "S3CopyObjectOperator", S3_COPY, on_start),
    )
}
REFUSED = (TypeError, AirflowException)
"""Of Airflow 3, and of Airflow 2."""
ROUND = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)


def parameters(cls: type, *, bases: bool = False) -> dict[str, inspect.Parameter]:
    """Keyword-only arguments; with ``bases`` those of the amazon provider's own bases as well."""
    from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator

    found: dict[str, inspect.Parameter] = {}
    if bases and issubclass(cls, AwsBaseOperator):
        for base in cls.__mro__[1 : cls.__mro__.index(AwsBaseOperator) + 1]:
            found |= parameters(base)
    found |= {
        name: parameter
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    return found


@ROUND
def test_the_stock_name_is_an_alias(pair: Pair) -> None:
    assert getattr(importlib.import_module(pair.our_module), pair.name) is pair.ours


@ROUND
def test_every_argument_with_its_default(pair: Pair) -> None:
    ours = parameters(pair.ours)
    for name, parameter in parameters(pair.stock, bases=True).items():
        assert name in ours
        if name != "region":  # the stock default is a sentinel that means "not given", as None does here
            assert ours[name].default == parameter.default, name


@ROUND
def test_attributes_after_construction_are_the_same(pair: Pair) -> None:
    stock, ours = pair.build(pair.stock), pair.build(pair.ours)
    for name in parameters(pair.stock, bases=True):
        if name not in ("apply_wildcard", "region"):
            assert getattr(ours, name) == getattr(stock, name), name
    assert ours.ui_color == stock.ui_color


@ROUND
def test_the_stock_template_fields_come_first_and_unchanged(pair: Pair) -> None:
    assert tuple(pair.ours.template_fields[: len(pair.stock.template_fields)]) == tuple(pair.stock.template_fields)
    operator = pair.build(pair.ours)
    assert all(hasattr(operator, field) for field in operator.template_fields)


@ROUND
@pytest.mark.parametrize(
    "arguments", [{"no_such_argument": 1}, {"delegate_to": "x"}, {"google_cloud_storage_conn_id": "x"}]
)
def test_unknown_arguments_are_refused_in_the_same_words(pair: Pair, arguments: dict[str, Any]) -> None:
    raised = []
    for cls in (pair.stock, pair.ours):
        with pytest.raises(REFUSED) as caught:
            pair.build(cls, **arguments)
        raised.append((type(caught.value), str(caught.value).replace(pair.ours.__name__, pair.name)))
    assert raised[0] == raised[1]


@ROUND
def test_what_has_to_be_given_has_to_be_given(pair: Pair) -> None:
    for missing, parameter in parameters(pair.stock).items():
        if parameter.default is not inspect.Parameter.empty:
            continue
        given = {name: value for name, value in pair.required.items() if name != missing}
        raised = []
        for cls in (pair.stock, pair.ours):
            with pytest.raises(REFUSED) as caught, warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                cls(task_id="copy", **given)
            raised.append((type(caught.value), str(caught.value).replace(pair.ours.__name__, pair.name)))
        assert raised[0] == raised[1]


@ROUND
def test_partial_takes_what_the_stock_operator_takes(pair: Pair) -> None:
    """Dynamic task mapping looks at signatures."""
    name, value = next(iter(pair.required.items()))
    rest = {other: given for other, given in pair.required.items() if other != name}
    for cls in (pair.stock, pair.ours):
        cls.partial(task_id="copy", **rest).expand(**{name: [value]})


@ROUND
def test_datasets_are_the_same(pair: Pair) -> None:
    assert pair.datasets(pair.build(pair.ours)) == pair.datasets(pair.build(pair.stock))


MORE_DATASETS: list[tuple[str, dict[str, Any]]] = [
    ("GCSToS3Operator", {"prefix": "p/", "dest_s3_key": "s3://d"}),
    ("GCSToS3Operator", {"prefix": "p", "dest_s3_key": "s3://d/x/y/"}),
    ("GCSToGCSOperator", {"source_object": "a/*.csv", "destination_object": "b/", "destination_bucket": "d"}),
    ("GCSToGCSOperator", {"source_object": None, "source_objects": ["a/x.csv", "a/y.csv", "b/"]}),
    ("GCSToGCSOperator", {"source_object": "a/x", "destination_object": "out/name.txt"}),
    ("S3CopyObjectOperator", {"source_bucket_name": "b", "source_bucket_key": "a/b"}),
]


@pytest.mark.parametrize(("name", "arguments"), MORE_DATASETS, ids=str)
def test_more_datasets_are_the_same(name: str, arguments: dict[str, Any]) -> None:
    pair = PAIRS[name]
    ours, stock = (pair.datasets(pair.build(cls, **arguments)) for cls in (pair.ours, pair.stock))
    assert ours == stock


BAD: list[tuple[str, dict[str, Any], type, str]] = [
    ("GCSToS3Operator", {"compare": "crc"}, ValueError, "compare: 'crc'. Expected one of name, exact, size"),
    ("GCSToS3Operator", {"replace": True, "compare": "size"}, ValueError, "replace=True copies everything"),
    ("GCSToS3Operator", {"s3_acl_policy": "everybody"}, UsageError, "no access control list 'everybody'"),
    ("GCSToS3Operator", {"dest_s3_extra_args": {"GrantRead": "x"}}, UsageError, "GrantRead cannot be followed"),
    ("S3CopyObjectOperator", {"acl_policy": "everybody"}, UsageError, "no access control list 'everybody'"),
    ("S3CopyObjectOperator", {"meta_data_directive": "copy"}, ValueError, "Expected one of COPY, REPLACE"),
    ("GCSToGCSOperator", {"gateways": 4}, ValueError, "gateways: 4"),
]


@pytest.mark.parametrize(("name", "arguments", "kind", "told"), BAD, ids=str)
def test_what_cannot_be_is_refused_when_the_dag_is_parsed(
    name: str, arguments: dict[str, Any], kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told):
        PAIRS[name].build(PAIRS[name].ours, **arguments)
