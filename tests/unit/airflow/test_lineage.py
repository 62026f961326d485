"""What OpenLineage is told: datasets by its naming rules, and a facet that satisfies its schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from airflow.providers.common.compat.sdk import DAG
from openlineage.client.naming import dataset as naming
from openlineage.client.serde import Serde

import airflow_provider_skyplane.openlineage as package
from airflow_provider_skyplane.decorators.skyplane import skyplane_task
from airflow_provider_skyplane.finished import Finished
from airflow_provider_skyplane.openlineage.facet import FACET_KEY, SCHEMA_URL, facet_of
from airflow_provider_skyplane.openlineage.naming import dataset_name
from airflow_provider_skyplane.operators.plan import SkyplanePlanOperator
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator, SkyplaneSyncOperator
from airflow_provider_skyplane.transfers.s3_to_gcs import SkyplaneS3ToGCSOperator

DONE = Finished("t1", 2, 1, 0, 30, 1.5, "gs://dst/in/.skyplane/t1/receipt.json")
NAMES = [
    ("s3://b/k/f", "s3://b", "k/f"),
    ("s3://b/k/", "s3://b", "k"),
    ("s3://b", "s3://b", "/"),
    ("gs://b/a b/ü", "gs://b", "a b/ü"),
    ("r2://b/k", "r2://b", "k"),
    ("cos://b/k", "cos://b", "k"),
    ("az://account/container/k/", "wasbs://container@account", "k"),
    ("https://account.blob.core.windows.net/container/k", "wasbs://container@account", "k"),
    ("wasbs://container@account.blob.core.windows.net/k", "wasbs://container@account", "k"),
    ("abfss://container@account.dfs.core.windows.net/k", "abfss://container@account.dfs.core.windows.net", "k"),
    ("hdfs://namenode:8020/data/", "hdfs://namenode:8020", "/data"),
    ("hdfs://nameservice/data", "hdfs://nameservice", "/data"),
    ("file:///data/x/", "file", "/data/x"),
    ("file:///", "file", "/"),
]


@pytest.mark.parametrize(("uri", "namespace", "name"), NAMES)
def test_a_uri_is_named_as_openlineage_names_it(uri: str, namespace: str, name: str) -> None:
    assert dataset_name(uri) == (namespace, name)


def test_the_names_are_those_of_openlineages_own_library() -> None:
    for uri, theirs in [
        ("s3://b/k", naming.S3("b", "k")),
        ("gs://b/k", naming.GCS("b", "k")),
        ("abfss://box@account.dfs.core.windows.net/k", naming.ABFSS("box", "account", "k")),
        ("hdfs://nn:8020/k", naming.HDFS("nn", "8020", "/k")),
        ("file:///k", naming.LocalFileSystem("/k")),
    ]:
        assert dataset_name(uri) == (theirs.get_namespace(), theirs.get_name())


def datasets(lineage: Any) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    return tuple([(one.namespace, one.name) for one in side] for side in (lineage.inputs, lineage.outputs))  # type: ignore[return-value]


OPERATORS = [
    SkyplaneOperator(task_id="t", source="s3://src/data/", destination="gs://dst/in/", recursive=True),
    SkyplaneSyncOperator(task_id="t", source="s3://src/data/", destination="gs://dst/in/"),
    SkyplaneS3ToGCSOperator(
        task_id="t", bucket="src", prefix="data/", apply_gcs_prefix=True, dest_gcs="gs://dst/in/", return_gcs_uris=True
    ),
]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: type(operator).__name__)
def test_every_operator_tells_its_datasets_and_in_the_end_what_it_moved(operator: Any) -> None:
    expected = ([("s3://src", "data")], [("gs://dst", "in")])
    assert datasets(operator.get_openlineage_facets_on_start()) == expected
    before = operator.get_openlineage_facets_on_complete(None)
    assert (datasets(before), before.run_facets) == (expected, {})
    operator._finished = DONE
    for after in (operator.get_openlineage_facets_on_complete(None), operator.get_openlineage_facets_on_failure(None)):
        assert datasets(after) == expected
        assert after.run_facets[FACET_KEY].bytesCopied == 30


def test_several_destinations_are_several_outputs() -> None:
    operator = SkyplaneOperator(task_id="t", source="s3://src/f", destination=["gs://a/f", {"uri": "file:///b/f"}])
    lineage = operator.get_openlineage_facets_on_start()
    assert datasets(lineage) == ([("s3://src", "f")], [("gs://a", "f"), ("file", "/b/f")])


def test_what_only_tells_writes_nothing_and_what_only_a_run_knows_is_left_out() -> None:
    ends: dict[str, Any] = {"source": "s3://src/data/", "destination": "gs://dst/in/", "recursive": True}
    for told in (SkyplanePlanOperator(task_id="t", **ends), SkyplaneOperator(task_id="t", dry_run_only=True, **ends)):
        assert datasets(told.get_openlineage_facets_on_start()) == ([("s3://src", "data")], [])

    @skyplane_task(task_id="later")
    def later() -> dict[str, Any]:
        return ends

    with DAG("d", schedule=None):
        operator = later().operator
    assert datasets(operator.get_openlineage_facets_on_start()) == ([], [])


def test_the_facet_satisfies_the_schema_of_its_version() -> None:
    schema = json.loads((Path(package.__path__[0]) / "SkyplaneTransferRunFacet-1-0-0.json").read_text())
    facet = Serde.to_dict(facet_of(DONE))
    assert facet["_schemaURL"] == schema["$id"] == SCHEMA_URL
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(facet, schema)
    fields = {name for name in schema["properties"] if not name.startswith("_")}
    assert {name for name in facet if not name.startswith("_")} | {"costUsd"} == fields
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**facet, "bytesCopied": "30"}, schema)
