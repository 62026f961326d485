"""The drop-ins with Azure beside the stock operators on Azurite, Microsoft's emulator; public containers; deferral."""

# ruff: noqa: TID253  # this compares with the installed stock operators
from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.providers.amazon.aws.transfers.azure_blob_to_s3 import AzureBlobStorageToS3Operator
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.providers.google.cloud.transfers.azure_blob_to_gcs import AzureBlobStorageToGCSOperator
from airflow.providers.microsoft.azure.transfers.gcs_to_wasb import GCSToAzureBlobStorageOperator
from airflow.providers.microsoft.azure.transfers.s3_to_wasb import S3ToAzureBlobStorageOperator

from airflow_provider_skyplane.transfers.azure_blob_to_gcs import SkyplaneAzureBlobStorageToGCSOperator
from airflow_provider_skyplane.transfers.azure_blob_to_s3 import SkyplaneAzureBlobStorageToS3Operator
from airflow_provider_skyplane.transfers.gcs_to_wasb import SkyplaneGCSToAzureBlobStorageOperator
from airflow_provider_skyplane.transfers.s3_to_wasb import SkyplaneS3ToAzureBlobStorageOperator
from airflow_provider_skyplane.triggers import skyplane as triggers
from tests.servers import azurite
from tests.servers.airflow_azure import Three
from tests.servers.airflow_clouds import SECRET_KEY, clouds
from tests.servers.deferral import TaskInstance, event_of
from tests.servers.differential import Pair, case

