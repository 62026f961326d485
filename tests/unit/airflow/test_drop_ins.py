"""Drop-ins without a store: where their transfers keep state, and what is refused before anybody is asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_skyplane.compat import AirflowException
from airflow_provider_skyplane.transfers.drop_in import OWN_TEMPLATE_FIELDS
from airflow_provider_skyplane.transfers.gcs_to_gcs import SkyplaneGCSToGCSOperator
from airflow_provider_skyplane.transfers.gcs_to_s3 import SkyplaneGCSToS3Operator
from airflow_provider_skyplane.transfers.s3_copy_object import SkyplaneS3CopyObjectOperator
from skyplane_core.client import ClientConfig, SkyplaneClient
from skyplane_core.errors import UsageError
from skyplane_core.prepare import Prepared
from skyplane_core.spec import MappingKind, TransferSpec

ID = "0123456789abcdef" * 2


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """They lead nowhere: whoever asked a store would fail."""
    aws = {
        "conn_type": "aws",
        "login": "AKIATESTTEST",
        "password": "secret-of-nobody",
        "extra": {"region_name": "r", "endpoint_url": "http://127.0.0.1:9"},
    }
    gcp = {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True, "project": "p"}}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(aws))
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(gcp))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")


def prepared(operator: Any) -> Prepared:
    client = SkyplaneClient(ClientConfig(control_secret=b"x" * 32))
    found: Prepared = operator._request().prepare(client, ID)
    return found


def spec(operator: Any) -> TransferSpec:
    return prepared(operator).spec


def within_gcs(**arguments: Any) -> SkyplaneGCSToGCSOperator:
    return SkyplaneGCSToGCSOperator(task_id="t", **{"source_bucket": "b", "source_object": "a/", **arguments})


@pytest.mark.parametrize(
    ("destination", "place"),
    [(None, ""), ("", ""), ("out", ""), ("out/", "out/"), ("x/y", "x/"), ("x/y/", "x/y/")],
)
def test_state_is_where_a_resumed_task_finds_it_without_asking_a_store(destination: str | None, place: str) -> None:
    found = spec(within_gcs(destination_object=destination))
    assert found.state == f"{place}.skyplane/{ID}/"
    assert found.destinations[0].store.bucket == "b"


def test_how_within_gcs() -> None:
    assert spec(within_gcs()).options.move is False
    options = spec(within_gcs(move_object=True, replace=False)).options
    assert (options.move, options.compare.value, options.record_source) == (True, "name", False)
    assert prepared(within_gcs(match_glob="**.csv")).source.match_glob == "**.csv"
    assert prepared(within_gcs(match_glob="**.csv", source_object="a/*")).source.match_glob == ""


def test_how_from_gcs_to_s3() -> None:
    operator = SkyplaneGCSToS3Operator(
        task_id="t",
        gcs_bucket="b",
        prefix="p/",
        dest_s3_key="s3://d/x",
        gcp_user_project="mine",
        match_glob="*.csv",
        s3_acl_policy="bucket-owner-full-control",
        keep_directory_structure=False,
        dest_s3_extra_args={"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "k"},
    )
    found = prepared(operator)
    assert (found.source.project, found.source.requester_pays, found.source.match_glob) == ("mine", True, "*.csv")
    store = found.destinations[0]
    assert (store.acl, store.encryption, store.kms_key) == ("bucket-owner-full-control", "aws:kms", "k")
    mapping = found.spec.destinations[0].mapping
    assert (mapping.kind, mapping.destination) == (MappingKind.APPEND, "x/p/")
    assert found.spec.options.attributes.content_type == "binary/octet-stream"


def test_how_a_version_is_copied() -> None:
    ends = {"source_bucket_key": "s3://b/k", "dest_bucket_key": "s3://d/e/"}
    found = prepared(SkyplaneS3CopyObjectOperator(task_id="t", source_version_id="v", **ends))
    assert (found.source.object_version, found.destinations[0].object_version) == ("v", "")
    assert found.spec.options.attributes.keep_tags


@pytest.mark.filterwarnings("ignore::airflow.exceptions.AirflowProviderDeprecationWarning")
@pytest.mark.parametrize(
    ("operator", "told"),
    [
        (within_gcs(source_object=None), "None set"),
        (within_gcs(source_object="a*b*"), "Only one wildcard"),
        (within_gcs(match_glob="*", delimiter=".csv"), "cannot be used with 'delimiter'"),
        (SkyplaneGCSToS3Operator(task_id="t", gcs_bucket="b", dest_s3_key="d"), "valid format"),
        (SkyplaneS3CopyObjectOperator(task_id="t", source_bucket_key="k", dest_bucket_key="s3://d/k"), "valid format"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_before_a_store_is_asked(operator: Any, told: str) -> None:
    with pytest.raises(AirflowException, match=told):
        operator.execute({})


@pytest.mark.parametrize("name", OWN_TEMPLATE_FIELDS)
def test_what_a_template_rendered_to_nothing_is_refused(name: str) -> None:
    """Of the arguments that are ours: without a connection, say, a transfer would have no budget and other gateways."""
    operator = within_gcs(**{name: "{{ params.x }}"})
    setattr(operator, name, "")
    with pytest.raises(AirflowException, match=f"{name} is ''"):
        operator.execute({})
    with pytest.raises(UsageError, match=f"{name} is ''"):
        within_gcs(**{name: ""})
