"""What the arguments of the drop-ins with Azure become: stores, options, selections and mappings of the engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_skyplane.compat import AirflowException, AirflowNotFoundException
from airflow_provider_skyplane.engine import Location
from airflow_provider_skyplane.transfers.azure_blob_to_gcs import SkyplaneAzureBlobStorageToGCSOperator
from airflow_provider_skyplane.transfers.azure_blob_to_s3 import SkyplaneAzureBlobStorageToS3Operator
from airflow_provider_skyplane.transfers.gcs_to_wasb import SkyplaneGCSToAzureBlobStorageOperator
from airflow_provider_skyplane.transfers.s3_to_wasb import InvalidKeyComponents, SkyplaneS3ToAzureBlobStorageOperator
from skyplane_core.keys import map_key, selects
from skyplane_core.model import Compression, ObjectInfo
from skyplane_core.selection import Chooser
from skyplane_core.spec import Compare

KEY = "a2V5"


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = {"conn_type": "aws", "login": "AK", "password": "SK", "extra": {"region_name": "us-east-1"}}
    gcp = {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True, "project": "own"}}
    for name, value in (
        ("AWS", aws | {"extra": aws["extra"] | {"endpoint_url": "https://s3.example.org"}}),
        ("GOOGLE_CLOUD", gcp),
        ("WASB", {"conn_type": "wasb", "login": "account1", "password": KEY}),
    ):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}_DEFAULT", json.dumps(value))


def s3_to_wasb(**kwargs: Any) -> SkyplaneS3ToAzureBlobStorageOperator:
    given = {"s3_bucket": "bucket", "container_name": "box", "s3_prefix": "in", "blob_prefix": "out", **kwargs}
    return SkyplaneS3ToAzureBlobStorageOperator(task_id="t", **given)


def gcs_to_wasb(**kwargs: Any) -> SkyplaneGCSToAzureBlobStorageOperator:
    given = {"gcs_bucket": "bucket", "container_name": "box", **kwargs}
    return SkyplaneGCSToAzureBlobStorageOperator(task_id="t", **given)


def azure_to_s3(**kwargs: Any) -> SkyplaneAzureBlobStorageToS3Operator:
    given = {"container_name": "box", "dest_s3_key": "s3://bucket/out", **kwargs}
    return SkyplaneAzureBlobStorageToS3Operator(task_id="t", **given)


def azure_to_gcs(**kwargs: Any) -> SkyplaneAzureBlobStorageToGCSOperator:
    given = {
        "container_name": "box",
        "blob_name": "in/a",
        "bucket_name": "bucket",
        "object_name": "out/b/",
        "filename": "f",
        "gzip": False,
        "unwrap_single": True,
        **kwargs,
    }
    return SkyplaneAzureBlobStorageToGCSOperator(task_id="t", **given)


def ends(operator: Any) -> tuple[Location, Location]:
    request = operator._request()
    return request.source(), request.destination()


@pytest.mark.parametrize(
    ("given", "verify"), [({}, False), ({"s3_verify": True}, True), ({"s3_verify": "/ca.pem"}, "/ca.pem")]
)
def test_certificates_of_s3_are_checked_as_the_stock_operator_does(given: dict[str, Any], verify: Any) -> None:
    assert ends(s3_to_wasb(**given))[0].store.verify == verify


@pytest.mark.parametrize("make", [s3_to_wasb, azure_to_s3])
def test_arguments_for_the_s3_hook(make: Any) -> None:
    operator = make(s3_extra_args={"region_name": "eu-west-1", "requester_pays": True})
    (bucket,) = (end.store for end in ends(operator) if end.store.kind == "s3")
    assert (bucket.region, bucket.requester_pays) == ("eu-west-1", True)


@pytest.mark.parametrize(("given", "warned"), [({"s3_verify": True}, []), ({}, ["s3_verify is False"])])
def test_the_log_says_that_certificates_are_not_checked(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], warned: list[str]
) -> None:
    operator, said = s3_to_wasb(**given), []
    monkeypatch.setattr(operator.log, "warning", lambda text: said.append(text.partition(",")[0]))
    operator._check()
    assert said == warned


def test_how_objects_are_written_to_s3() -> None:
    request = azure_to_s3(
        dest_verify="/ca.pem",
        s3_acl_policy="public-read",
        dest_s3_extra_args={"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "k", "StorageClass": "STANDARD_IA"},
    )._request()
    store = request.destination().store
    assert (store.verify, store.acl, store.encryption, store.kms_key) == ("/ca.pem", "public-read", "aws:kms", "k")
    assert request.options.attributes.storage_class == "STANDARD_IA"
    assert request.options.attributes.content_type == "binary/octet-stream"
    assert azure_to_s3(preserve_metadata=True)._request().options.attributes.content_type == ""


def test_a_public_container_is_read_without_the_connections_credentials() -> None:
    assert ends(azure_to_s3())[0].store.credentials.secret_key == KEY
    assert ends(azure_to_s3(wasb_extra_args={"public_read": True}))[0].store.credentials.anonymous


def test_who_pays_for_gcs() -> None:
    assert not ends(gcs_to_wasb())[0].store.requester_pays
    store = ends(gcs_to_wasb(gcp_user_project="payer", match_glob="**.csv"))[0].store
    assert (store.requester_pays, store.project, store.match_glob) == (True, "payer", "**.csv")


@pytest.mark.parametrize("make", [s3_to_wasb, gcs_to_wasb])
@pytest.mark.parametrize("create_container", [False, True])
def test_the_account_is_the_connections(make: Any, *, create_container: bool) -> None:
    request = make(create_container=create_container, compression="lz4", compare="exact")._request()
    assert request.destination().store.bucket == "account1/box"
    assert (request.create_container is not None) is create_container
    assert (request.options.compression, request.options.compare) == (Compression.LZ4, Compare.EXACT)
    assert request.options.record_source


@pytest.mark.parametrize(
    ("operator", "moved"),
    [
        (s3_to_wasb(), {"in/a": "out/a", "in/s/": "out/s/", "in/s/b": "out/s/b"}),
        (s3_to_wasb(s3_prefix="in/"), {"in/a": "out/a", "in/s/": "out/s/", "in/s/b": "out/s/b"}),
        (s3_to_wasb(blob_prefix="out/"), {"in/a": "out//a", "in/s/": "out//s/", "in/s/b": "out//s/b"}),
        (s3_to_wasb(s3_key="in/a"), {"in/a": "out/a"}),
        (s3_to_wasb(s3_key="in/a", blob_name="x/"), {"in/a": "x/"}),
        (gcs_to_wasb(), {"in/a": "in/a", "in/s/b": "in/s/b"}),
        (gcs_to_wasb(blob_prefix="out", prefix="in/s"), {"in/s/b": "out/in/s/b"}),
        (gcs_to_wasb(blob_prefix="o/", prefix="in", keep_directory_structure=False), {
            "in/a": "o/in/in/a", "in/s/b": "o/in/in/s/b"
        }),
        (gcs_to_wasb(blob_prefix="out", flatten_structure=True), {"in/a": "out/a", "in/s/b": "out/b"}),
        (azure_to_s3(), {"in/": "out/in/", "in/a": "out/in/a", "in/s/": "out/in/s/", "in/s/b": "out/in/s/b"}),
        (azure_to_s3(delimiter="/"), {"in/": "out/in/", "in/s/": "out/in/s/"}),
        (azure_to_s3(prefix="in/s", delimiter="b", dest_s3_key="s3://bucket"), {"in/s/b": "in/s/b"}),
        (azure_to_gcs(), {"in/a": "out/b/"}),
    ],
)  # fmt: skip
def test_what_is_selected_and_where_it_goes(operator: Any, moved: dict[str, str]) -> None:
    request = operator._request()
    chosen = Chooser(request.selection)
    keys = [key for key in ("in/", "in/a", "in/s/", "in/s/b") if chosen(ObjectInfo(key, 1, "v"))]
    assert all(selects(request.selection, key) for key in keys)
    assert {key: map_key(request.mapping, key) for key in keys} == moved


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        (s3_to_wasb(s3_bucket=""), "s3_bucket is empty"),
        (s3_to_wasb(container_name=None), "container_name is empty"),
        (gcs_to_wasb(gcs_bucket=""), "gcs_bucket is empty"),
        (gcs_to_wasb(container_name=""), "container_name is empty"),
        (azure_to_s3(container_name=""), "container_name is empty"),
        (azure_to_gcs(container_name=""), "container_name is empty"),
        (azure_to_gcs(blob_name=""), "blob_name is empty"),
        (azure_to_gcs(bucket_name=""), "bucket_name is empty"),
        (azure_to_gcs(object_name=""), "object_name is empty"),
        (azure_to_gcs(object_name="", gzip=True), "object_name is empty"),
    ],
)
def test_what_rendered_to_nothing_is_named_before_anything_is_asked(operator: Any, said: str) -> None:
    with pytest.raises(AirflowException, match=said):
        operator.execute({})


def test_an_empty_source_is_refused_as_the_stock_operator_does() -> None:
    with pytest.raises(InvalidKeyComponents):
        s3_to_wasb(s3_prefix="").execute({})


@pytest.mark.parametrize(
    "operator", [s3_to_wasb(wasb_conn_id="no"), gcs_to_wasb(wasb_conn_id="no"), azure_to_s3(wasb_conn_id="no")]
)
def test_a_missing_connection_is_airflows_own_error(operator: Any) -> None:
    with pytest.raises(AirflowNotFoundException):
        operator.execute({})