TREE = {"in/a": b"a" * 100, "in/b ü.csv": b"b" * 200, "in/sub/c": b"c" * 300, "in/sub/empty": b""}
# Azure's own containers have names as S3's buckets; what is not there yet is made by the operators.
TO_AZURE = [
    (
        Pair(S3ToAzureBlobStorageOperator, SkyplaneS3ToAzureBlobStorageOperator, "s3", "azure"),
        {"s3_bucket": "{src}", "s3_prefix": "in", "s3_verify": True},
    ),
    (
        Pair(GCSToAzureBlobStorageOperator, SkyplaneGCSToAzureBlobStorageOperator, "gcs", "azure"),
        {"gcs_bucket": "{src}", "prefix": "in/"},
    ),
]
FROM_AZURE = [
    (
        Pair(AzureBlobStorageToS3Operator, SkyplaneAzureBlobStorageToS3Operator, "azure", "s3"),
        {"dest_s3_key": "s3://{dst}/out", "delimiter": "c"},
    ),
    (
        Pair(AzureBlobStorageToGCSOperator, SkyplaneAzureBlobStorageToGCSOperator, "azure", "gcs"),
        {
            "blob_name": "in/b ü.csv",
            "bucket_name": "{dst}",
            "object_name": "out/x",
            "filename": "unused",
            "gzip": False,
            "unwrap_single": True,
        },
    ),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    pairs = [pair for pair, _ in (*TO_AZURE, *FROM_AZURE)]
    buckets: dict[str, list[str]] = {"s3": [], "gcs": [], "azure": ["public"]}
    for pair in pairs:
        for who in ("stock", "ours"):
            buckets[pair.source].append(_bucket(pair, who, "src"))
            if pair.destination != "azure":
                buckets[pair.destination].append(_bucket(pair, who, "dst"))
    with (
        azurite.running(tmp_path_factory.mktemp("azurite")) as azure_url,
        clouds([*buckets["s3"], "public-dst"], [*buckets["gcs"], "deferred-dst"]) as s3_and_gcs,
        pytest.MonkeyPatch.context() as patch,
    ):
        found = Three(s3_and_gcs, azure_url, azurite.ACCOUNT, azurite.KEY)
        for name, value in found.environment().items():
            patch.setenv(name, value)
        with found.azure() as service:
            for name in buckets["azure"]:
                service.create_container(name, public_access="container" if name == "public" else None)
        yield found


def _bucket(pair: Pair, who: str, end: str) -> str:
    return f"{who}-{pair.source}-{pair.destination}-{end}"


@pytest.mark.parametrize("ends", [*TO_AZURE, *FROM_AZURE], ids=lambda ends: ends[0].stock.__name__)
def test_ours_does_what_the_stock_operator_does(world: Three, ends: tuple[Pair, dict[str, Any]]) -> None:
    pair, given = ends
    if pair.destination == "azure":
        given = {**given, "container_name": "{dst}", "blob_prefix": "out", "create_container": True, "replace": True}
    else:
        given = {**given, "container_name": "{src}"}
    told, left = [], []
    for who, cls in (("stock", pair.stock), ("ours", pair.ours)):
        source, destination = _bucket(pair, who, "src"), _bucket(pair, who, "dst")
        told.append(pair.run_all(world, cls, case(TREE, given), source, destination))
        left.append(world.objects(pair.destination, destination))
    assert told[0] == told[1]
    assert told[0][0].raised is None
    assert left[0] == left[1]
    assert left[0]


def test_a_public_container_is_read_without_credentials(world: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, _ = FROM_AZURE[0]
    world.put("azure", "public", TREE)
    # Its key is wrong: whoever used it would be refused.
    wasb = {"conn_type": "wasb", "host": f"{world.azure_url}/{world.account}", "password": "d3Jvbmc="}
    monkeypatch.setenv("AIRFLOW_CONN_WASB_DEFAULT", json.dumps(wasb))
    step = {
        "container_name": "public",
        "dest_s3_key": "s3://public-dst/out",
        "wasb_extra_args": {"public_read": True},
        "replace": True,
    }
    for cls in (pair.stock, pair.ours):
        outcome = pair.run(cls, step, "public", "public-dst")
        assert (outcome.returned, outcome.raised) == (sorted(TREE), None)
    assert set(world.objects("s3", "public-dst") or {}) == {f"out/{key}" for key in TREE}


def test_the_same_is_returned_after_a_deferral_by_another_process(
    world: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that resumes a task has a new operator, which does not know the key that the first one found."""
    monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", json.dumps({"conn_type": "skyplane", "password": "s" * 40}))
    # Only a triggerer's own queue needs the pause.
    monkeypatch.setattr(triggers, "RESUME_NOT_BEFORE_SECONDS", 0.0)
    world.put("s3", "ours-s3-azure-src", {"one/key": b"k"})

    def operator() -> SkyplaneS3ToAzureBlobStorageOperator:
        return SkyplaneS3ToAzureBlobStorageOperator(
            task_id="copy",
            s3_bucket="ours-s3-azure-src",
            s3_prefix="one",
            container_name="deferred",
            blob_name="to/blob",
            create_container=True,
            deferrable=True,
            poll_interval=0.1,
            local_gateways_outlive_task=True,
        )

    with pytest.raises(TaskDeferred) as deferred:
        operator().execute({"ti": TaskInstance()})
    event = asyncio.run(event_of(deferred.value.trigger))
    assert operator().execute_complete({"ti": TaskInstance()}, event) == ["key"]
    found = world.objects("azure", "deferred") or {}
    assert {name: body for name, (*_, body) in found.items()} == {"to/blob": b"k"}


def test_no_secret_is_left_anywhere(
    world: Three, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pair, given = FROM_AZURE[1]
    # Airflow's own logger goes where its configuration says.
    monkeypatch.setattr(pair.ours, "log", logging.getLogger("a-task"))
    source, destination = _bucket(pair, "ours", "src"), _bucket(pair, "ours", "dst")
    world.put("azure", source, TREE)
    caplog.set_level("DEBUG")
    for receipt_path in ("kept", None):
        step = {**given, "container_name": "{src}", "receipt_path": receipt_path}
        assert pair.run(pair.ours, step, source, destination).raised is None
    refused = pair.run(pair.ours, {**given, "container_name": "{src}", "blob_name": "none"}, source, destination)
    assert refused.raised is not None
    kept = [body for name, (*_, body) in (world.objects("gcs", destination) or {}).items() if "kept" in name]
    assert kept
    assert "is running on dataplane" in caplog.text
    for text in (caplog.text, refused.raised[1], *map(bytes.decode, kept)):
        assert world.key not in text
        assert SECRET_KEY not in text
